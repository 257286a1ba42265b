"""The command line: what is written where, what is said, and the exit code. In-process where that tells the same."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from cam_onnx import arguments, cli, commands
from cam_onnx.errors import InputError, WriteFailed
from cam_onnx.methods import METHODS
from cam_onnx.places import plan
from cam_onnx.render import image
from models.builders import BUILDERS

ROOT = Path(__file__).parent.parent
CAT, COFFEE = (str(ROOT / "models" / "pictures" / name) for name in ("chelsea.png", "coffee.png"))
DEMO = str(ROOT / "models" / "efficientnet-lite0.onnx")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder with a tiny model in it."""
    monkeypatch.chdir(tmp_path)
    onnx.save(BUILDERS["gap_linear"](), "tiny.onnx")
    return tmp_path


def run(capsys, *argv: str) -> tuple[int, str, str]:
    code = cli.main(argv)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def fresh(*argv: str, **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "cam_onnx", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, **options)


def listing(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# -- where results go -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "pictures", "expected"),
    [
        (None, ["a/cat.jpg"], [("cat.cam.png", None)]),
        (None, ["a/cat.jpg", "dog.jpg"], [("cat.cam.png", None), ("dog.cam.png", None)]),
        ("o.png", ["cat.jpg"], [("o.png", None)]),
        ("o.JPG", ["cat.jpg"], [("o.JPG", None)]),
        ("new/", ["cat.jpg"], [(None, "new")]),
        ("there", ["cat.jpg", "dog.jpg"], [(None, "there"), (None, "there")]),
    ],
    ids=str,
)
def test_results_go_where_the_option_says(here, out, pictures, expected):
    (here / "there").mkdir()
    places = plan(pictures, out)
    assert [(p.file and str(p.file), p.folder and str(p.folder)) for p in places] == expected
    assert out != "new/" or (here / "new").is_dir()


@pytest.mark.parametrize(
    ("out", "pictures", "error", "words"),
    [
        ("o.png", ["a.jpg", "b.jpg"], InputError, "give a folder, o.png/"),
        ("o", ["a.jpg"], InputError, "for a folder write o/"),
        ("o.gif", ["a.jpg"], InputError, "no picture's suffix"),
        ("a.jpg", ["a.jpg"], InputError, "is a picture to be explained"),
        ("./there/../a.jpg", ["a.jpg"], InputError, "is a picture to be explained"),
        (None, ["a/cat.jpg", "b/cat.png"], InputError, "would both be written to cat.cam.png"),
        ("new/", ["a/cat.jpg", "b/cat.png"], InputError, "would both be written to new/cat"),
        ("none/o.png", ["a.jpg"], WriteFailed, "create the folder first"),
        ("none/new/", ["a.jpg"], WriteFailed, "create the folder first"),
        ("tiny.onnx/", ["a.jpg"], WriteFailed, "tiny.onnx"),
    ],
    ids=str,
)
def test_a_result_without_a_place_is_refused_before_anything_runs(here, out, pictures, error, words):
    (here / "there").mkdir()
    before = listing(here)
    with pytest.raises(error, match=words):
        plan(pictures, out)
    assert listing(here) - {"new"} == before


# -- explain ----------------------------------------------------------------------------------------------------------


def test_explain_writes_one_overlay_at_the_size_of_the_picture(here, capsys):
    code, out, err = run(capsys, "explain", "tiny.onnx", CAT)
    assert code == 0, err
    assert listing(here) == {"tiny.onnx", "chelsea.cam.png"}
    assert image.load(here / "chelsea.cam.png").pixels.shape == (300, 451, 3)
    assert "runs on CPUExecutionProvider" in out
    assert "features" in out
    assert "preprocess" in err, "the guess is said"


