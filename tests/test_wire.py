"""What the wire reader says of a file, and that no bytes make it raise anything but our own errors."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import zipfile

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from cam_onnx import wire
from cam_onnx.errors import CamOnnxError, InvalidModel
from cam_onnx.external import external


def small(**metadata):
    w = onnx.numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    x, y = (oh.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy")
    graph = oh.make_graph([oh.make_node("Add", ["x", "w"], ["y"], name="add")], "g", [x], [y], [w])
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=8)
    oh.set_model_props(model, metadata)
    return model


BYTES = small(cam_onnx="{}", author="ä").SerializeToString()


def test_metadata_is_what_onnx_reads():
    assert wire.metadata(BYTES) == {"cam_onnx": "{}", "author": "ä"}
    assert wire.metadata(small().SerializeToString()) == {}


def test_metadata_copies_no_weights():
    model = small(key="value")
    model.graph.initializer[0].raw_data = bytes(32 << 20)
    data = model.SerializeToString()
    tracemalloc.start()
    assert wire.metadata(data) == {"key": "value"}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_fields_agree_with_protobuf():
    tensor = TensorProto(dims=[-1, 300], data_type=1, float_data=[1.0, 2.0], name="t", double_data=[0.5])
    found = [(f.tag, f.wire, f.number, bytes(f.view)) for f in wire.fields(memoryview(tensor.SerializeToString()))]
    assert found[0] == (1, wire.VARINT, (1 << 64) - 1, b"")
    assert found[1] == (1, wire.VARINT, 300, b"")
    assert (8, wire.BYTES, 0, b"t") in found


def zipped(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 100)
    return stream.getvalue()


def no_graph():
    model = small()
    model.ClearField("graph")
    return model.SerializeToString()


def no_opset():
    model = small()
    model.ClearField("opset_import")
    return model.SerializeToString()


LOOKS = [
    (b"", "the file is empty"),
    (b"hello, world\n" * 10, "a text file"),
    ("Modell für Bilder\n".encode() * 100, "a text file"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    (b"\n<!DOCTYPE html><html><body>404</body></html>", "an HTML or XML page"),
    (zipped("archive/data.pkl", "archive/version"), "a PyTorch file"),
    (zipped("metadata.json", "model.weights.h5"), "a Keras file"),
    (zipped("a.txt"), "a zip archive"),
    (pickle.dumps({"a": 1}), "a Python pickle"),
    (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
    (b"\x1c\0\0\0TFL3" + bytes(100), "TensorFlow Lite"),
    (b"\x20\0\0\0ORTM" + bytes(100), "ONNX Runtime's own format"),
    (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG picture"),
    (b"\x10\0\0\0\0\0\0\0" + b'{"w":{"dtype":0}}' + bytes(10), "a safetensors file"),
    (BYTES[: len(BYTES) // 2], "the model is cut off"),
    (BYTES[:-1], "the model is cut off"),
    (np.random.default_rng(0).bytes(1000), "not an ONNX model"),
    (bytes(1000), "not an ONNX model"),
    (BYTES + b"\0", "not an ONNX model"),
    (no_graph(), "no IR version or no graph"),
    (no_opset(), "no opset import"),
    (BYTES + small().SerializeToString(), "2 graphs"),
    (b"\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "cut off"),
]


@pytest.mark.parametrize(("data", "words"), LOOKS, ids=[words for _, words in LOOKS])
def test_what_is_no_model_is_named(data, words):
    with pytest.raises(InvalidModel) as caught:
        wire.metadata(data, where="a\nb.onnx")
    assert words in str(caught.value)
    assert str(caught.value).startswith(r"a\nb.onnx: ")
    assert str(caught.value).isprintable()


def test_tensors_are_found_wherever_they_stand():
    def const(name, **attributes):
        return oh.make_node("Constant", [], [name], name=name, **attributes)

    def tensor(name):
        return oh.make_tensor(name, TensorProto.FLOAT, [1], [0.0])

    inner = oh.make_graph([const("c", value=tensor("nested"))], "inner", [], [], [tensor("inner_init")])
    graph = oh.make_graph(
        [
            const("a", value=tensor("attribute")),
            oh.make_node("If", ["b"], ["y"], then_branch=inner, else_branch=inner),
            oh.make_node("Custom", [], ["z"], many=[tensor("one"), tensor("two")], graphs=[inner]),
        ],
        "g",
        [],
        [],
        [tensor("init")],
        sparse_initializer=[
            oh.make_sparse_tensor(tensor("values"), oh.make_tensor("indices", TensorProto.INT64, [1], [0]), [3])
        ],
    )
    function = oh.make_function("d", "F", [], ["o"], [const("o", value=tensor("in_function"))], [], [])
    model = oh.make_model(graph, functions=[function])
    names = [TensorProto.FromString(bytes(view)).name for view in wire.tensors(model.SerializeToString())]
    assert sorted(names) == sorted(
        ["attribute", "one", "two", "init", "values", "indices", "in_function"] + 3 * ["nested", "inner_init"]
    )


def length_prefixed(tag, payload):
    size, out = len(payload), bytearray([tag << 3 | 2])
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*out, size]) + payload


def test_deep_nesting_needs_no_recursion():
    graph = b""
    for _ in range(5000):  # graph > node > attribute > graph > ...
        graph = length_prefixed(1, length_prefixed(5, length_prefixed(6, graph)))
    data = b"\x08\x08" + length_prefixed(7, graph) + length_prefixed(8, b"\x10\x11")
    assert external(data + length_prefixed(6, b"location")) == []


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_no_bytes_raise_another_error(data):
    """Cut, overwritten and repeated pieces of a valid model with an external tensor."""
    model = small(a="b")
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "w.bin"
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    raw = bytearray(model.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        piece = data.draw(st.binary(max_size=4))
        match data.draw(st.sampled_from(["cut", "overwrite", "insert", "repeat"])):
            case "cut":
                del raw[at:]
            case "overwrite":
                raw[at : at + len(piece)] = piece
            case "insert":
                raw[at:at] = piece
            case "repeat":
                raw[at:at] = raw[: len(raw) - at]
    for call in (wire.metadata, external):
        try:
            call(bytes(raw))
        except CamOnnxError as error:
            assert str(error).isprintable()  # noqa: PT017


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_random_bytes_are_no_model(raw):
    with pytest.raises(InvalidModel):
        wire.metadata(raw)
