"""Weights that stay in the bytes that a model came in: written again they are what protobuf writes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from cam_onnx import wire
from cam_onnx.autodiff import weights
from cam_onnx.autodiff.model import load
from cam_onnx.errors import LimitExceeded
from cam_onnx.graph.convert import convert
from tests.running import run

TYPES = [
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT8,
    TensorProto.INT64, TensorProto.COMPLEX64, TensorProto.INT4, TensorProto.STRING,
]  # fmt: skip
LARGE = weights.LARGE // 4 + 1  # elements of float32


def tensor(name, kind, count, raw, doc):
    """A tensor whose numbers stand in the field of its type, or raw."""
    if kind == TensorProto.STRING:
        found = onnx.numpy_helper.from_array(np.array(["text"] * count, object), name)
    else:
        values = np.arange(count, dtype=np.int64) % 7
        found = onnx.helper.make_tensor(name, kind, [count], values.astype(onnx.helper.tensor_dtype_to_np_dtype(kind)))
        if raw:
            found = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(found), name)
    found.doc_string = doc  # behind the data in the file; the name stands before it
    return found


NEG = """<ir_version: 10, opset_import: ["": 21]> g (float[N] x) => (float[N] y) { y = Neg(x) }"""
told = st.tuples(
    st.text("abcä/", min_size=1),
    st.sampled_from(TYPES),
    st.sampled_from([0, 1, LARGE, 3 * weights.LARGE]),
    st.booleans(),
    st.sampled_from(["", "a note"]),
)


@settings(deadline=None)  # of a process that has just begun
@given(st.lists(told, max_size=4, unique_by=lambda one: one[0]))
def test_what_is_lifted_out_comes_back_as_it_was(tensors):
    model = onnx.parser.parse_model(NEG)
    model.graph.initializer.extend(tensor(*one) for one in tensors)
    model.metadata_props.add(key="a", value="b" * 300)
    data = model.SerializeToString(deterministic=True)
    light, held = weights.lift(data)
    proto = onnx.ModelProto.FromString(light)
    assert b"".join(weights.pieces(proto, held)) == data
    assert weights.filled(proto, held) == model
    assert len(light) <= len(data) - sum(len(each.data) for each in held.values())
    as_in_memory = [t for t in model.graph.initializer if t.HasField("raw_data") or t.data_type in (1, 11)]
    assert {t.name for t in as_in_memory if t.ByteSize() > weights.LARGE + 100} <= set(held)


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.BFLOAT16, TensorProto.INT4])
def test_the_view_reads_them(kind, raw):
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[N] x) => (float[N] y) {y = Neg(x)}'
    )
    model.graph.initializer.append(tensor("w", kind, 3 * weights.LARGE, raw, ""))
    loaded = load(model)
    shown = loaded.values["w"].const_value
    expected = onnx.numpy_helper.to_array(model.graph.initializer[0])
    np.testing.assert_array_equal(shown.numpy().astype(float), expected.astype(float))
    assert (shown.dtype, list(shown.shape)) == (kind, [3 * weights.LARGE])


def conv(opset):
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": {opset}]> g (float[N,3,8,8] x) => (float[N,20] y) {{
        c = Conv<pads = [1, 1, 1, 1]>(x, w) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) y = Gemm(f, v) }}"""
    )
    rng = np.random.default_rng(0)
    for name, shape in {"w": (64, 3, 3, 3), "v": (64, 20)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape, np.float32), name))
    return model


@pytest.mark.parametrize("opset", [11, 17])
def test_a_raised_model_has_its_weights(opset):
    model = conv(opset)
    raised = load(model).raise_to(18)
    assert set(raised.weights) == {"w", "v"}
    assert not any(t.HasField("raw_data") for t in raised.proto.graph.initializer)
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8), np.float32)
    np.testing.assert_array_equal(run(raised.whole(), {"x": x})[0], run(model, {"x": x})[0])


def test_a_converted_file_is_what_protobuf_writes():
    made = convert(conv(17))
    assert made.weights
    assert made.to_bytes() == made.model.SerializeToString(deterministic=True)
    assert made.model.graph.initializer[0].raw_data == conv(17).graph.initializer[0].raw_data


def test_a_result_that_is_too_large_for_a_file_is_refused(monkeypatch, tmp_path):
    made = convert(conv(17))
    monkeypatch.setattr(wire, "LONGEST", len(made.to_bytes()) - 1)
    with pytest.raises(LimitExceeded, match="external data"):
        made.save(tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
