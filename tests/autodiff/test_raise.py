"""A raised model computes what the original does: where onnx's version converter changes a meaning, it is restored."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from cam_onnx.autodiff.model import load
from cam_onnx.errors import UnsupportedOpset


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("scales", [(1, 1, 2, 2), (1, 1, 1.7, 2.3), (1, 1, 0.6, 0.7)], ids=str)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(("operator", "opset"), [("Upsample", 9), ("Resize", 10)])
def test_upsample_and_the_first_resize_keep_their_coordinates(operator, opset, mode, scales):
    if operator == "Upsample" and min(scales) < 1:
        pytest.skip("Upsample only makes larger")
    model = onnx.parser.parse_model(
        f'<ir_version: 4, opset_import: ["": {opset}]> g (float[n,3,5,4] x) => (float[n,3,a,b] u) '
        f'{{ r = Relu(x) u = {operator}<mode="{mode}">(r, s) }}'
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(scales, np.float32), "s"))
    x = np.random.default_rng(0).random((1, 3, 5, 4)).astype(np.float32)
    # interpolation weights are rounded in another order
    np.testing.assert_allclose(run(load(model).raise_to(13).whole(), x), run(model, x), atol=2e-6)


SCAN = """<ir_version: 4, opset_import: ["": 8]> g (float[b,2] x, float[b,3,2] e, int64[b] n) =>
    (float[b,2] t, float[b,3,2] y) { t, y = Scan<num_scan_inputs=1, directions=[1], body = b (float[2] a, float[2] e) =>
    (float[2] c, float[2] d) { c = Add(a, e) d = Mul(c, e) }>(LENGTHS, x, e) }"""


def test_the_scan_of_opset_8_has_a_batch():
    model = onnx.parser.parse_model(SCAN.replace("LENGTHS", '""').replace(", int64[b] n", ""))
    rng = np.random.default_rng(0)
    feeds = {"x": np.float32(rng.random((2, 2))), "e": np.float32(rng.random((2, 3, 2)))}
    whole, raised = (
        onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)
        for proto in (model, load(model).raise_to(13).whole())
    )
    for ours, theirs in zip(raised, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_the_scan_of_opset_8_with_lengths_is_refused():
    with pytest.raises(UnsupportedOpset, match="Scan with sequence lengths, or in a subgraph, changed at opset 9"):
        load(onnx.parser.parse_model(SCAN.replace("LENGTHS", "n"))).raise_to(13)


NORMAL = """<ir_version: 3, opset_import: ["": 8]> g (float[N,2,3,3] x) => (float[N,2,3,3] y)
    { c = Conv(x, w) y = BatchNormalization<spatial=0>(c, s, b, m, v) }"""


def normal(*shape):
    model, rng = onnx.parser.parse_model(NORMAL), np.random.default_rng(0)
    for name, size in [("w", (2, 2, 1, 1)), *((name, shape) for name in "sbmv")]:
        value = onnx.numpy_helper.from_array(rng.random(size, dtype=np.float32), name)
        model.graph.initializer.append(value)
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, value.data_type, size))
    return model, rng.random((2, 2, 3, 3), dtype=np.float32)


def test_a_normalisation_of_channels_is_one_though_mxnet_said_otherwise():
    """ONNX Runtime takes ``spatial=0`` as 1 where it folds the node into a convolution, and refuses the others."""
    model, x = normal(2)
    np.testing.assert_allclose(run(load(model).raise_to(13).whole(), x), run(model, x), atol=1e-6)


def test_a_normalisation_of_places_is_refused():
    with pytest.raises(UnsupportedOpset, match=r"BatchNormalization 'y' \(Attribute spatial must have value 1\)"):
        load(normal(2, 3, 3)[0]).raise_to(13)


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [1, 2])
def test_a_softmax_below_opset_13_is_of_all_axes_from_one_on(operator, axis):
    """Where it is of the last axis and the rank is known, nothing is flattened: what it reads is found behind it."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 4, opset_import: ["": 9]> g (float[N,12] x) => (float[N,a,b] y)
            <int64[3] to = {{0, 4, 3}}> {{ r = Reshape(x, to) y = {operator}<axis={axis}>(r) }}"""
    )
    x = np.random.default_rng(0).standard_normal((2, 12)).astype(np.float32)
    raised = load(model).raise_to(13).whole()
    behind = [node.op_type for node in raised.graph.node if node.op_type in (operator, "Flatten")]
    assert behind == ["Flatten"] * (operator == "Hardmax" or axis == 1) + [operator]
    np.testing.assert_allclose(run(raised, x), run(model, x), rtol=1e-6)


@pytest.mark.parametrize(
    "node",
    ["Clip<min=0.2, max=0.7>(r)", "Clip<max=0.5>(r)", "Pad<pads=[0,0,0,1], value=0.5>(r)", "Pad<pads=[0,1,0,0]>(r)"],
)
def test_what_was_an_attribute_has_the_type_of_what_is_read(node):
    """The converter writes bounds of float32, which a file of 16 bits cannot read."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 4, opset_import: ["": 9]> g (float16[N,4] x) => (float16[N,a] y)
            {{ r = Relu(x) y = {node} }}"""
    )
    x = np.linspace(0, 1, 8).reshape(2, 4).astype(np.float16)
    np.testing.assert_array_equal(run(load(model).raise_to(13).whole(), x), run(model, x))


def test_an_operator_of_before_the_standard_is_named():
    """The converter's own words for it have holes where names belong."""
    model = onnx.parser.parse_model(
        '<ir_version: 4, opset_import: ["": 7]> g (float[1,3,4,4] x) => (float[1,3,4,4] y) { y = ImageScaler(x) }'
    )
    with pytest.raises(UnsupportedOpset, match=r"cannot raise ImageScaler 'y' \(no operator of the standard\): export"):
        load(model).raise_to(13)
