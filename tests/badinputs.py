"""Bad inputs: one table of what people, disks and strangers hand over, and what must come of it.

A row has an id (the letter is the group: A model files, B graphs, C options and targets, D pictures and tensors), a
maker of `tests.badfiles` that fills an empty folder, calls of the library, a command line, and what both must end in:
the error's class, the exit code, words of the message. `error` None: it works, and the words stand somewhere in what
is printed. One row more is one `Row` here; `tests/test_badinputs.py` runs each twice. A row that does not hold yet has
the reason in `pending` and must fail. ``python -m tests.badinputs [ID ...]`` prints every message, to be read aloud.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import cam_onnx
from cam_onnx import (
    ContractError,
    Disconnected,
    InputError,
    InvalidModel,
    LayerNotFound,
    LimitExceeded,
    RunFailed,
    ScoreNotFound,
    UnknownName,
    UnsupportedOperators,
    UnsupportedOpset,
)
from cam_onnx.cli import main
from cam_onnx.limits import Limits
from cam_onnx.places import plan
from tests import badfiles as make
from tests import pictures

__all__ = ["ROWS", "Row"]

Call = Callable[[], object]
OVERLAY = ("cat.cam.png",)


@dataclass(frozen=True)
class Row:
    """One bad input.

    `lines`: on stderr, notes not counted; None: one for an error, none else. `writes`: new files of the command line.
    `alone`: why it is run only through the library ("" if it is not). `nobody`: run as a user who may read nothing
    of ours. `seconds`: that one library call may take. `pending`: why it does not hold yet.
    """

    id: str
    what: str
    make: Callable[[], object]
    error: type[Exception] | None
    code: int
    words: str
    calls: tuple[Call, ...]
    argv: str | tuple[str | bytes, ...]
    lines: int | None = None
    writes: tuple[str, ...] = ()
    alone: str = ""
    nobody: bool = False
    seconds: float = 20
    slow: bool = False
    pending: str = ""

    def __str__(self) -> str:
        return f"{self.id} {self.what}"

    @property
    def command(self) -> list[str | bytes]:
        """The command line's arguments."""
        return [*(shlex.split(self.argv) if isinstance(self.argv, str) else self.argv)]

    @property
    def expected_lines(self) -> int:
        return (self.error is not None) if self.lines is None else self.lines


def explain(picture: Any = "cat.png", model: Any = "bad.onnx", **options: Any) -> Any:
    """Open a model and explain a picture, with options of either."""
    names = ("inputs", "target", "normalize")
    said = {name: options.pop(name) for name in names if name in options}
    with cam_onnx.Explainer(model, **options) as explainer:
        return explainer.explain(None if "inputs" in said else picture, **said)


def convert(**options: Any) -> Any:
    return cam_onnx.convert("bad.onnx", **options)


def A(key: str, what: str, make: Callable[[], object], error: Any, code: int, words: str, **more: Any) -> Row:
    """A model's file: to explain with, and to convert."""
    usual = {
        "calls": (explain, convert),
        "argv": "explain bad.onnx cat.png",
        "writes": OVERLAY if error is None else (),
    }
    return Row(key, what, make, error, code, words, **{**usual, **more})


def B(key: str, what: str, make: Callable[[], object], error: Any, code: int, words: str, **more: Any) -> Row:
    """A model's graph: to convert."""
    usual = {"calls": (convert,), "argv": "convert bad.onnx", "writes": ("bad.cam.onnx",) if error is None else ()}
    return Row(key, what, make, error, code, words, **{**usual, **more})


def C(key: str, what: str, options: str, error: Any, code: int, words: str, *calls: Call, **more: Any) -> Row:
    """Options, with a good model (converted, so that it is quick) and a good picture."""
    usual = {"argv": f"explain done.onnx cat.png {options}", "writes": OVERLAY if error is None else ()}
    return Row(key, what, more.pop("make", make.nothing), error, code, words, calls, **{**usual, **more})


def D(key: str, what: str, make: Callable[[], object], error: Any, code: int, words: str, **more: Any) -> Row:
    """A picture, for a good model."""
    usual = {"calls": (seen,), "argv": "explain done.onnx bad.png", "writes": ("bad.cam.png",) if error is None else ()}
    return Row(key, what, make, error, code, words, **{**usual, **more})


def T(key: str, what: str, make: Callable[[], object], error: Any, code: int, words: str, **more: Any) -> Row:
    """A tensor in a file, for a good model."""
    usual = {"calls": (fed,), "argv": "explain done.onnx --input image=bad.npy"}
    return D(key, what, make, error, code, words, **{**usual, **more})


def seen() -> Any:
    return explain("bad.png", "done.onnx")


def fed() -> Any:
    return explain(None, "done.onnx", inputs={"image": "bad.npy"})


def check(truth: object) -> None:
    """Fail where it is not so; `assert` is no expression."""
    assert truth


def same_map(picture: Any = "cat.png", **options: Any) -> None:
    """Explain with `bad.onnx` and compare with the network that it was made of."""
    found, expected = explain(picture, **options), explain(picture, "model.onnx")
    np.testing.assert_allclose(found.saliency, expected.saliency, rtol=1e-5, atol=1e-7)


