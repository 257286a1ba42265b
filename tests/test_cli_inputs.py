"""What `explain` takes beside picture files: tensors by --input, a picture from stdin, a converted file once more."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import cam_onnx
from cam_onnx import cli
from cam_onnx.render import image
from models.builders import BUILDERS, inputs

ROOT = Path(__file__).parent.parent
CAT = ROOT / "models" / "pictures" / "chelsea.png"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder with a tiny model and a tensor for it."""
    monkeypatch.chdir(tmp_path)
    onnx.save(BUILDERS["gap_linear"](), "tiny.onnx")
    np.save("x.npy", inputs(BUILDERS["gap_linear"](), batch=1)["image"])
    np.save("three.npy", inputs(BUILDERS["gap_linear"](), batch=3)["image"])
    return tmp_path


def run(capsys, *argv: str) -> tuple[int, str, str]:
    code = cli.main(argv)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def fresh(*argv: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "cam_onnx", *argv], input=stdin, capture_output=True, timeout=120, env=environment
    )


def listing(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


# -- tensors ----------------------------------------------------------------------------------------------------------


def test_a_tensor_gives_heatmap_saliency_and_json_but_no_overlay(capsys):
    code, out, err = run(capsys, "explain", "tiny.onnx", "--input", "image=x.npy", "-o", "out/", "--target", "2")
    assert code == 0, err
    assert "guess" not in err, "nothing is preprocessed"
    assert listing("out") == {"x.heatmap.png", "x.saliency.npy", "x.explanation.json"}
    direct = cam_onnx.Explainer("tiny.onnx").explain(inputs={"image": np.load("x.npy")}, target=2)
    np.testing.assert_array_equal(np.load("out/x.saliency.npy"), direct.saliency[0])
    assert json.loads(Path("out/x.explanation.json").read_text())["target"]["index"] == 2
    assert "x.npy" in out


def test_without_a_folder_the_heatmap_is_the_picture(capsys):
    assert run(capsys, "explain", "tiny.onnx", "--input", "image=x.npy")[0] == 0
    assert image.load("x.cam.png").pixels.shape == (16, 16, 3)
    assert run(capsys, "explain", "--input", "image=x.npy", "tiny.onnx", "-o", "h.png")[0] == 0
    assert Path("h.png").read_bytes() == Path("x.cam.png").read_bytes()


def test_a_batch_is_numbered(capsys):
    code, out, err = run(capsys, "explain", "tiny.onnx", "--input", "image=three.npy", "-o", "out/", "--json")
    assert code == 0, err
    assert {name.split(".")[1] for name in listing("out")} == {"0", "1", "2"}
    assert [entry["name"] for entry in json.loads(out)] == ["three.0", "three.1", "three.2"]


def test_a_signal_is_a_curve_and_has_no_heatmap(capsys):
    onnx.save(BUILDERS["signal_1d"](), "signal.onnx")
    np.save("s.npy", inputs(BUILDERS["signal_1d"](), batch=1, size=32)["signal"])
    assert run(capsys, "explain", "signal.onnx", "--input", "signal=s.npy", "-o", "out/")[0] == 0
    assert listing("out") == {"s.saliency.npy", "s.overlay.png", "s.explanation.json"}
    assert run(capsys, "explain", "signal.onnx", "--input", "signal=s.npy")[0] == 0
    assert Path("s.cam.png").read_bytes() == Path("out/s.overlay.png").read_bytes()


def test_tokens_of_a_picture_of_any_size_have_a_heatmap(capsys):
    model = BUILDERS["vit_any_size"]()
    onnx.save(model, "vit.onnx")
    x = np.random.default_rng(0).standard_normal((1, 3, 12, 28)).astype(np.float32)
    np.save("wide.npy", x)
    for layer in ("features", "x0"):  # the default, and a named one
        line = ["explain", "vit.onnx", "--input", "image=wide.npy", "-o", f"{layer}/", "--target", "1"]
        assert run(capsys, *line, *(["--layer", layer] if layer == "x0" else []))[0] == 0
        assert image.load(f"{layer}/wide.heatmap.png").pixels.shape == (12, 28, 3)
        direct = cam_onnx.Explainer("vit.onnx", layers=layer).explain(inputs={"image": x}, target=1)
        assert direct.saliency.shape == (1, 3, 7)
        np.testing.assert_array_equal(np.load(f"{layer}/wide.saliency.npy"), direct.saliency[0])


def test_several_inputs_are_fed_by_name(capsys):
    model = BUILDERS["gap_linear"]()
    model.graph.input.append(onnx.helper.make_tensor_value_info("gain", onnx.TensorProto.FLOAT, ["N", 1, 1, 1]))
    nodes = [onnx.helper.make_node("Mul", ["image", "gain"], ["scaled"]), *model.graph.node]
    nodes[1].input[0] = "scaled"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, "two.onnx")
    np.save("gain.npy", np.full((1, 1, 1, 1), 2, np.float32))
    line = ["explain", "two.onnx", "--input", "image=x.npy", "--input", "gain=gain.npy", "-o", "out/"]
    code, _, err = run(capsys, *line)
    assert code == 0, err
    direct = cam_onnx.Explainer("tiny.onnx").explain(inputs={"image": 2 * np.load("x.npy")})
    np.testing.assert_allclose(np.load("out/x.saliency.npy"), direct.saliency[0], rtol=1e-4, atol=1e-6)


