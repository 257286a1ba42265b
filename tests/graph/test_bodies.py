"""Networks with functions, If and Loop between the layer and the score."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from cam_onnx import LayerNotFound
from cam_onnx.graph.convert import convert
from cam_onnx.graph.head import cut_head
from tests.running import run

TRUNK = "f0 = Conv<pads = [1, 1, 1, 1]>(image, k) f = Relu(f0)"
PLAIN = "p = GlobalAveragePool(f) q = Flatten(p) logits = MatMul(q, b)"
FUNCTION = "logits = local.Head(f, b)"
HEAD = "Head (a, b) => (y) { p = GlobalAveragePool(a) q = Flatten(p) y = MatMul(q, b) }"
LOOP = """p = GlobalAveragePool(f) q = Flatten(p) z = MatMul(q, b) n = Constant<value_int = 3>()
    on = Constant<value = bool {1}>() logits = Loop<body = l (int64 i, bool c, float[N, 5] h) =>
    (bool c1, float[N, 5] h1) { c1 = Identity(c) t = Tanh(h) h1 = Add(t, z) }>(n, on, z)"""
BRANCH = """s = ReduceSum<keepdims = 0>(f) o = Constant<value_float = 0.0>() on = Greater(s, o)
    logits = If<then_branch = t () => (float[N, 5] r) { p = GlobalAveragePool(f) q = Flatten(p) r = MatMul(q, b) },
    else_branch = e () => (float[N, 5] r2) { p2 = GlobalMaxPool(f) q2 = Flatten(p2) r2 = MatMul(q2, b) }>(on)"""


def network(rest: str, *functions: str) -> onnx.ModelProto:
    bodies = " ".join(f'<domain: "local", opset_import: ["": 17]> {f}' for f in functions)
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17, "local": 1]>\n'
        f"g (float[N, 3, 8, 8] image) => (float[N, 5] logits) {{ {TRUNK} {rest} }} {bodies}"
    )
    rng = np.random.default_rng(0)
    for name, shape in (("k", (4, 3, 3, 3)), ("b", (4, 5))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape).astype("f4"), name))
    return model


IMAGE = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)


def explained(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    names = [output.name for output in model.graph.output]
    return dict(zip(names, run(model, {"image": IMAGE}), strict=True))


@pytest.mark.parametrize("nodes", [(FUNCTION, HEAD), (BRANCH,)], ids=["function", "If"])
def test_the_gradient_is_that_of_the_network_written_out(nodes):
    ours, plain = convert(network(*nodes)), convert(network(PLAIN))
    onnx.checker.check_model(ours.model, full_check=True)
    assert ours.contract.layers[0].name == "f"
    a, b = explained(ours.model), explained(plain.model)
    np.testing.assert_allclose(a["cam_gradients"], b["cam_gradients"], rtol=1e-6)
    assert np.abs(a["cam_gradients"]).max() > 0


def test_a_head_that_is_a_function_is_seen_to_be_linear():
    assert convert(network(FUNCTION, HEAD)).contract.layers[0].head == "average-pooling + linear"
    assert convert(network(PLAIN)).contract.layers[0].head == "average-pooling + linear"
    assert convert(network(LOOP)).contract.layers[0].head == "other"


def test_a_layer_before_a_loop():
    converted = convert(network(LOOP), layers="f")
    onnx.checker.check_model(converted.model, full_check=True)
    found = explained(converted.model)
    weights = onnx.numpy_helper.to_array(network(LOOP).graph.initializer[1]).astype(float)
    z = found["cam_activations"].mean((2, 3)) @ weights
    h, slope = z, np.ones_like(z)
    for _ in range(3):
        h, slope = np.tanh(h) + z, slope * (1 - np.tanh(h) ** 2) + 1
    chosen = h.argmax(1)
    expected = slope[np.arange(2), chosen][:, None] * weights[:, chosen].T / 64
    np.testing.assert_allclose(
        found["cam_gradients"], np.broadcast_to(expected[..., None, None], (2, 4, 8, 8)), rtol=1e-4
    )


@pytest.mark.parametrize("nodes", [(FUNCTION, HEAD), (BRANCH,), (LOOP,)], ids=["function", "If", "Loop"])
def test_the_head_is_cut_off(nodes):
    model = network(*nodes)
    head = cut_head(model.SerializeToString(), None, convert(model, layers="f").contract)
    assert head.crossing == ("f",)
    assert head.repeats
    onnx.checker.check_model(head.trunk, full_check=True)
    onnx.checker.check_model(head.head, full_check=True)
    [f] = run(head.trunk, {"image": IMAGE})
    roles = head.contract.roles
    found = run(head.head, {"f": f, roles["target"]: np.array([-1, -1])}, [head.contract.layers[0].gradients])
    np.testing.assert_allclose(found[0], explained(convert(model, layers="f").model)["cam_gradients"], rtol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "name", "words"),
    [
        ((FUNCTION, HEAD), "p", "'p' lies inside function 'Head'"),
        ((BRANCH,), "p2", "'p2' lies inside else_branch of If 'logits'"),
        ((LOOP,), "h1", "'h1' lies inside body of Loop 'logits'"),
    ],
    ids=["function", "If", "Loop"],
)
def test_a_layer_inside_a_body_is_said_to_be_there(nodes, name, words):
    with pytest.raises(LayerNotFound) as caught:
        convert(network(*nodes), layers=name)
    assert words in str(caught.value)
    assert "candidates: f" in str(caught.value)