def same_tensor(array: Any, plain: Any) -> None:
    """Explain a tensor and compare with the same numbers laid out plainly."""
    found, expected = (explain(None, "done.onnx", inputs={"image": x}) for x in (array, np.array(plain, np.float32)))
    np.testing.assert_array_equal(found.saliency, expected.saliency)


def blank(word: str, found: Any) -> None:
    """Check that a map is zero and says why, and that `saliency` keeps its NaN."""
    assert word in found.reasons[0]
    assert not found.saliency_map.any()
    assert np.isnan(found.saliency).any() == (word == "NaN")


def named(name: str | bytes, folder: str = "") -> tuple[Callable[[], object], tuple[str | bytes, ...], Call]:
    """Return maker, arguments and call of a model and a picture with a name that would disturb a terminal."""
    text = os.fsdecode(name)
    model, picture = f"{text}.onnx", f"{text}.png"
    made = make.both(make.put(model, make.converted), make.put(picture, make.picture))
    return made, ("explain", os.fsencode(model), os.fsencode(picture), "-o", "out.png"), lambda: explain(picture, model)


def odd_name(key: str, what: str, name: str | bytes, words: str) -> Row:
    made, argv, call = named(name)
    return Row(key, what, made, None, 0, words, (call,), argv, writes=("out.png",))


ZERO = "its map is all zero"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 18600000\n"
ESCAPE = "\x1b[31m"