def test_explain_writes_four_files_a_picture_into_a_folder(here, capsys):
    code, out, err = run(capsys, "explain", "tiny.onnx", CAT, COFFEE, "-o", "out/")
    assert code == 0, err
    written = listing(here / "out")
    assert len(written) == 8
    for stem in ("chelsea", "coffee"):
        assert len({name for name in written if name.startswith(stem) and name.endswith(".png")}) == 2
        [raw] = (here / "out").glob(f"{stem}*.npy")
        assert np.load(raw, allow_pickle=False).ndim in (2, 3)
        [text] = (here / "out").glob(f"{stem}*.json")
        assert json.loads(text.read_text())["layers"] == ["features"]
    assert out.count("explained: ") == 2


def test_explain_prints_json_for_machines(capsys):
    code, out, _ = run(capsys, "explain", "tiny.onnx", CAT, COFFEE, "-o", "out/", "--json", "--target", "3")
    assert code == 0
    found = json.loads(out)
    assert [e["picture"] for e in found] == [CAT, COFFEE]
    for e in found:
        assert e["provider"] == "CPUExecutionProvider"
        assert e["target"]["index"] == 3
        assert len(e["top"]) == 5
        assert sum(entry["probability"] for entry in e["top"]) == pytest.approx(1)
        assert len(e["files"]) == 4
        assert all(Path(path).is_file() for path in e["files"])
        assert e["seconds"]["run"] > 0


def test_several_targets_of_one_picture(here, capsys):
    (here / "labels.txt").write_text("ant\nbee\ncow\ndog\nelk\n")
    code, out, err = run(
        capsys, "explain", "tiny.onnx", CAT, "-o", "out/", "--labels", "labels.txt",
        "--target", "bee", "--target", "4", "--target=-1",
    )  # fmt: skip
    assert code == 0, err
    assert "explained: bee (1)" in out
    assert "explained: elk (4)" in out
    assert out.count("explained: ") == 3


def test_a_single_output_has_a_value_and_no_probability(capsys):
    onnx.save(BUILDERS["regression"](), "age.onnx")
    code, out, err = run(capsys, "explain", "age.onnx", CAT)
    assert code == 0, err
    assert "probability" not in out
    assert "explained: the model's output, score" in out
    assert "class" not in out
    code, out, err = run(capsys, "explain", "age.onnx", CAT, "--target", "lower")
    assert code == 0, err
    assert "explained: the model's value, what lowers it, score" in out
    onnx.save(BUILDERS["gap_linear"](), "five.onnx")
    for word, said in {"no-unit:3": "not unit 3", "logits[:,1]": "logits[:,1]", "probability:2": "class 2"}.items():
        code, out, err = run(capsys, "explain", "five.onnx", CAT, "--target", word)
        assert code == 0, err
        assert f"explained: {said}, score" in out


def test_preprocessing_options_change_single_fields(here, capsys):
    (here / "pre.json").write_text('{"size": [16, 16], "mean": [10], "scale": 2}')
    given = ["explain", "m", "p", "--preprocess", "pre.json", "--mean", "1,2,3", "--size", "32"]
    preprocess = arguments.preprocess(cli.parser().parse_args(given))
    assert preprocess is not None
    assert (preprocess.size, preprocess.mean, preprocess.scale) == ((32, 32), (1, 2, 3), 2)
    assert arguments.preprocess(cli.parser().parse_args(["explain", "m", "p"])) is None


def test_a_converted_file_explains_as_the_plain_one(here, capsys):
    options = ["--preprocess", "pre.json", "--labels", "labels.txt"]
    (here / "pre.json").write_text('{"size": [16, 16], "mean": [127], "std": [128]}')
    (here / "labels.txt").write_text("ant\nbee\ncow\ndog\nelk\n")
    assert run(capsys, "convert", "tiny.onnx", "-o", "t.onnx", *options)[0] == 0
    assert run(capsys, "explain", "tiny.onnx", CAT, "-o", "a.png", *options)[0] == 0
    code, out, err = run(capsys, "explain", "t.onnx", CAT, "-o", "b.png")
    assert code == 0, err
    assert (here / "a.png").read_bytes() == (here / "b.png").read_bytes()
    assert any(name in out for name in ("ant", "bee", "cow", "dog", "elk"))


