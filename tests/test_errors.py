"""Every refusal: its class, its words, and that nothing is left half-written. One row a message."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import cam_onnx
from cam_onnx import errors
from cam_onnx.contract import KEY
from cam_onnx.errors import did_you_mean, shown
from models.builders import BUILDERS, inputs
from tests.running import CAT, ROOT

X = inputs(BUILDERS["gap_linear"](), 2)["image"]


@dataclass(frozen=True)
class Row:
    """A call in a folder with `model.onnx` (gap_linear), `cat.png`, and what `make` adds."""

    call: Callable[[], Any]
    error: type[Exception]
    words: str
    make: Callable[[], Any] = lambda: None


def explainer(**options):
    return cam_onnx.Explainer("model.onnx", **options)


def explain(images=None, method="grad-cam", labels=None, **options):
    return explainer(method=method, labels=labels).explain(images, **options)


def write(name, content):
    with open(name, "wb") as stream:
        stream.write(content)


def altered(name, change):
    """Write a changed copy of the model."""
    model = BUILDERS["gap_linear"]()
    change(model)
    write(name, model.SerializeToString())


def text(nodes, signature="(float[N,3,8,8] x) => (float[N,3] y)"):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18, "acme": 1]>\ng {signature} {{{nodes}}}')
    write("other.onnx", model.SerializeToString())


def other(**options):
    return cam_onnx.convert("other.onnx", **options)


def converted(change=lambda model: None):
    model = cam_onnx.convert("model.onnx").model
    change(model)
    write("other.onnx", model.SerializeToString())


def said(value):
    """A change of the contract's text."""

    def change(model):
        [entry] = [e for e in model.metadata_props if e.key == KEY]
        entry.value = value(entry.value)

    return change