ROWS_A = [
    A("A1", "missing", make.nothing, InputError, 2, "model bad.onnx: no such file or directory; check the path"),
    A("A2", "a folder", lambda: os.mkdir("bad.onnx"), InputError, 2, "bad.onnx: it is a folder, expected a file"),
    A("A3", "unreadable", make.both(make.bad(make.plain), lambda: os.chmod("bad.onnx", 0)), InputError, 2,
      "bad.onnx: permission denied; ask its owner", nobody=True),
    A("A4", "empty", make.bad(b""), InvalidModel, 2, "bad.onnx: the file is empty; get the file again"),
    A("A5", "a pipe", lambda: os.mkfifo("bad.onnx"), InputError, 2, "it is a pipe (FIFO), expected a file", seconds=1),
    A("A6", "/dev/zero", make.link("/dev/zero"), InputError, 2, "it is a device, expected a file", seconds=1),
    A("A7", "random bytes", make.bad(make.noise), InvalidModel, 2, "not an ONNX model"),
    A("A8", "text", make.bad(b"this is no model\n"), InvalidModel, 2, "a text file, not a model"),
    A("A9", "a Git LFS pointer", make.bad(LFS), InvalidModel, 2, "run git lfs pull"),
    A("A10", "an HTML page", make.bad(b"<!DOCTYPE html><title>404</title>"), InvalidModel, 2, "HTML"),
    A("A11a", ".pt", make.bad(make.archive("archive/data.pkl")), InvalidModel, 2, "a PyTorch file (.pt, .pth)"),
    A("A11b", ".pt of old", make.bad(b"\x80\x02\x8a\x0a" + bytes(99)), InvalidModel, 2, "torch.onnx.export"),
    A("A11c", ".h5", make.bad(b"\x89HDF\r\n\x1a\n" + bytes(99)), InvalidModel, 2, "an HDF5 file (.h5, Keras weights)"),
    A("A11d", ".tflite", make.bad(b"\x1c\0\0\0TFL3" + bytes(99)), InvalidModel, 2, "a TensorFlow Lite model"),
    A("A11e", ".zip", make.bad(make.archive("readme.txt")), InvalidModel, 2, "a zip archive"),
    A("A12a", "cut in half", make.bad(lambda: make.plain()[:2000]), InvalidModel, 2, "the model is cut off"),
    A("A12b", "a converted file cut in half", make.bad(lambda: make.converted()[:3000]), InvalidModel, 2,
      "the model is cut off"),
    A("A13a", "last byte missing", make.bad(lambda: make.plain()[:-1]), InvalidModel, 2, "bad.onnx: "),
    A("A13b", "last byte of a converted file missing", make.bad(lambda: make.converted()[:-1]), InvalidModel, 2,
      "bad.onnx: "),
    A("A14a", "a weight's byte flipped", make.flipped(0, 0x55), None, 0, "explained: class"),
    A("A14b", "flipped into NaN", make.both(make.flipped(3, 0x7F), make.filled(np.nan)), None, 1, "NaN", lines=1,
      calls=(lambda: blank("NaN", explain()), convert)),
    A("A15", "ONNX Runtime's own format", make.bad(b"\x18\0\0\0ORTM" + bytes(99)), InvalidModel, 2, "(.ort)"),
    A("A16", "larger than the limit", make.bad(make.plain), LimitExceeded, 2, "the limit is 100: raise max_model_bytes",
      argv="explain bad.onnx cat.png --max-model-bytes 100",
      calls=(lambda: explain(limits=Limits(max_model_bytes=100)), lambda: convert(limits=Limits(max_model_bytes=100)))),
    odd_name("A17a", "a name with spaces", "a b  c", "a b  c.png"),
    odd_name("A17b", "a name with a line break", "a\nb", "a\\nb.png"),
    odd_name("A17c", "a name with ESC", f"a{ESCAPE}b", "a\\x1b[31mb.png"),
    odd_name("A17d", "a name that is not UTF-8", b"caf\xe9", "caf\\udce9.png"),
    A("A18a", "converted already", make.bad(make.converted), ContractError, 2, "bad.onnx is converted already",
      argv="convert bad.onnx", calls=(convert,)),
    A("A18b", "converted already, --reconvert", make.bad(make.converted), None, 0, "layer a", writes=("bad.cam.onnx",),
      argv="convert bad.onnx --reconvert --layer a", calls=(lambda: convert(reconvert=True, layers="a"),)),
    A("A19", "somebody else's metadata", make.note("hello"), ContractError, 2, "is not a cam_onnx contract"),
    A("A20", "a newer contract", make.contract(schema=99), ContractError, 2, "schema 99, this cam_onnx reads up to 2: "),
    A("A21", "a contract with an absent output", make.done(lambda m: m.graph.output.pop(2)), ContractError, 2,
      "the contract names an output 'cam_gradients' that the model lacks", calls=(explain,)),
    A("A22a", "metadata of 100 MB", make.note(" " * 100_000_000 + "{"), ContractError, 2, "100,000,001 characters, a contract at most"),
    A("A22b", "metadata 100,000 deep", make.note("[" * 100_000), ContractError, 2, "is not a cam_onnx contract"),
    A("A22c", "a contract with a field 100,000 deep", make.said(lambda s: s[:-1] + ',"x":' + "[" * 100_000),
      ContractError, 2, "is not a cam_onnx contract"),
    A("A23a", "data in ../, by a bare name", make.outside(location="../secret.bin"), InvalidModel, 2,
      "leads out of the model's folder"),
    A("A23b", "data in ../, by ./", make.outside(location="../secret.bin"), InvalidModel, 2, "leads out",
      argv="explain ./bad.onnx cat.png", calls=(lambda: explain(model="./bad.onnx"),)),
    A("A23c", "data in ../, by an absolute path", make.outside(location="../secret.bin"), InvalidModel, 2, "leads out",
      argv="explain {here}/bad.onnx cat.png", calls=(lambda: explain(model=os.path.abspath("bad.onnx")),)),
    A("A24", "data at an absolute path", make.absolute, InvalidModel, 2, "is an absolute path"),
    A("A25", "data behind a link out", make.outside(make.instead(make.link("../secret.bin", "weights.bin"))),
      InvalidModel, 2, "is a link out of the model's folder"),
    A("A26", "data in a linked folder", make.outside(make.link("..", "up"), location="up/secret.bin"), InvalidModel, 2,
      "is a link out of the model's folder"),
    A("A27", "data behind a link inside", make.outside(make.moved_inside), None, 0, "explained: class",
      calls=(same_map, convert)),
    A("A28", "data is a hard link", make.outside(make.instead(lambda: os.link("../secret.bin", "weights.bin"))),
      InvalidModel, 2, "is a hard link"),
    A("A29", "a cache of links", make.cache_of_hashes, None, 0, "explained: class", calls=(same_map, convert)),
    A("A30", "data missing", make.outside(make.instead(make.nothing)), InvalidModel, 2, "'weights.bin' is missing"),
    A("A31", "data too short", make.outside(make.put("weights.bin", b"short")), InvalidModel, 2, "ends at 5, before"),
    A("A32", "offset past the end", make.outside(offset="4096"), InvalidModel, 2, "ends at 160, before byte 4256"),
    A("A33a", "negative offset", make.outside(offset="-1"), InvalidModel, 2, "external offset is '-1', expected"),
    A("A33b", "offset is text", make.outside(offset="zero"), InvalidModel, 2, "external offset is 'zero', expected"),
    A("A34", "length 2^40", make.outside(length=str(1 << 40)), InvalidModel, 2, "hold 1099511627776 bytes of it, but"),
    A("A35", "data is a pipe", make.outside(make.instead(lambda: os.mkfifo("weights.bin"))), InvalidModel, 2,
      "is not a regular file", seconds=5),
    A("A36", "data is a folder", make.outside(make.instead(lambda: os.mkdir("weights.bin"))), InvalidModel, 2,
      "is not a regular file"),
    A("A37", "NUL in the location", make.outside(location="weights.bin\0x"), InvalidModel, 2, "has no usable name"),
    A("A38", "data in memory", make.outside(location="*/_ORT_MEM_ADDR_/*"), InvalidModel, 2, "is an address in memory"),
]  # fmt: skip

ACME = ', "acme": 1'
THREE = "a = acme.One(x) b = acme.Two(a) o = acme.Three(b, r) " + make.HEAD
MICROSOFT = ', "com.microsoft": 1'

