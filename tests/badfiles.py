"""What the rows of `tests.badinputs` find in their folder: every function here writes there and returns nothing.

The working folder has `model.onnx` (plain), `done.onnx` (converted), `cat.png`, and after the maker mostly `bad.onnx`,
`bad.png` or `bad.npy`. A file beside the folder, `../secret.bin`, has the bytes that a model would like to read.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnx.helper as oh
import onnx.parser
from onnx import ModelProto, TensorProto

import cam_onnx
from cam_onnx.contract import KEY
from models.builders import BUILDERS
from tests import pictures

Maker = Callable[[], object]
Change = Callable[[ModelProto], object]

LABELS = ["ant", "bee", "cow", "dog", "elk"]
Y, X = np.mgrid[0:24, 0:32]
RGB = np.stack([X * 8, Y * 10, 255 - X * 8], axis=2).astype(np.uint8)


@cache
def plain(name: str = "gap_linear") -> bytes:
    data: bytes = BUILDERS[name]().SerializeToString()
    return data


@cache
def converted() -> bytes:
    return cam_onnx.convert(plain()).to_bytes()


@cache
def picture(suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, RGB[..., ::-1])[1].tobytes()


def folder() -> None:
    """Fill the working folder with what every row finds there."""
    put("model.onnx", plain())()
    put("done.onnx", converted())()
    put("cat.png", picture())()
    put("../secret.bin", weights(load()).raw_data)()


# -- files ------------------------------------------------------------------------------------------------------------


def nothing() -> None:
    pass


def put(name: str | bytes, content: bytes | Callable[[], bytes]) -> Maker:
    def make() -> None:
        with open(name, "wb") as stream:
            stream.write(content if isinstance(content, bytes) else content())

    return make


def bad(content: bytes | Callable[[], bytes]) -> Maker:
    return put("bad.onnx", content)


def link(target: str, name: str = "bad.onnx") -> Maker:
    return lambda: os.symlink(target, name)


def both(*makers: Maker) -> Maker:
    return lambda: [make() for make in makers]


def noise() -> bytes:
    return np.random.default_rng(0).bytes(5000)


def archive(inside: str) -> bytes:
    """Return the start of a zip file with one entry."""
    name = inside.encode()
    return b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name + bytes(100)


def flipped(at: int, value: int) -> Maker:
    """Write the model with one byte of its last weight changed."""

    def make() -> None:
        data = bytearray(plain())
        start = data.index(weights(load()).raw_data)
        data[start + at] = value
        put("bad.onnx", bytes(data))()

    return make


# -- models -----------------------------------------------------------------------------------------------------------


def load(name: str = "gap_linear") -> ModelProto:
    return onnx.load_model_from_string(plain(name))


def weights(model: ModelProto, name: str = "w3") -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def gap(change: Change, name: str = "gap_linear") -> Maker:
    """Write a changed network."""

    def make() -> None:
        model = load(name)
        change(model)
        put("bad.onnx", model.SerializeToString())()

    return make


def filled(value: float) -> Maker:
    """Write the network with its last weights all the same."""
    return gap(lambda m: weights(m).CopyFrom(onnx.numpy_helper.from_array(np.full((5, 8), value, np.float32), "w3")))


def done(change: Change) -> Maker:
    """Write a changed converted network."""

    def make() -> None:
        model = onnx.load_model_from_string(converted())
        change(model)
        put("bad.onnx", model.SerializeToString())()

    return make


def said(value: Callable[[str], str]) -> Maker:
    """Write the converted network with another contract."""

    def change(model: ModelProto) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == KEY)
        entry.value = value(entry.value)

    return done(change)


def contract(**changes: Any) -> Maker:
    return said(lambda text: json.dumps({**json.loads(text), **changes}))


def note(text: str) -> Maker:
    """Write the plain network with somebody else's entry under our key."""
    return gap(lambda m: m.metadata_props.add(key=KEY, value=text))


def text(
    nodes: str, signature: str = "(float[N,3,8,8] x) => (float[N,3] y)", opset: int = 18, functions: str = "",
    imports: str = ""
) -> Maker:  # fmt: skip
    """Write a network given as ONNX text."""
    header = f'<ir_version: 9, opset_import: ["": {opset}{imports}]>'
    return bad(lambda: onnx.parser.parse_model(f"{header}\ng {signature} {{{nodes}}}\n{functions}").SerializeToString())


HEAD = "f = GlobalAveragePool(o) y = Flatten(f)"