def test_a_nan_map_has_its_reason_and_exits_1_a_zero_map_0(here, capsys):
    for value, name in ((np.nan, "nan.onnx"), (0.0, "zero.onnx")):
        model = BUILDERS["gap_linear"]()
        [weight] = [t for t in model.graph.initializer if t.name == "w3"]
        weight.CopyFrom(onnx.numpy_helper.from_array(np.full((5, 8), value, np.float32), "w3"))
        onnx.save(model, name)
    code, out, err = run(capsys, "explain", "nan.onnx", CAT, "--json")
    assert code == 1
    assert "warning: " in err
    assert "NaN" in json.loads(out)[0]["blank"]
    code, _, err = run(capsys, "explain", "zero.onnx", CAT)
    assert code == 0
    assert "warning: " in err


# -- convert, inspect, methods, demo ----------------------------------------------------------------------------------


def test_convert_names_the_file_after_the_model(here, capsys):
    code, out, err = run(capsys, "convert", "tiny.onnx")
    assert code == 0
    assert out.startswith("tiny.cam.onnx: layer features, score logits")
    assert "--target-input required" in err
    assert listing(here) == {"tiny.onnx", "tiny.cam.onnx"}
    assert "--target-input" not in run(capsys, "convert", "tiny.onnx", "--target-input", "required")[2]
    model = onnx.load("tiny.cam.onnx")
    assert "cam_target" not in {tensor.name for tensor in model.graph.initializer}


def test_convert_never_writes_over_its_input(here, capsys):
    before = (here / "tiny.onnx").read_bytes()
    (here / "link.onnx").symlink_to("tiny.onnx")
    for out in ("tiny.onnx", "./tiny.onnx", "link.onnx"):
        code, _, err = run(capsys, "convert", "tiny.onnx", "-o", out)
        assert code == 2
        assert "is the model itself" in err
    assert (here / "tiny.onnx").read_bytes() == before


def test_inspect_says_what_can_be_explained(capsys):
    code, out, err = run(capsys, "inspect", "tiny.onnx")
    assert code == 0, err
    for words in ("opset 18", "image", "logits", "features"):
        assert words in out
    assert "layer: features, index 3, 8 x 8, stride 2: the last value with spatial axes" in out.splitlines()
    [row] = [line.split() for line in out.splitlines() if line.split()[:2] == ["3", "features"]]
    assert row[2:] == ["Relu", "N", "x", "8", "x", "8", "x", "8", "8", "x", "8", "2", "default,", "stage"]
    code, out, _ = run(capsys, "inspect", "tiny.onnx", "--json")
    report = json.loads(out)
    assert (report["opset"], report["layer"], report["score"]) == (18, "features", "logits")


def test_inspect_says_what_is_missing(here, capsys):
    model = BUILDERS["gap_linear"]()
    model.graph.node[1].op_type, model.graph.node[1].domain = "Swish", "com.acme"
    model.opset_import.add(domain="com.acme", version=1)
    onnx.save(model, "custom.onnx")
    code, out, err = run(capsys, "inspect", "custom.onnx")
    assert code == 0, err
    assert "no gradient rule for com.acme::Swish: 1 node, first 'Relu_1'" in out


def test_methods_lists_the_registry(capsys):
    code, out, _ = run(capsys, "methods")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == list(METHODS)
    assert [entry["name"] for entry in json.loads(run(capsys, "methods", "--json")[1])] == list(METHODS)


def test_demo_explains_the_bundled_pictures(here, capsys):
    code, out, err = run(capsys, "demo", "-o", "d")
    assert code == 0, err
    assert err == ""
    assert len(listing(here / "d")) == 8
    assert "explained: Egyptian cat (285)" in out
    assert "explained: espresso (967)" in out
    assert "runs on CPUExecutionProvider" in out
    assert out.count("run ") == 2


# -- errors: one line, the exit code, nothing written -----------------------------------------------------------------