ROWS_B = [
    B("B39", "IR version 99", make.gap(lambda m: setattr(m, "ir_version", 99)), InvalidModel, 2, "IR version 99"),
    B("B40", "no opset", make.gap(lambda m: m.ClearField("opset_import")), InvalidModel, 2, "no opset import"),
    B("B41", "opset 999", make.gap(lambda m: setattr(m.opset_import[0], "version", 999)), UnsupportedOpset, 2,
      "opset 999, the installed onnx knows up to"),
    B("B42", "an operator that cannot be raised", make.text(
        f"o = BatchNormalization<spatial=0>(x, s, s, s, s) {make.HEAD}", "(float[N,3,8,8] x, float[3,8,8] s) => (float[N,3] y)",
      opset=8), UnsupportedOpset, 2, "cannot raise BatchNormalization 'o' (Attribute spatial must have value 1): export it again"),
    B("B43", "nodes not sorted", make.gap(lambda m: m.graph.node.insert(0, m.graph.node.pop(1))), InvalidModel, 2,
      "node 'Relu_1' (Relu) reads 'a', which nothing before it gives: the nodes are not sorted"),
    B("B44", "a circle", make.gap(lambda m: m.graph.node[0].input.__setitem__(0, "features")), InvalidModel, 2,
      "reads 'features', which nothing before it gives: the nodes form a circle"),
    B("B45a", "a value given twice", make.gap(lambda m: m.graph.node.insert(1, m.graph.node[0])), InvalidModel, 2,
      "value 'a' is given twice"),
    B("B45b", "two weights of one name", make.gap(lambda m: m.graph.initializer.append(m.graph.initializer[0])),
      InvalidModel, 2, "two initializers are called 'w1'"),
    B("B46", "an input that nobody gives", make.gap(lambda m: m.graph.node[2].input.__setitem__(0, "ghost")),
      InvalidModel, 2, "reads 'ghost', which nothing before it gives: no node, input or initializer has that name"),
    B("B47", "no outputs", make.gap(lambda m: m.graph.ClearField("output")), ScoreNotFound, 2, "its outputs: none"),
    B("B48", "no nodes", make.text("", "(float[N,3] y) => (float[N,3] y)"), LayerNotFound, 2, "no value with spatial"),
    B("B49", "raw_data too short", make.gap(lambda m: setattr(make.weights(m), "raw_data", b"1234")), InvalidModel, 2,
      "tensor 'w3' of shape [5, 8] needs 160 bytes and has 4"),
    B("B50", "negative dims", make.gap(lambda m: make.weights(m).dims.__setitem__(0, -5)), InvalidModel, 2,
      "tensor 'w3' has the shape [-5, 8], with a negative dimension"),
    B("B51", "dims 2^40", make.gap(lambda m: make.weights(m).dims.__setitem__(0, 1 << 40)), InvalidModel, 2,
      "needs 35,184,372,088,832 bytes and has 160"),
    B("B52", "If in If, 30 deep", make.nested(30), None, 0, "layer features", calls=(convert, same_map)),
    B("B53", "a function that calls itself", make.text(f"o = acme.F(x) {make.HEAD}", imports=ACME,
      functions=make.RECURSION), InvalidModel, 2, "function 'F' calls itself"),
    B("B54", "functions that double", make.functions(30), LimitExceeded, 2, "the limit is 1,000,000: raise max_nodes",
      seconds=1),
    B("B55", "100,000 nodes", make.chain(100_000), None, 0, "layer features", seconds=60, slow=True,
      alone="that it ends in time is the library's"),
    B("B56", "a custom operator on the path", make.text(f"a = acme.One(x) o = acme.Two(a) {make.HEAD}", imports=ACME),
      UnsupportedOperators, 2, "acme::One", calls=(lambda: convert(layers="x"),), argv="convert bad.onnx --layer x",
      lines=5),
    B("B57a", "a custom operator beside the path", make.text(f"o = Relu(x) z = acme.One(x) {make.HEAD}",
      "(float[N,3,8,8] x) => (float[N,3] y, float[N,3,8,8] z)", imports=ACME), None, 0, "layer o"),
    A("B57b", "the same, run without its library", make.text(f"o = Relu(x) z = acme.One(x) {make.HEAD}",
      "(float[N,3,8,8] x) => (float[N,3] y, float[N,3,8,8] z)", imports=ACME), RunFailed, 1,
      "ONNX Runtime lacks an operator or type of the model", calls=(explain,)),
    B("B58", "three rules missing", make.text(THREE, "(float[N,3,8,8] x, float[N,5] r) => (float[N,3] y)", imports=ACME),
      UnsupportedOperators, 2, "acme::Three", calls=(lambda: convert(layers="x"),), argv="convert bad.onnx --layer x",
      lines=6),
    B("B59a", "EPContext", make.text(f"o = com.microsoft.EPContext<ep_cache_context=\"../x\">(x) {make.HEAD}",
      imports=MICROSOFT), UnsupportedOperators, 2, "com.microsoft::EPContext (1 node) loads a program"),
    B("B59b", "PyOp beside the path", make.text(f"o = Relu(x) z = acme.PyOp(x) {make.HEAD}",
      "(float[N,3,8,8] x) => (float[N,3] y, float[N,3,8,8] z)", imports=ACME), UnsupportedOperators, 2,
      "acme::PyOp (1 node) runs Python code"),
    B("B60", "values called as ours would be", make.gap(make.called_like_ours), None, 0, "layer features",
      calls=(same_map, convert)),
    B("B61a", "one name for all nodes", make.gap(make.call_nodes("x")), None, 0,
      "layer features"),
    A("B61b", "one name for all nodes: ONNX Runtime refuses", make.gap(make.call_nodes("x")),
      InvalidModel, 2, "two nodes with same node name (x)", calls=(explain,)),
    B("B61c", "nodes without names", make.gap(make.call_nodes("")), None, 0,
      "layer features", calls=(same_map,)),
    B("B62a", "a sparse weight beside the path", make.gap(make.beside), None, 0, "layer features",
      calls=(same_map, lambda: check(convert().model.graph.sparse_initializer))),
    B("B62b", "a sparse weight on the path", make.gap(make.sparse("w3")), None, 0, "layer features",
      calls=(same_map, lambda: check(convert().model.graph.sparse_initializer))),
    *[A(f"B63{letter}", f"{what} input", make.odd_input(kind, operator), InputError, 2, "which cam_onnx cannot feed", calls=(explain,))
      for letter, what, kind, operator in (
        ("a", "a string", make.STRINGS, "Shape"), ("b", "a sequence", make.SEQUENCE, "SequenceLength"),
        ("c", "an optional", make.OPTIONAL, "Identity"))],
    A("B63d", "a complex input, for which ONNX Runtime is not built", make.odd_input(make.COMPLEX, "Shape"), RunFailed, 1,
      "ONNX Runtime lacks an operator or type of the model", calls=(explain,)),
    B("B64", "a layer that does not reach the score", make.text(f"o = Relu(x) z = Sigmoid(x) {make.HEAD}",
      "(float[N,3,8,8] x) => (float[N,3] y, float[N,3,8,8] z)"), Disconnected, 2, "does not depend on layer 'z'",
      calls=(lambda: convert(layers="z"),), argv="convert bad.onnx --layer z"),
    B("B65a", "only an ArgMax", make.text("o = Relu(x) f = GlobalAveragePool(o) l = Flatten(f) y = ArgMax<axis=1>(l)",
      "(float[N,3,8,8] x) => (int64[N,1] y)"), None, 0, "score l"),
    B("B65b", "an ArgMax, named as the score", make.text(
      "o = Relu(x) f = GlobalAveragePool(o) l = Flatten(f) y = ArgMax<axis=1>(l)",
      "(float[N,3,8,8] x) => (int64[N,1] y)"), ScoreNotFound, 2, "did you mean 'l'", calls=(lambda: convert(score="y"),),
      argv="convert bad.onnx --score y"),
    A("B66a", "weights of NaN", make.filled(np.nan), None, 1, "NaN", lines=1,
      calls=(lambda: blank("NaN", explain()), convert)),
    A("B66b", "weights of infinity", make.filled(np.inf), None, 1, "NaN", lines=1,
      calls=(lambda: blank("NaN", explain()), convert)),
    A("B67", "quantisation with scale 0", make.text(
      "s = Constant<value_float=0.0>() z = Constant<value = uint8 {0}>() q = QuantizeLinear(x, s, z) "
      f"o = DequantizeLinear(q, s, z) {make.HEAD}"), None, 1, "NaN", lines=1,
      calls=(lambda: blank("NaN", explain(layers="x")),), argv="explain bad.onnx cat.png --layer x"),
    A("B68", "an endless Loop", make.gap(make.endless), RunFailed, 1, "the run was terminated after 0.5 s",
      argv="explain bad.onnx cat.png --timeout 0.5", calls=(lambda: explain(limits=Limits(timeout=0.5)),)),
]  # fmt: skip