def functions(count: int) -> Maker:
    """Write `count` functions, each calling the one before twice: 2 to the power of `count` nodes."""
    bodies = ['<domain: "acme", opset_import: ["": 18]>\nF0 (a) => (b) { b = Relu(a) }']
    bodies += [
        f'<domain: "acme", opset_import: ["": 18, "acme": 1]>\n'
        f"F{i} (a) => (c) {{ b = acme.F{i - 1}(a) c = acme.F{i - 1}(b) }}"
        for i in range(1, count)
    ]
    return text(f"o = acme.F{count - 1}(x) {HEAD}", imports=', "acme": 1', functions="\n".join(bodies))


RECURSION = '<domain: "acme", opset_import: ["": 18, "acme": 1]>\nF (a) => (b) { b = acme.F(a) }'


def nested(depth: int) -> Maker:
    """Write a network with `depth` nested If nodes beside the path."""

    def change(model: ModelProto) -> None:
        def leaf(name: str) -> onnx.NodeProto:
            return oh.make_node("Identity", ["logits"], [name])

        def branch(node: onnx.NodeProto) -> onnx.GraphProto:
            [name] = node.output
            return oh.make_graph([node], f"of_{name}", [], [oh.make_tensor_value_info(name, TensorProto.FLOAT, None)])

        node = leaf("t0")
        for level in range(1, depth + 1):
            node = oh.make_node(
                "If", ["flag"], [f"t{level}"], then_branch=branch(node), else_branch=branch(leaf(f"e{level}"))
            )
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "flag"))
        model.graph.node.append(node)
        model.graph.output.append(oh.make_tensor_value_info(f"t{depth}", TensorProto.FLOAT, None))

    return gap(change)


def chain(count: int) -> Maker:
    """Write a network with `count` nodes in a row before its own."""

    def change(model: ModelProto) -> None:
        nodes = [oh.make_node("Relu", [f"v{i}" if i else "image"], [f"v{i + 1}"]) for i in range(count)]
        first = onnx.NodeProto()
        first.CopyFrom(model.graph.node[0])
        first.input[0] = f"v{count}"
        rest = [*nodes, first, *model.graph.node[1:]]
        del model.graph.node[:]
        model.graph.node.extend(rest)

    return gap(change)


def endless(model: ModelProto) -> None:
    """Add a Loop that never ends, for another output."""
    body = oh.make_graph(
        [oh.make_node("Identity", ["go"], ["go_on"]), oh.make_node("Relu", ["v"], ["w"])],
        "body",
        [
            oh.make_tensor_value_info("i", TensorProto.INT64, []),
            oh.make_tensor_value_info("go", TensorProto.BOOL, []),
            oh.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            oh.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            oh.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(oh.make_node("Loop", ["", "yes", "logits"], ["never"], body=body))
    model.graph.output.append(oh.make_tensor_value_info("never", TensorProto.FLOAT, None))


def sparse(name: str) -> Change:
    """Return a change that makes a weight a sparse initializer."""

    def change(model: ModelProto) -> None:
        [at] = [i for i, tensor in enumerate(model.graph.initializer) if tensor.name == name]
        full = onnx.numpy_helper.to_array(model.graph.initializer[at])
        del model.graph.initializer[at]
        values = onnx.numpy_helper.from_array(full.reshape(-1), name)
        indices = onnx.numpy_helper.from_array(np.arange(full.size), "")
        model.graph.sparse_initializer.append(oh.make_sparse_tensor(values, indices, full.shape))

    return change


def beside(model: ModelProto) -> None:
    """Add a sparse bias to another output."""
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(5, np.float32), "more_bias"))
    model.graph.node.append(oh.make_node("Add", ["logits", "more_bias"], ["more"]))
    model.graph.output.append(oh.make_tensor_value_info("more", TensorProto.FLOAT, ["N", 5]))
    sparse("more_bias")(model)


def call_nodes(name: str) -> Change:
    """Return a change that gives all nodes one name."""

    def change(model: ModelProto) -> None:
        for node in model.graph.node:
            node.name = name

    return change


def two_inputs(model: ModelProto) -> None:
    """Add a second input of the picture's shape."""
    model.graph.input.append(oh.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 3, 16, 16]))
    model.graph.node.insert(0, oh.make_node("Mul", ["image", "mask"], ["masked"]))
    model.graph.node[1].input[0] = "masked"