BAD = [
    ("explain tiny.onnx", "nothing to explain: give a picture, or"),
    ("explain tiny.onnx --input x.npy", "--input x.npy: expected NAME=FILE.npy"),
    ("explain tiny.onnx --input image=", "expected NAME=FILE.npy"),
    ("explain tiny.onnx --input imag=x.npy", "has no input 'imag'; did you mean 'image'"),
    ("explain tiny.onnx --input image=x.npy --input image=x.npy", "'image' is given twice"),
    ("explain tiny.onnx p.png --input image=x.npy", "either images or inputs= \\(--input\\) for 'image'"),
    ("explain tiny.onnx --input image=none.npy", "tensor none.npy: no such file"),
    ("explain tiny.onnx --input image=tiny.onnx", "tensor tiny.onnx: no .npy file"),
    ("explain tiny.onnx --input image=three.npy", "several targets or samples: give -o a folder"),
    ("explain tiny.onnx --input image=three.npy -o o.png", "one file for several overlays"),
    ("explain tiny.onnx - - -o out/", "would both be written to out/stdin"),
    ("convert done.onnx", "converted already: .* --reconvert"),
    ("convert --reconvert done.onnx -o done.onnx", "is the model itself"),
    ("explain done.onnx --input image=x.npy --layer b", "convert --reconvert"),
]


@pytest.mark.parametrize(("line", "words"), BAD, ids=[line for line, _ in BAD])
def test_what_does_not_fit_is_one_line(here, capsys, line, words):
    cam_onnx.convert("tiny.onnx").save("done.onnx")
    before = listing(".")
    code, out, err = run(capsys, *line.split(), "--quiet")
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(words, err), err
    assert listing(".") - {"out"} == before


# -- stdin ------------------------------------------------------------------------------------------------------------


def test_a_picture_from_stdin_is_the_picture(capsys):
    done = fresh("explain", "tiny.onnx", "-", stdin=CAT.read_bytes())
    assert done.returncode == 0, done.stderr.decode()
    assert run(capsys, "explain", "tiny.onnx", str(CAT))[0] == 0
    assert Path("stdin.cam.png").read_bytes() == Path("chelsea.cam.png").read_bytes()
    done = fresh("explain", "tiny.onnx", "-", "-o", "out/", stdin=CAT.read_bytes())
    assert done.returncode == 0, done.stderr.decode()
    assert listing("out") == {f"stdin.{kind}" for kind in (
        "overlay.png", "heatmap.png", "saliency.npy", "explanation.json")}  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"no picture", CAT.read_bytes()[:2000]], ids=["nothing", "text", "cut"])
def test_bad_stdin_is_one_line(content):
    done = fresh("explain", "tiny.onnx", "-", "--quiet", stdin=content)
    assert done.returncode == 2
    assert done.stderr.startswith(b"cam-onnx: standard input")
    assert done.stderr.count(b"\n") == 1
    assert not Path("stdin.cam.png").exists()


# -- converted files once more ----------------------------------------------------------------------------------------


def test_reconvert_writes_what_convert_writes(capsys):
    assert run(capsys, "convert", "tiny.onnx", "--preprocess", "unit")[0] == 0
    assert run(capsys, "convert", "--reconvert", "tiny.cam.onnx", "-o", "b.onnx", "--layer", "b")[0] == 0
    assert run(capsys, "convert", "tiny.onnx", "-o", "direct.onnx", "--layer", "b", "--preprocess", "unit")[0] == 0
    assert Path("b.onnx").read_bytes() == Path("direct.onnx").read_bytes()


def test_options_may_stand_before_the_first_picture(capsys):
    assert run(capsys, "explain", "tiny.onnx", "-o", "a.png", str(CAT))[0] == 0
    assert run(capsys, "explain", "-o", "b.png", "tiny.onnx", str(CAT), "--target", "-1")[0] == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