def opened(**options: Any) -> Callable[[], Any]:
    """Return a call with options, of a picture and the converted model."""
    return lambda: explain(model="done.onnx", **options)


def looked(**options: Any) -> Call:
    """Return a call that draws with options."""
    return lambda: explain(model="done.onnx").overlay(**options)


def saved(array: np.ndarray[Any, Any]) -> Callable[[], object]:
    """Return a maker of mask.npy."""
    return lambda: np.save("mask.npy", array)


INERT = "<img src=x onerror=alert(1)>"
FEW = make.put("labels.txt", b"\xef\xbb\xbfant\r\nbee\r\nant\r\n")
EVIL = make.put("labels.txt", f"{INERT}\n=cmd()\n{ESCAPE}red\nd\ne\n".encode())


def few_labels() -> None:
    found = explain(model="done.onnx", labels="labels.txt", target=4)
    assert [found.label(i) for i in range(5)] == ["ant", "bee", "ant", "3", "4"]


def inert_report() -> None:
    found = explain(model="done.onnx", labels="labels.txt", target=0)
    assert INERT not in found._repr_html_()
    assert "&lt;img" in found._repr_html_()


ROWS_C = [
    C("C69", "unknown layer", "--layer featurs", LayerNotFound, 2, "did you mean 'features'?",
      lambda: explain(model="model.onnx", layers="featurs"), argv="explain model.onnx cat.png --layer featurs"),
    C("C70", "a layer that is not spatial", "", LayerNotFound, 2, "candidates: features, c, b, a",
      lambda: explain(model="model.onnx", layers="flat"), argv="explain model.onnx cat.png --layer flat"),
    C("C71a", "class 5 of 5", "--target 5", InputError, 2, "target 5 is out of range: -1 (the predicted class), or 0 to 4",
      opened(target=5)),
    C("C71b", "class -2", "--target=-2", InputError, 2, "target -2 is out of range: -1", opened(target=-2)),
    C("C72a", "class abc", "--target abc", InputError, 2, "give labels, or a class index", opened(target="abc")),
    C("C72b", "class 1.5", "--target 1.5", InputError, 2, "target", opened(target=1.5)),
    C("C72c", "class NaN", "--target nan", InputError, 2, "target", opened(target=float("nan"))),
    C("C72d", "class tabbi", "--labels labels.txt --target tabbi", UnknownName, 2, "did you mean 'tabby'?",
      opened(labels="labels.txt", target="tabbi"), make=make.put("labels.txt", b"a\nb\nc\nd\ntabby\n")),
    C("C73a", "unknown method", "--method grad-can", UnknownName, 2, "did you mean 'grad-cam'?",
      opened(method="grad-can")),
    C("C73b", "unknown colour map", "--colormap jett", UnknownName, 2, "did you mean 'jet'?", looked(colormap="jett")),
    C("C73c", "unknown option", "--colourmap jet", SystemExit, 2, "unknown --colourmap; did you mean '--colormap'?",
      ),
    C("C74a", "alpha 2", "--alpha 2", InputError, 2, "alpha is 2", looked(alpha=2)),
    C("C74b", "alpha nan", "--alpha nan", InputError, 2, "alpha is nan", looked(alpha=float("nan"))),
    C("C75a", "a box that is reversed", "--target box:9,9,5,5", InputError, 2, "box (9.0, 9.0, 5.0, 5.0) is empty or reversed",
      lambda: opened(target=cam_onnx.Box(9.0, 9.0, 5.0, 5.0))()),
    C("C75b", "a box that is empty", "--target box:5,5,5,9", InputError, 2, "box (5.0, 5.0, 5.0, 9.0) is empty",
      lambda: opened(target=cam_onnx.Box(5.0, 5.0, 5.0, 9.0))()),
    C("C75c", "a box outside", "--target=box:-9,-9,-5,-5", InputError, 2, "lies outside the picture",
      lambda: opened(target=cam_onnx.Box(-9.0, -9.0, -5.0, -5.0))()),
    C("C75d", "a box for a network without places", "", ScoreNotFound, 2, "no output has a place for every value",
      lambda: explain(model="model.onnx", target=cam_onnx.Box(1, 1, 5, 5)), argv="explain model.onnx cat.png --target box:1,1,5,5"),
    C("C76a", "a mask that is all false", "--target mask:mask.npy", InputError, 2, "mask: none of its 25 entries is true",
      lambda: opened(target=cam_onnx.Mask(mask=np.zeros((5, 5), bool)))(), make=saved(np.zeros((5, 5), bool))),
    C("C76b", "a mask of a wrong kind", "--target mask:mask.npy", InputError, 2, "mask: expected a bool array (H, W), got float32",
      lambda: opened(target=cam_onnx.Mask(mask=np.ones((5, 5), np.float32)))(), make=saved(np.ones((5, 5), np.float32))),
    C("C76c", "a target that a converted file was not made for", "--target probability", ContractError, 2,
      "converted for targets of kind class, not probability", opened(target="probability")),
    C("C76d", "an expression of what is not there", "", InputError, 2, "no value 'logit'; did you mean 'logits'?",
      lambda: explain(model="model.onnx", target="logit[:,1]"), argv="explain model.onnx cat.png --target logit[:,1]"),
    C("C76e", "an unknown option of a method", "--method random-cam --option sed=1", InputError, 2,
      "random-cam has no option 'sed'; did you mean 'seed'", lambda: explain(model="done.onnx", method="random-cam", options={"sed": 1})),
    C("C76f", "an option of a wrong type", "--method random-cam --option seed=x", InputError, 2, "expected a whole number",
      lambda: explain(model="done.onnx", method="random-cam", options={"seed": "x"})),
    C("C76g", "a method of the picture, for a file of a layer", "--method rise", ContractError, 2,
      "rise explains the picture, and the file was converted for layer 'features'",
      lambda: explain(model="done.onnx", method="rise")),
    C("C77", "fewer labels than classes, BOM, CRLF, twice the same", "--labels labels.txt --target 4", None, 0,
      "explained: class 4", few_labels, make=FEW),
    C("C78a", "a label that is HTML", "--labels labels.txt --target 0", None, 0, "<img", inert_report, make=EVIL, lines=1),
    C("C78b", "a label that is a formula, in CSV", "--labels labels.txt --target 1 --csv", None, 0, "'=cmd()",
      lambda: opened(labels="labels.txt", target=1)().to_csv(), make=EVIL, pending="there is no CSV yet"),
    C("C78c", "a label with ESC", "--labels labels.txt --target 2", None, 0, "\\x1b[31mred",
      opened(labels="labels.txt", target=2), make=EVIL),
    C("C79", "several inputs, none chosen", "", InputError, 2, "input 'mask' (float32, [N, 3, 16, 16]) is missing: give it as well",
      explain, make=make.gap(make.two_inputs), argv="explain bad.onnx cat.png"),
    C("C80a", "std 0", "--std 0", InputError, 2, "std (0.0,) and scale 1.0 must not be 0 or NaN",
      lambda: cam_onnx.Preprocess(std=(0.0,))),
    C("C80b", "mean of two", "--mean 1,2", InputError, 2, "mean has 2 entries, RGB takes 1 or 3",
      lambda: cam_onnx.Preprocess(mean=(1.0, 2.0))),
    C("C81", "two outputs at one path", "", InputError, 2, "would both be written to", lambda: plan(["cat.png", "sub/cat.png"], None),
      argv="explain done.onnx cat.png sub/cat.png", make=make.both(lambda: os.mkdir("sub"), make.put("sub/cat.png", b""))),
    C("C82", "an unknown suffix", "-o out.gif", InputError, 2, "out.gif: no picture's suffix (.png, .jpg",
      lambda: plan(["cat.png"], "out.gif")),
]  # fmt: skip