def called_like_ours(model: ModelProto) -> None:
    """Call a value as the gradient of another would be called."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = {"a": "grad/features", "b": "cam_activations"}.get(name, name)


def odd_input(kind: onnx.TypeProto, operator: str) -> Maker:
    """Write the network with a further input of a type that is no number, for another output."""

    def change(model: ModelProto) -> None:
        model.graph.input.append(oh.make_value_info("odd", kind))
        model.graph.node.append(oh.make_node(operator, ["odd"], ["more"]))
        out = kind if operator == "Identity" else oh.make_tensor_type_proto(TensorProto.INT64, None)
        model.graph.output.append(oh.make_value_info("more", out))

    return gap(change)


FLOATS = oh.make_tensor_type_proto(TensorProto.FLOAT, [None])
STRINGS = oh.make_tensor_type_proto(TensorProto.STRING, [None])
COMPLEX = oh.make_tensor_type_proto(TensorProto.COMPLEX64, [None])
SEQUENCE, OPTIONAL = oh.make_sequence_type_proto(FLOATS), oh.make_optional_type_proto(FLOATS)


# -- external data ----------------------------------------------------------------------------------------------------


def outside(make: Maker = nothing, **entries: str) -> Maker:
    """Write the network with its last weights in `weights.bin`, or where `entries` say."""

    def change(model: ModelProto) -> None:
        tensor = weights(model)
        put("weights.bin", tensor.raw_data)()
        for key, value in {"location": "weights.bin", **entries}.items():
            tensor.external_data.add(key=key, value=value)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL

    return both(gap(change), make)


def absolute() -> None:
    outside(location=os.path.abspath("../secret.bin"))()


def instead(make: Maker) -> Maker:
    """Take the data file away and make something else in its place."""
    return both(lambda: os.remove("weights.bin"), make)


def cache_of_hashes() -> None:
    """Lay model and data out as Hugging Face's cache does: links into a folder of files named after their hashes."""
    outside()()
    os.mkdir("blobs")
    for name, blob in (("bad.onnx", "aa"), ("weights.bin", "bb")):
        os.rename(name, f"blobs/{blob}")
        os.symlink(f"blobs/{blob}", name)


def moved_inside() -> None:
    os.mkdir("sub")
    os.rename("weights.bin", "sub/real.bin")
    os.symlink("sub/real.bin", "weights.bin")


# -- pictures and tensors ---------------------------------------------------------------------------------------------


def seen(content: bytes | Callable[[], bytes], name: str = "bad.png") -> Maker:
    return put(name, content)


def encoded(suffix: str, pixels: Any = RGB) -> bytes:
    if pixels.ndim == 3:  # OpenCV's order is BGR
        pixels = np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])
    return cv2.imencode(suffix, pixels)[1].tobytes()


def bad_crc() -> bytes:
    data = bytearray(picture())
    data[-20] ^= 1
    return bytes(data)


def strip() -> bytes:
    return pictures.png(10_000, 1, 0, 8, b"\0" + bytes(range(250)) * 40)


def spot() -> bytes:
    return pictures.png(1, 1, 2, 8, b"\0\1\2\3")


@cache
def tensor(batch: int = 1) -> Any:
    return np.random.default_rng(0).standard_normal((batch, 3, 16, 16)).astype(np.float32)


def saved(array: Callable[[], Any], name: str = "bad.npy") -> Maker:
    return lambda: np.save(name, array(), allow_pickle=True)


def tensor_of(dtype: str) -> Callable[[], Any]:
    return lambda: tensor().astype(dtype)


def holed(value: float) -> Any:
    array = tensor(2).copy()
    array[1, 2, 3, 4] = value
    return array


def big_endian() -> Any:
    return tensor().astype(">f4")


def strided() -> Any:
    return np.concatenate([tensor(), tensor()], axis=3)[..., ::2].transpose(0, 1, 3, 2)


class Program:
    """Runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


def lying() -> bytes:
    """Return a .npy file whose header says that 2^36 pictures follow."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (68719476736, 3, 16, 16), }"
    header = header.ljust(128 - 11) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(4096)


def zip_bomb() -> None:
    """A megabyte that unpacks to a gigabyte."""
    pack = zlib.compressobj(9, wbits=-15)
    again = pack.compress(bytes(1 << 20)) + pack.flush(zlib.Z_FULL_FLUSH)
    data = again * 1024 + zlib.compressobj(9, wbits=-15).flush()
    entry = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, 0, len(data), 1 << 30, 5, 0) + b"x.npy"
    put("bad.npz", b"PK\x03\x04" + entry + data)()