ERRORS = [
    ("explain missing.onnx CAT", 2, "missing.onnx"),
    ("explain . CAT", 2, "folder"),
    ("explain text.onnx CAT", 2, "text.onnx"),
    ("explain cut.onnx CAT", 2, "cut.onnx"),
    ("explain tiny.onnx missing.png", 2, "missing.png"),
    ("explain tiny.onnx tiny.onnx", 2, "tiny.onnx"),
    ("explain tiny.onnx CAT --layer featurs", 2, "did you mean 'features'"),
    ("explain tiny.onnx CAT --layer logits", 2, "logits"),
    ("explain tiny.onnx CAT --score nothing", 2, "nothing"),
    ("explain tiny.onnx CAT --method grad-can", 2, "did you mean 'grad-cam'"),
    ("explain tiny.onnx CAT --colormap jett", 2, "did you mean 'jet'"),
    ("explain tiny.onnx CAT --alpha 2", 2, "alpha"),
    ("explain tiny.onnx CAT --target 5", 2, "5"),
    ("explain tiny.onnx CAT --target=-2", 2, "-2"),
    ("explain tiny.onnx CAT --target cat", 2, "labels"),
    ("explain tiny.onnx CAT --labels missing.txt", 2, "missing.txt"),
    ("explain tiny.onnx CAT --preprocess tiny.onnx", 2, "tiny.onnx"),
    ("explain tiny.onnx CAT --mean 1,2", 2, "mean has 2 entries"),
    ("explain tiny.onnx CAT --std 0", 2, "std"),
    ("explain tiny.onnx CAT --size 8,8", 2, "16"),
    ("explain tiny.onnx CAT --backend tensorflow", 2, "backend"),
    ("explain tiny.onnx CAT --providers nonsense", 1, "nonsense"),
    ("explain tiny.onnx CAT --providers cuda", 1, "CUDA"),
    ("explain tiny.onnx CAT --provider-option cpu.a=1", 2, "expected P.KEY=VALUE, P named by --providers"),
    ("explain tiny.onnx CAT --providers cpu --provider-option cuda.a=1", 2, "P one of cpu"),
    ("explain tiny.onnx CAT --providers cpu --provider-option cpu.a", 2, "expected P.KEY=VALUE"),
    ("explain tiny.onnx CAT -o none/a.png", 1, "create the folder first"),
    ("explain tiny.onnx", 2, "nothing to explain: give a picture"),
    ("explain tiny.onnx CAT --traget 1", 2, "did you mean '--target'"),
    ("explain tiny.onnx CAT --size big", 2, "invalid size value"),
    ("explian tiny.onnx CAT", 2, "explain"),
    ("convert tiny.onnx -o none/t.onnx", 1, "create the folder first"),
    ("convert tiny.onnx --target-input perhaps", 2, "perhaps"),
    ("convert done.onnx", 2, "converted already"),
    ("inspect text.onnx", 2, "text.onnx"),
    ("", 2, "COMMAND"),
]


def test_options_of_providers_are_passed_on():
    line = "explain m.onnx a.jpg --providers openvino,cpu --provider-option openvino.device_type=GPU"
    options = cli.parser().parse_args([*line.split(), "--provider-option", "openvino.cache_dir=a=b.c"])
    assert arguments.providers(options) == [("openvino", {"device_type": "GPU", "cache_dir": "a=b.c"}), "cpu"]
    assert arguments.providers(cli.parser().parse_args(["explain", "m.onnx", "a.jpg"])) is None
    assert arguments.providers(cli.parser().parse_args(["doctor", "--providers", "cpu"])) == ["cpu"]


@pytest.mark.parametrize(("line", "code", "words"), ERRORS, ids=[row[0] or "nothing" for row in ERRORS])
def test_an_error_is_one_line_and_an_exit_code(here, capsys, line, code, words):
    (here / "text.onnx").write_text("this is not a model")
    (here / "cut.onnx").write_bytes((here / "tiny.onnx").read_bytes()[:3000])
    if "done.onnx" in line:
        assert run(capsys, "convert", "tiny.onnx", "-o", "done.onnx")[0] == 0
    before = listing(here)
    found, out, err = run(capsys, *[CAT if word == "CAT" else word for word in line.split()])
    message = [text for text in err.splitlines() if not text.startswith("note: ")]
    assert (found, len(message)) == (code, 1), err
    assert words in message[0]
    assert message[0].startswith("cam-onnx")
    assert "Traceback" not in err
    assert "please report" not in err
    assert out == ""
    assert listing(here) == before