def size_of(height: int, width: int) -> Call:
    """Return a call that explains `bad.png` and checks that the overlay has the picture's size."""

    def call() -> None:
        found = seen()
        assert found.overlay().shape == (height, width, 3)
        assert np.isfinite(found.saliency).all()

    return call


def notes(word: str) -> Call:
    """Return a call that explains `bad.png` and checks that a note says what was done to it."""
    return lambda: check(any(word in text for text in seen().notes))


def flat() -> None:
    """A constant picture: where nothing stands out there is no map, and a reason."""
    found = seen()
    assert np.isfinite(found.saliency_map).all()
    assert found.saliency_map.any() == (found.reasons[0] is None)


def split() -> None:
    """Three pictures through a model of batch 1 are what each is by itself."""
    three = explain(["cat.png", "b.png", "cat.png"])
    assert len(three) == 3
    np.testing.assert_array_equal(three.saliency[1:2], explain("b.png").saliency)
    np.testing.assert_array_equal(three.saliency[2:], explain("cat.png").saliency)


def fed_as(array: Callable[[], Any]) -> Call:
    return lambda: explain(None, "done.onnx", inputs={"image": array()})


def files(*stems: str) -> tuple[str, ...]:
    """Return what a folder of results holds."""
    kinds = ("explanation.json", "heatmap.png", "overlay.png", "saliency.npy")
    return ("out", *(f"out/{stem}.{kind}" for stem in stems for kind in kinds))


