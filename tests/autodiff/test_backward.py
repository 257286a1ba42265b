"""The walk: what lies on the path, accumulation, all missing rules at once, and what a failing rule says."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx.parser
import pytest

from cam_onnx import UnsupportedOperators, autodiff
from cam_onnx.autodiff.backward import label, mark
from cam_onnx.autodiff.model import load
from cam_onnx.autodiff.table import RULES, Table, missing
from tests.running import evaluate, run


def model_of(signature: str, nodes: str, opset: int = 18, **weights) -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["": {opset}, "acme": 1]>\ng {signature} {{{nodes}}}'
    model = onnx.parser.parse_model(text)
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return model


def gradients(model, wrt, of, feeds, seeds, table=RULES):
    """Return the gradients that a model with the derivative added computes, from ONNX Runtime."""
    added = autodiff.gradient(model, wrt, of, table)
    onnx.checker.check_model(added, full_check=True)
    everything = {**feeds, **{f"cotangent/{name}": seed for name, seed in seeds.items()}}
    return run(added, everything, [f"grad/{name}" for name in wrt])


X = np.array([[1.0, -2.0, 3.0]], np.float32)
ONE = np.ones((1, 3), np.float32)


def test_fan_out_adds_up():
    model = model_of("(float[1,3] x) => (float[1,3] y)", "a = Mul(x, x)  b = Tanh(x)  c = Add(a, b)  y = Add(c, x)")
    [grad] = gradients(model, ["x"], ["y"], {"x": X}, {"y": ONE})
    np.testing.assert_allclose(grad, 2 * X + 1 - np.tanh(X) ** 2 + 1, rtol=1e-6)


def test_one_value_twice_in_one_node():
    model = model_of("(float[1,3] x) => (float[1,9] y)", "y = Concat<axis=1>(x, x, x)")
    seed = np.arange(9, dtype=np.float32).reshape(1, 9)
    [grad] = gradients(model, ["x"], ["y"], {"x": X}, {"y": seed})
    np.testing.assert_array_equal(grad, seed.reshape(3, 3).sum(0, keepdims=True))


def test_values_that_are_outputs_too():
    """`a` is an output, is differentiated, and lies on the way to `y`."""
    model = model_of("(float[1,3] x) => (float[1,3] a, float[1,3] y)", "a = Mul(x, x)  y = Mul(a, x)")
    of_x, of_a = gradients(model, ["x", "a"], ["a", "y"], {"x": X}, {"a": ONE, "y": 2 * ONE})
    np.testing.assert_allclose(of_a, 1 + 2 * X)
    np.testing.assert_allclose(of_x, 2 * X + 2 * 3 * X**2, rtol=1e-6)


def test_inner_values_and_weights():
    model = model_of("(float[1,3] x) => (float[1,2] y)", "h = MatMul(x, w)  y = Relu(h)", w=np.eye(3, 2, dtype="f4"))
    of_h, of_w = gradients(model, ["h", "w"], ["y"], {"x": X}, {"y": ONE[:, :2]})
    np.testing.assert_array_equal(of_h, [[1, 0]])
    np.testing.assert_array_equal(of_w, X.T @ [[1, 0]])


def test_a_value_without_influence_has_gradient_zero():
    model = model_of(
        "(float[N,3] x, float[N,3] z) => (float[N,3] y)", "f = Floor(z)  s = Shape(x)  u = Mul(x, x)  y = Add(u, f)"
    )
    of_x, of_z = gradients(model, ["x", "z"], ["y"], {"x": X, "z": X}, {"y": ONE})
    np.testing.assert_allclose(of_x, 2 * X)
    np.testing.assert_array_equal(of_z, np.zeros((1, 3)))


def test_several_outputs_some_without_cotangent():
    model = model_of("(float[1,3] x) => (float[1,1] y)", "a, b, c = Split<axis=1, num_outputs=3>(x)  y = Mul(b, b)")
    [grad] = gradients(model, ["x"], ["y"], {"x": X}, {"y": ONE[:, :1]})
    np.testing.assert_array_equal(grad, [[0, -4, 0]])


def test_broadcasting_is_undone_at_run_time_where_sizes_are_symbols():
    model = model_of("(float[N,A] x, float[M,B] z) => (float[P,Q] y)", "y = Mul(x, z)")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for z in (np.ones((2, 3)), 2 * np.ones((1, 3)), 3 * np.ones((2, 1)), 4 * np.ones((1, 1))):
        z = z.astype(np.float32)
        of_x, of_z = gradients(model, ["x", "z"], ["y"], {"x": x, "z": z}, {"y": np.ones((2, 3), np.float32)})
        np.testing.assert_array_equal(of_x, np.broadcast_to(z, (2, 3)))
        axes = tuple(i for i in (0, 1) if z.shape[i] == 1)
        np.testing.assert_array_equal(of_z, x.sum(axes, keepdims=True))


def test_16_bit_primals_have_float32_cotangents():
    model = model_of("(float16[1,3] x) => (float16[1,3] y)", "h = Sigmoid(x)  y = Mul(h, x)")
    added = autodiff.gradient(model, ["x", "h"], ["y"])
    types = {v.name: v.type.tensor_type.elem_type for v in (*added.graph.input, *added.graph.output)}
    assert types["cotangent/y"] == types["grad/x"] == types["grad/h"] == onnx.TensorProto.FLOAT
    inner = {v.name: v.type.tensor_type.elem_type for v in added.graph.value_info}
    assert {inner[y] for n in added.graph.node[2:] for y in n.output if y in inner} == {onnx.TensorProto.FLOAT}
    x = X.astype(np.float16)
    [grad] = run(added, {"x": x, "cotangent/y": 1e5 * ONE}, ["grad/x"])  # 1e5 is infinity in 16 bits
    s = 1 / (1 + np.exp(-x.astype(float)))
    np.testing.assert_allclose(grad, 1e5 * (s + x * s * (1 - s)), rtol=2e-3)  # the primal s has 11 bits


def test_float64_primals_have_float64_cotangents():
    model = model_of("(double[1,3] x) => (double[1,3] y)", "y = Tanh(x)")
    added = autodiff.gradient(model, ["x"], ["y"])
    assert {v.type.tensor_type.elem_type for v in added.graph.output} == {onnx.TensorProto.DOUBLE}
    [_, grad] = evaluate(added, {"x": X.astype(float), "cotangent/y": ONE.astype(float)})
    np.testing.assert_allclose(grad, 1 - np.tanh(X.astype(float)) ** 2, rtol=1e-12)


# -- only what lies between ------------------------------------------------------------------------------------------


def path_of(model, wrt, of, table=RULES):
    loaded = load(model)
    return mark(loaded.graph, [loaded.values[n] for n in wrt], [loaded.values[n] for n in of], loaded.opset, table)


def test_only_nodes_between_are_visited():
    nodes = "a = Relu(x)  b = acme.Odd(a)  c = Exp(a)  d = Mul(c, c)  e = Neg(d)  f = acme.Odd(d)"
    model = model_of("(float[1,3] x) => (float[1,3] e, float[1,3] f, float[1,3] b)", nodes)
    path = path_of(model, ["a"], ["d"])
    assert [label(node) for node in path.nodes] == ["c", "d"]
    assert path.refused == {}, "an operator without a rule elsewhere does not matter"
    assert {v.name for v in path.values} == {"a", "c", "d"}


def test_where_a_derivative_is_lost_is_said():
    model = model_of(
        "(float[1,3] x) => (float[1,3] y)", "a = Floor(x)  b = Cast<to=7>(x)  c = Cast<to=1>(b)  y = Add(a, c)"
    )
    path = path_of(model, ["x"], ["y"])
    assert path.nodes == []
    assert path.lost == ["Floor 'a' has derivative zero", "Cast 'b' gives a type without derivative"]


def test_all_missing_rules_are_reported_at_once():
    nodes = """
        a = acme.Swish(x)
        c = acme.Swish(a)
        d = acme.Odd(c)
        y = Mul(d, d)
        z = acme.Beside(c)
    """
    model = model_of("(float[1,3] x) => (float[1,3] y)", nodes)
    for node, name in zip(model.graph.node, ["", "grid_1", "odd", "", ""], strict=True):
        node.name = name
    with pytest.raises(UnsupportedOperators) as caught:
        autodiff.gradient(model, ["x"], ["y"])
    assert caught.value.missing == {"acme::Swish": ["a", "grid_1"], "acme::Odd": ["odd"]}
    text = str(caught.value)
    assert "2 operators between 'x' and 'y' without a gradient rule" in text
    assert re.search(r"acme::Swish +2 nodes, first 'a'", text)
    assert re.search(r"acme::Odd +1 node, first 'odd'", text)
    assert "Choose a target layer after 'odd'" in text


def test_the_three_kinds_of_nothing():
    model = model_of("(float[1,3] x) => (float[1,3] y)", "y = Tanh(x)")
    for entry, words in (
        (missing("nobody needed it"), r"Tanh \(nobody needed it\)"),
        (None, "input 0 has no derivative"),
    ):
        table = Table(RULES)
        table.defvjp("Tanh", entry)
        with pytest.raises(UnsupportedOperators, match=words):
            autodiff.gradient(model, ["x"], ["y"], table)
    table = Table(RULES)
    table.defzero("Tanh")
    [grad] = gradients(model, ["x"], ["y"], {"x": X}, {"y": ONE}, table)
    np.testing.assert_array_equal(grad, 0 * X)


def test_a_table_is_laid_over_another():
    model = model_of("(float[1,3] x) => (float[1,3] y)", "a = Relu(x)  y = Mul(a, a)")
    guided = Table(RULES)
    guided.defvjp("Relu", lambda op, g, y, x: op.Relu(g))
    [grad] = gradients(model, ["x"], ["y"], {"x": X}, {"y": -ONE}, guided)
    np.testing.assert_array_equal(grad, 0 * X)
    [grad] = gradients(model, ["x"], ["y"], {"x": X}, {"y": -ONE})
    np.testing.assert_array_equal(grad, [[-2, 0, -6]])
    assert guided.find("Mul", 18) is RULES.find("Mul", 18)
    assert RULES.find("Relu", 18) is not guided.find("Relu", 18)


def test_a_rule_of_another_domain_and_of_old_opsets():
    table = Table(RULES)
    table.defvjp("Twice", lambda op, g, y, x: g * 2.0, domain="acme")
    table.defvjp("Twice", lambda op, g, y, x: g * 3.0, domain="acme", before=13)
    model = model_of("(float[1,3] x) => (float[1,3] y)", "y = acme.Twice(x)")
    added = autodiff.gradient(model, ["x"], ["y"], table)
    assert [t for t in added.graph.initializer if onnx.numpy_helper.to_array(t) == 2.0]
    assert table.find("Twice", 12, "acme") is not table.find("Twice", 13, "acme")
    with pytest.raises(ValueError, match="has a rule already"):
        table.defvjp("Twice", None, domain="acme")


def test_a_rule_that_raises_says_where():
    def broken(op, g, y, x):
        raise ZeroDivisionError("oh")

    table = Table(RULES)
    table.defvjp("Tanh", broken)
    model = model_of("(float[1,3] x) => (float[1,3] y)", "h = Relu(x)  y = Tanh(h)")
    model.graph.node[1].name = "the_node"
    with pytest.raises(ZeroDivisionError) as caught:
        autodiff.gradient(model, ["x"], ["y"], table)
    assert caught.value.__notes__ == ["in the gradient of Tanh 'the_node' with respect to input 0 ('h')"]


def test_an_attribute_that_a_rule_does_not_know_is_an_error():
    table = Table(RULES)
    table.defvjp("Softmax", lambda op, g, y, x: g)
    model = model_of("(float[1,3] x) => (float[1,3] y)", "y = Softmax<axis=1>(x)")
    with pytest.raises(TypeError, match="axis") as caught:
        autodiff.gradient(model, ["x"], ["y"], table)
    assert "in the gradient of Softmax 'y'" in caught.value.__notes__[0]


def test_an_unknown_rank_is_refused_with_what_to_do():
    model = model_of("(float[1,3] x) => (float[1,3] y)", "h = acme.Odd(x)  y = Transpose(h)")
    with pytest.raises(UnsupportedOperators, match="needs the rank of 'h', which shape inference did not") as caught:
        autodiff.gradient(model, ["h"], ["y"])
    assert caught.value.missing == {"Transpose": ["y"]}


def test_the_same_bytes_every_time():
    model = model_of("(float[1,3] x) => (float[1,3] y)", "a = Mul(x, x)  b = Tanh(x)  c = Add(a, b)  y = Add(c, x)")
    first, second = (autodiff.gradient(model, ["x", "a"], ["y"]).SerializeToString(deterministic=True) for _ in "ab")
    assert first == second


def test_a_gradient_can_be_differentiated_again():
    model = model_of("(float[1,3] x) => (float[1,3] y)", "a = Mul(x, x)  y = Mul(a, x)")
    once = autodiff.gradient(model, ["x"], ["y"])
    twice = autodiff.gradient(once, ["x"], ["grad/x"])
    feeds = {"x": X, "cotangent/y": ONE, "cotangent/grad/x": ONE}
    [grad] = run(twice, feeds, [twice.graph.output[-1].name])
    np.testing.assert_allclose(grad, 6 * X, rtol=1e-6)


@pytest.mark.parametrize("behind", ["Pow(r, p)", "Div(one, r)", "Log(r)"])
def test_a_mask_stops_an_infinite_cotangent(behind):
    """At 0 these have an infinite slope, and the Relu in front of them has slope 0 there: 0, not 0 * infinity."""
    signature = "(float[1,3] x, float[1] p, float[1,3] one) => (float[1,3] y)"
    model = model_of(signature, f"r = Relu(x)  y = {behind}")
    feeds = {"x": X, "p": np.array([0.3], np.float32), "one": ONE}
    [grad] = gradients(model, ["x"], ["y"], feeds, {"y": ONE})
    assert np.isfinite(grad).all()
    assert grad[0, 1] == 0
    assert (grad[0, [0, 2]] != 0).all()


def test_cotangents_are_annotated_with_the_shapes_of_their_primals():
    """What a runtime infers behind an Expand is unknown sizes; it plans memory and layouts by these."""
    model = model_of("(float[N,2,H,W] x) => (float[N,2,1,1] y)", "a = Relu(x)  b = Mul(a, a)  y = GlobalAveragePool(b)")
    added = autodiff.gradient(model, ["x"], ["y"])
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in added.graph.value_info
    }
    assert shapes["grad/a"] == shapes["grad/b"] == ["N", 2, "H", "W"]