E = cam_onnx
ROWS = {
    # the model's file
    "missing": Row(
        lambda: cam_onnx.convert("nosuch.onnx"), E.InputError, "model nosuch.onnx: no such file or directory"
    ),
    "missing, explain": Row(lambda: cam_onnx.Explainer("nosuch.onnx"), E.InputError, "model nosuch.onnx: no such file"),
    "a folder": Row(lambda: cam_onnx.convert("."), E.InputError, "it is a folder, expected a file"),
    "not ONNX": Row(lambda: other(), E.InvalidModel, "other.onnx", lambda: write("other.onnx", b"hello world")),
    "not ONNX, explain": Row(
        lambda: cam_onnx.Explainer("other.onnx"),
        E.InvalidModel,
        "other.onnx",
        lambda: write("other.onnx", b"hello world"),
    ),
    "a picture": Row(lambda: cam_onnx.Explainer("cat.png"), E.InvalidModel, "cat.png"),
    "empty": Row(lambda: other(), E.InvalidModel, "other.onnx", lambda: write("other.onnx", b"")),
    "truncated": Row(
        lambda: other(),
        E.InvalidModel,
        "other.onnx",
        lambda: write("other.onnx", BUILDERS["gap_linear"]().SerializeToString()[:-40]),
    ),
    "truncated, explain": Row(
        lambda: cam_onnx.Explainer("other.onnx"),
        E.InvalidModel,
        "other.onnx",
        lambda: write("other.onnx", BUILDERS["gap_linear"]().SerializeToString()[:-40]),
    ),
    "no model at all": Row(
        lambda: cam_onnx.Explainer(42), E.InputError, "an onnx_ir.Model or a session of ONNX Runtime, got int"
    ),
    "no model at all, convert": Row(
        lambda: cam_onnx.convert(42),  # type: ignore[arg-type]
        E.InputError,
        "expected a path, bytes or an onnx.ModelProto",
    ),
    "nodes not sorted": Row(
        lambda: other(),
        E.InvalidModel,
        "reads 'a', which nothing before it gives",
        lambda: altered("other.onnx", lambda m: m.graph.node.insert(0, m.graph.node.pop(1))),
    ),
    "a value given twice": Row(
        lambda: other(),
        E.InvalidModel,
        "value 'a' is given twice",
        lambda: altered("other.onnx", lambda m: m.graph.node.insert(1, m.graph.node[0])),
    ),
    "opset of tomorrow": Row(
        lambda: other(),
        E.UnsupportedOpset,
        "opset 999, the installed onnx knows up to",
        lambda: altered("other.onnx", lambda m: setattr(m.opset_import[0], "version", 999)),
    ),
    "opset 6": Row(
        lambda: other(),
        E.UnsupportedOpset,
        "opset 6 is below 7",
        lambda: altered("other.onnx", lambda m: setattr(m.opset_import[0], "version", 6)),
    ),
    "IR version of tomorrow": Row(
        lambda: other(),
        E.InvalidModel,
        "IR version 99",
        lambda: altered("other.onnx", lambda m: setattr(m, "ir_version", 99)),
    ),
    # layers and scores
    "unknown layer": Row(lambda: explainer(layers="featurs"), E.LayerNotFound, "'featurs'; did you mean 'features'?"),
    "a layer behind the score": Row(
        lambda: other(layers="z", score="y"),
        E.Disconnected,
        "score 'y' does not depend on layer 'z': no path leads",
        lambda: (
            text("y = Conv(x, k) z = Relu(y) k = Constant<value_float=1.0>()")
            or text("f = GlobalAveragePool(x) y = Flatten(f) z = Relu(x)")
        ),
    ),
    "a layer that is not spatial": Row(lambda: explainer(layers="flat"), E.LayerNotFound, "has no spatial extent"),
    "no layers": Row(lambda: explainer(layers=[]), E.InputError, "an empty list"),
    "score not found": Row(
        lambda: explainer(score="logit"), E.ScoreNotFound, "'logit' to take as the score; did you mean"
    ),
    "no score": Row(
        lambda: other(),
        E.ScoreNotFound,
        "what it does has to be said (target=, --target). It could be: image to image, depth or segmentation",
        lambda: text("y = Relu(x)", "(float[N,3,8,8] x) => (float[N,3,8,8] y)"),
    ),
    "integer score": Row(
        lambda: other(score="i"),
        E.ScoreNotFound,
        "score 'i' is INT64: it has no derivative",
        lambda: text("f = GlobalAveragePool(x) y = Flatten(f) i = ArgMax<axis=1>(y)"),
    ),
    "operators without a rule": Row(
        lambda: other(layers="x"),
        E.UnsupportedOperators,
        "acme::Odd",
        lambda: text("o = acme.Odd(x) f = GlobalAveragePool(o) y = Flatten(f)"),
    ),
    # what is fed
    "unknown input": Row(
        lambda: explain(inputs={"imagee": X}), E.InputError, "no input 'imagee'; did you mean 'image'?"
    ),
    "no input": Row(lambda: explain(inputs={}), E.InputError, "'image'"),
    "wrong shape": Row(lambda: explain(inputs={"image": X[:, :2]}), E.InputError, "dimension 1 is 2, expected 3"),
    "wrong rank": Row(
        lambda: explain(inputs={"image": X[0]}), E.InputError, "expected rank 4 [N, 3, 16, 16], got rank 3"
    ),
    "wrong dtype": Row(
        lambda: explain(inputs={"image": X.astype(float)}), E.InputError, "expected float32, got float64"
    ),
    "no samples": Row(lambda: explain(inputs={"image": X[:0]}), E.InputError, "at least 1"),
    "NaN": Row(lambda: explain(inputs={"image": X * np.nan}), E.InputError, "nan at index (0, 0, 0, 0)"),
    "nothing": Row(lambda: explain(), E.InputError, "give either images or inputs="),
    "both": Row(lambda: explain("cat.png", inputs={"image": X}), E.InputError, "give either images or inputs="),
    "no pictures": Row(lambda: explain([]), E.InputError, "no pictures"),
    "the target as an input": Row(
        lambda: explain(inputs={"image": X, "cam_target": np.array([1])}), E.InputError, "target="
    ),
    # targets
    "target out of range": Row(lambda: explain("cat.png", target=5), E.InputError, "target 5 is out of range"),
    "target -2": Row(lambda: explain("cat.png", target=-2), E.InputError, "target -2 is out of range"),
    "target 1.5": Row(lambda: explain("cat.png", target=1.5), E.InputError, "target 1.5: expected a class index"),
    "nested target out of range": Row(lambda: explain("cat.png", target=[[0, 5]]), E.InputError, "target 5 is out of"),
    "three targets for two": Row(
        lambda: explain(inputs={"image": X}, target=[0, 1, 2]), E.InputError, "3 entries for 2"
    ),
    "unknown class": Row(
        lambda: explain("cat.png", labels=list("abcd") + ["tabby"], target="tabbi"),
        E.UnknownName,
        "did you mean 'tabby'?",
    ),
    "a class name without labels": Row(lambda: explain("cat.png", target="tabby"), E.InputError, "give labels"),
    # pictures
    "missing picture": Row(lambda: explain("dog.png"), E.InputError, "dog.png: no such file"),
    "not a picture": Row(lambda: explain("model.onnx"), E.InputError, "model.onnx"),
    "half a picture": Row(
        lambda: explain("half.png"), E.InputError, "half.png", lambda: write("half.png", CAT.read_bytes()[:20_000])
    ),
    "an array that is no picture": Row(lambda: explain(np.zeros((3, 3), complex)), E.InputError, "complex"),
    # names
    "unknown method": Row(lambda: explainer(method="gradcan"), E.UnknownName, "did you mean 'grad-cam'?"),
    "unknown method, convert": Row(
        lambda: cam_onnx.convert("model.onnx", method="x"), E.UnknownName, "cam, grad-cam, hires-cam"
    ),
    "unknown backend": Row(lambda: explainer(backend="reverence"), E.UnknownName, "did you mean 'reference'?"),
    "unknown colour map": Row(lambda: explain("cat.png").save("out", colormap="jett"), E.UnknownName, "jet"),
    "unknown target input": Row(
        lambda: cam_onnx.convert("model.onnx", target_input="maybe"),
        E.InputError,
        "'maybe', expected one of optional, required",
    ),
    "unknown provider": Row(lambda: explainer(providers="gpux"), E.RunFailed, "gpux"),
    "labels missing": Row(lambda: explainer(labels="labels.txt"), E.InputError, "labels file labels.txt: no such file"),
    "preprocessing missing": Row(lambda: explainer(preprocess="p.json"), E.InputError, "p.json: no such file"),
    # writing
    "no folder to save into": Row(
        lambda: explain("cat.png").save("no/out"), E.WriteFailed, "no/out: cannot make this folder"
    ),
    "a file where the folder should be": Row(lambda: explain("cat.png").save("cat.png"), E.WriteFailed, "cat.png"),
    "no folder to convert into": Row(
        lambda: cam_onnx.convert("model.onnx").save("no/m.onnx"), E.WriteFailed, "create the folder first"
    ),
    "a folder as the converted file": Row(lambda: cam_onnx.convert("model.onnx").save("."), E.WriteFailed, "folder"),
    # contracts
    "converted already": Row(lambda: other(), E.ContractError, "is converted already: convert the original", converted),
    "a damaged contract": Row(
        lambda: cam_onnx.Explainer("other.onnx"),
        E.ContractError,
        "other.onnx: metadata entry 'cam_onnx' is not",
        lambda: converted(said(lambda old: old[:-5])),
    ),
    "a damaged contract, convert": Row(
        lambda: other(), E.ContractError, "is not a cam_onnx contract", lambda: converted(said(lambda old: old[:-5]))
    ),
    "a newer contract": Row(
        lambda: cam_onnx.Explainer("other.onnx"),
        E.ContractError,
        "schema 99, this cam_onnx reads up to 2: upgrade",
        lambda: converted(said(lambda old: old.replace('"schema":1', '"schema":99'))),
    ),
    "a contract that names an output that is not there": Row(
        lambda: cam_onnx.Explainer("other.onnx").explain("cat.png"),
        E.ContractError,
        "names an output 'cam_gradients' that",
        lambda: converted(lambda m: m.graph.output.pop(2)),
    ),
    "a contract with wrong axes": Row(
        lambda: cam_onnx.Explainer("other.onnx").explain("cat.png"),
        E.ContractError,
        "does not fit its contract",
        lambda: converted(said(lambda old: old.replace('"spatial":[2,3]', '"spatial":[2,7]'))),
    ),
    "other layers than converted for": Row(
        lambda: cam_onnx.Explainer("other.onnx", layers="a"), E.ContractError, "converted for layers", converted
    ),
    # methods
    "CAM behind another head": Row(lambda: explainer(layers="a", method="cam"), E.InputError, "behind 'a' lies more"),
    "CAM of another head, converted": Row(
        lambda: cam_onnx.convert("model.onnx", layers="a", method="cam"), E.InputError, "behind 'a' lies more"
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_is_refused_how_and_with_nothing_left(name, tmp_path, monkeypatch):
    row = ROWS[name]
    monkeypatch.chdir(tmp_path)
    write("model.onnx", BUILDERS["gap_linear"]().SerializeToString())
    write("cat.png", CAT.read_bytes())
    row.make()
    before = {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(tmp_path)}
    with pytest.raises(row.error) as caught:
        row.call()
    message = str(caught.value)
    assert row.words in message
    assert len(message) < 600
    assert message.replace("\n", "").isprintable()
    assert isinstance(caught.value, cam_onnx.CamOnnxError)
    assert caught.value.exit_code == (1 if row.error in (E.WriteFailed, E.RunFailed) else 2)
    assert {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(tmp_path)} == before, "nothing is left"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path):
    model = BUILDERS["gap_linear"]()
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(E.WriteFailed, match="the folder is read-only; choose a folder that you may write to"):
            cam_onnx.convert(model).save(tmp_path / "out.onnx")
        with pytest.raises(E.WriteFailed):
            cam_onnx.Explainer(model).explain(inputs={"image": X}).save(tmp_path)
        assert os.listdir(tmp_path) == []
    finally:
        tmp_path.chmod(0o755)


def test_a_folder_on_a_read_only_disk(tmp_path, monkeypatch):
    """The same for root, who may write to every folder but not to every disk."""

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    converted = cam_onnx.convert(BUILDERS["gap_linear"]())
    explained = cam_onnx.Explainer(BUILDERS["gap_linear"]()).explain(inputs={"image": X})
    monkeypatch.setattr("cam_onnx.files.os.open", refuse)
    with pytest.raises(E.WriteFailed, match="read-only file system; choose a folder on a disk that is not read-only"):
        converted.save(tmp_path / "out.onnx")
    with pytest.raises(E.WriteFailed, match="read-only file system"):
        explained.save(tmp_path)
    assert os.listdir(tmp_path) == []


def blocked(*names: str) -> str:
    return (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {names!r}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import cam_onnx\n"
    )


NOT_INSTALLED = {
    "no runtime": (
        ["onnxruntime"], "cam_onnx.Explainer('model.onnx')", "RunFailed",
        ['pip install "cam-onnx[gpu]"', '"cam-onnx[cpu]"', 'backend "reference"'],
    ),
    "no onnx, reference": (
        ["onnx"], "cam_onnx.Explainer('converted.onnx', backend='reference')", "RunFailed", ["onnx cannot be imported"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_INSTALLED)
def test_what_is_not_installed_is_said_in_one_line(name, tmp_path):
    names, call, error, words = NOT_INSTALLED[name]
    model = BUILDERS["gap_linear"]()
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    cam_onnx.convert(model).save(tmp_path / "converted.onnx")
    code = blocked(*names) + (
        f"try:\n    {call}\nexcept cam_onnx.CamOnnxError as error:\n    print(type(error).__name__, error, sep=': ')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60
    )
    assert done.stdout.startswith(f"{error}: "), done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert all(word in done.stdout for word in words)


def test_without_a_runtime_the_reference_explains(tmp_path):
    (tmp_path / "model.onnx").write_bytes(BUILDERS["gap_linear"]().SerializeToString())
    code = blocked("onnxruntime") + (
        "import numpy as np\n"
        "e = cam_onnx.Explainer('model.onnx', backend='reference').explain(np.zeros((9, 9, 3), np.uint8))\n"
        "print(e.saliency.shape)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60
    )
    assert done.stdout == "(1, 8, 8)\n", done.stderr


# -- the tree itself -------------------------------------------------------------------------------------------------


def test_the_docstring_draws_the_tree():
    drawn = {line.split()[1] for line in (errors.__doc__ or "").splitlines() if line.startswith(("├", "└"))}
    classes = {name for name, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, E.CamOnnxError)} - {
        "CamOnnxError"
    }
    assert drawn == classes
    assert classes | {"CamOnnxError"} <= set(errors.__all__)


@pytest.mark.parametrize(
    ("error", "base"), [(E.InputError, ValueError), (E.UnknownName, KeyError), (E.WriteFailed, OSError)]
)
def test_errors_are_python_s_own_too(error, base):
    assert issubclass(error, base)
    assert str(error("what\nwhere")) == "what\nwhere"
    assert str(error()) == ""


def test_did_you_mean():
    assert did_you_mean("Featurs", ["features", "other"]) == "; did you mean 'features'?"
    assert did_you_mean("zzz", ["features"]) == ""
    assert did_you_mean("x", []) == ""


def test_shown_names_cannot_change_the_line():
    assert shown("a\nb\x1b[31m\u202e") == "a\\nb\\x1b[31m\\u202e"
    assert len(shown("x" * 10_000)) < 310
    assert shown(b"caf\xe9") == "caf\\udce9"
    assert shown("é 猫") == "é 猫"