MANY = [f"p{i}.png" for i in range(8)]
AMONG = ["p0.png", "p1.png", "p2.png", "bad.png", *MANY[3:]]

ROWS_D = [
    D("D83a", "missing", make.nothing, InputError, 2, "picture bad.png: no such file or directory"),
    D("D83b", "a folder", lambda: os.mkdir("bad.png"), InputError, 2, "picture bad.png: it is a folder"),
    D("D83c", "a pipe", lambda: os.mkfifo("bad.png"), InputError, 2, "picture bad.png: it is a pipe (FIFO)", seconds=1),
    D("D83d", "empty", make.seen(b""), InputError, 2, "bad.png is empty; expected PNG, JPEG"),
    D("D83e", "text", make.seen(b"a cat\n"), InputError, 2, "looks like text; expected PNG, JPEG"),
    D("D83f", "SVG", make.seen(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), InputError, 2, "looks like SVG; expected"),
    D("D84", "a bomb of 20,000 x 20,000", make.seen(pictures.bomb), LimitExceeded, 2,
      "more than the limit of 178,000,000: make it smaller, or raise max_pixels", seconds=1),
    D("D85", "2^31 - 1 wide", make.seen(pictures.png(2**31 - 1, 1, 0)), InputError, 2, "2147483647 x 1 pixels"),
    D("D86a", "half a JPEG", make.seen(lambda: make.picture(".jpg")[:700]), InputError, 2, "JPEG picture"),
    D("D86b", "half a PNG", make.seen(lambda: make.picture()[:500]), InputError, 2, "is a broken PNG picture: it is cut off or damaged"),
    D("D86c", "a wrong checksum", make.seen(make.bad_crc), InputError, 2, "is a broken PNG picture: it is cut off or damaged"),
    D("D87a", "1 x 1", make.seen(make.spot), None, 0, "constant within the picture", calls=(size_of(1, 1),), lines=1),
    D("D87b", "1 x 10,000", make.seen(make.strip), None, 0, "explained: class", calls=(size_of(1, 10_000),)),
    D("D88a", "grey", make.seen(lambda: make.encoded(".png", make.RGB[..., 0])), None, 0, "explained: class",
      calls=(size_of(24, 32),)),
    D("D88b", "16 bits", make.seen(lambda: make.encoded(".png", make.RGB.astype(np.uint16) * 257)), None, 0,
      "note: bad.png: 16 bits per channel reduced to 8", calls=(notes("16 bits"),)),
    D("D88c", "transparent", make.seen(lambda: make.encoded(".png", np.dstack([make.RGB, make.RGB[..., :1]]))), None, 0,
      "note: bad.png: transparent parts are laid over white", calls=(notes("white"),)),
    D("D88d", "CMYK", make.seen(pictures.cmyk_jpeg), None, 0, "note: bad.png: CMYK", calls=(notes("CMYK"),)),
    D("D88e", "an animation", make.seen(lambda: pictures.gif(1, 2)), None, 0, "note: bad.png: an animation: its first",
      calls=(notes("first frame"),), lines=1),
    D("D89", "turned by EXIF", make.seen(lambda: pictures.turned(make.picture(".jpg"), 6)), None, 0,
      "note: bad.png: turned upright (EXIF orientation 6)", calls=(size_of(32, 24),)),
    T("D90a", "NaN in a tensor", make.saved(lambda: make.holed(np.nan)), InputError, 2, "nan at index (1, 2, 3, 4)",
      argv="explain done.onnx --input image=bad.npy -o out/", calls=(fed, fed_as(lambda: make.holed(np.nan)))),
    T("D90b", "infinity in a tensor", make.saved(lambda: make.holed(-np.inf)), InputError, 2, "-inf at index (1, 2, 3, 4)",
      argv="explain done.onnx --input image=bad.npy -o out/", calls=(fed, fed_as(lambda: make.holed(-np.inf)))),
    *[T(f"D91{letter}", dtype, make.saved(make.tensor_of(dtype)), InputError, 2, f"expected float32, got {dtype}: cast it yourself",
        calls=(fed, fed_as(make.tensor_of(dtype))))
      for letter, dtype in (("a", "float64"), ("b", "float16"), ("c", "uint8"))],
    T("D91d", "a wrong rank", make.saved(lambda: make.tensor()[0]), InputError, 2, "expected rank 4 [N, 3, 16, 16], got",
      argv="explain done.onnx --input image=bad.npy -o out/", calls=(fed, fed_as(lambda: make.tensor()[0]))),
    T("D91e", "a wrong size", make.saved(lambda: make.tensor()[..., :9]), InputError, 2, "dimension 3 is 9, expected 16",
      calls=(fed, fed_as(lambda: make.tensor()[..., :9]))),
    T("D92a", "strided, and in Fortran's order", make.saved(lambda: np.asfortranarray(make.strided())), None, 0,
      "explained: class", calls=(lambda: same_tensor(make.strided(), make.strided()),
                                 lambda: same_tensor("bad.npy", make.strided()))),
    T("D92b", "big-endian", make.saved(make.big_endian), None, 0, "explained: class",
      calls=(lambda: same_tensor(make.big_endian(), make.tensor()), lambda: same_tensor("bad.npy", make.tensor()))),
    T("D93", "a batch of 0", make.saved(lambda: make.tensor()[:0]), InputError, 2, "dimension 0 is 0, expected at least 1",
      calls=(fed, fed_as(lambda: make.tensor()[:0]))),
    D("D94", "three pictures, a model of batch 1", make.both(
        make.bad(lambda: make.plain("fixed_batch")), *(make.put(name, pictures.png(4, 4, 0, 8, bytes(20))) for name in ("b.png", "c.png"))), None, 0,
      "explained: class", argv="explain bad.onnx cat.png b.png c.png -o out/", calls=(split,),
      writes=files("b", "c", "cat")),
    T("D95a", "an array of objects", make.saved(lambda: np.array([make.Program()])), InputError, 2,
      "its elements are object, not numbers"),
    T("D95b", "a pickle", make.put("bad.npy", lambda: pickle.dumps(make.Program())), InputError, 2,
      "a pickle, which is a program"),
    T("D96a", "a header that lies", make.put("bad.npy", make.lying), LimitExceeded, 2, "raise max_input_bytes", seconds=1,
      argv="explain done.onnx --input image=bad.npy -o out/"),
    T("D96b", "an .npz bomb: no archive is opened", make.zip_bomb, InputError, 2, "an archive (.npz, .pt)", seconds=1,
      argv="explain done.onnx --input image=bad.npz",
      calls=(lambda: explain(None, "done.onnx", inputs={"image": "bad.npz"}),)),
    D("D97", "one colour", make.seen(pictures.png(16, 16, 0, 8, (b"\0" + b"\x80" * 16) * 16)), None, 0, "explained: class",
      calls=(flat,)),
    D("D98", "one bad picture among many", make.both(make.seen(b""), *(make.put(name, make.picture) for name in MANY)),
      InputError, 1, "bad.png is empty", argv=f"explain done.onnx {' '.join(AMONG)} -o out/", lines=2,
      calls=(lambda: explain(AMONG, "done.onnx"),), writes=files(*(name[:-4] for name in MANY))),
]  # fmt: skip

ROWS: dict[str, Row] = {row.id: row for row in (*ROWS_A, *ROWS_B, *ROWS_C, *ROWS_D)}


def messages(row: Row) -> list[str]:
    """Return what a row says: in the library, and on the command line where that is more."""
    said = []
    make.folder()
    row.make()
    for call in row.calls:
        try:
            call()
        except Exception as error:  # noqa: BLE001  (whatever it is, it is to be read)
            said.append(f"{type(error).__name__}: {error}")
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
        code = main([os.fsdecode(word).replace("{here}", os.getcwd()) for word in row.command])
    return [*dict.fromkeys(said), *(f"{code}> {line}" for line in err.getvalue().splitlines())]


if __name__ == "__main__":
    for row in ROWS.values():
        if row.nobody or row.slow or not any(row.id.startswith(wanted) for wanted in sys.argv[1:] or [""]):
            continue
        with tempfile.TemporaryDirectory() as home:
            os.mkdir(f"{home}/here")
            os.chdir(f"{home}/here")
            print(f"{row}", *messages(row), sep="\n    ")
            os.chdir("/")