def test_traceback_shows_the_rest(capsys):
    code, _, err = run(capsys, "inspect", "missing.onnx", "--traceback")
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("cam-onnx: ")


def test_a_defect_of_ours_is_one_line_too(monkeypatch, capsys):
    def broken(options):
        raise RuntimeError("first\nsecond\x1b[31m")

    monkeypatch.setattr(commands, "methods", broken)
    code, _, err = run(capsys, "methods")
    assert code == 1
    assert err == "cam-onnx: unexpected RuntimeError: first; please report it with what --traceback shows\n"


def test_names_cannot_control_the_terminal(here, capsys):
    code, _, err = run(capsys, "explain", "tiny.onnx", "evil\x1b[31m\n.png")
    assert code == 2
    assert "\x1b" not in err
    assert len([text for text in err.splitlines() if not text.startswith("note: ")]) == 1


# -- fresh processes --------------------------------------------------------------------------------------------------

LOADED = """
import sys
from cam_onnx.cli import main
code = main({argv!r})
heavy = "cv2 numpy onnx onnx_ir onnxruntime rich".split()
print("LOADED", *[name for name in heavy if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""


def loads(*argv: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(argv=argv)],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("argv", [("--help",), ("explain", "--help"), ("demo", "--help"), ("--version",)], ids=str)
def test_help_loads_nothing(argv):
    assert loads(*argv) == set()


def test_methods_loads_numpy_alone():
    assert loads("methods") == {"numpy"}


def test_inspect_and_convert_load_no_runtime():
    assert loads("inspect", "tiny.onnx") & {"onnxruntime", "cv2", "rich"} == set()
    assert loads("convert", "tiny.onnx") & {"onnxruntime", "cv2", "rich"} == set()


def test_a_converted_file_is_explained_without_onnx(capsys):
    assert run(capsys, "convert", "tiny.onnx", "-o", "t.onnx")[0] == 0
    assert loads("explain", "t.onnx", CAT) == {"cv2", "numpy", "onnxruntime"}


def test_a_first_user_sees_no_message_of_the_runtime(here):
    done = fresh("explain", DEMO, CAT, "-o", "cat.png", "--preprocess", DEMO.replace(".onnx", ".json"))
    assert done.returncode == 0, done.stderr
    slow = re.compile(r", \S+ s$")  # how far it is, every ten seconds, on a machine that is busy
    [note] = [line for line in done.stderr.splitlines() if not slow.search(line)]
    assert note.startswith("note: labels are a guess: ImageNet's names, since there are 1,000 classes")
    assert "CPUExecutionProvider" in done.stdout
    assert fresh("--version").stdout.startswith("cam-onnx 0.")


def test_a_missing_runtime_is_one_line_that_names_both(here):
    code = "import sys; sys.modules['onnxruntime'] = None\nfrom cam_onnx.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "explain", "tiny.onnx", CAT],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert "cam-onnx[gpu]" in message
    assert "cam-onnx[cpu]" in message
    assert not (here / "chelsea.cam.png").exists()


def test_the_reference_backend_needs_no_runtime(here, capsys):
    code = "import sys; sys.modules['onnxruntime'] = None\nfrom cam_onnx.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "explain", "tiny.onnx", CAT, "--backend", "reference"],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (here / "chelsea.cam.png").exists()


WAITING = """
import signal, sys, time
from cam_onnx import arguments, cli, commands
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
def methods(options):
    print("ready", flush=True)
    time.sleep(60)
commands.methods = methods
sys.exit(cli.main(["methods"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupted_command_says_so(number, code, word):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, f"cam-onnx: {word}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_closed_pipe_is_quiet():
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with os.fdopen(write, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "cam_onnx", "methods", "--json"],
            stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60, env=environment,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")
