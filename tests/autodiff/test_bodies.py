"""Bodies: what is emitted of them, what is said where a rule is missing inside, and how deep they may be."""

from __future__ import annotations

import cProfile
import pstats
from itertools import pairwise

import numpy as np
import onnx
import onnx.parser
import pytest

from cam_onnx import UnsupportedOperators, autodiff
from cam_onnx.autodiff.model import load
from cam_onnx.autodiff.subgraphs import graphs
from cam_onnx.autodiff.table import RULES, Table
from tests.running import run

X = np.array([[0.5, -1.0, 2.0]], np.float32)
ONE = np.ones((1, 3), np.float32)


def parse(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}, "local": 1, "acme": 1]>\n{text}')


def function(text: str, opset: int = 17) -> str:
    return f'<domain: "local", opset_import: ["": {opset}, "local": 1, "acme": 1]> {text}'


# -- what is emitted -------------------------------------------------------------------------------------------------


def test_the_users_call_stays_and_only_what_is_read_is_computed_again():
    """The rule of Tanh reads its output alone, which is the call's: only Exp is computed again, for Mul."""
    model = parse(
        "g (float[1,3] x) => (float[1,3] y) { y = local.F(x) }\n"
        + function("F (a) => (y) { e = Exp(a) s = Sin(a) m = Mul(e, s) n = Neg(m) y = Tanh(n) }")
    )
    added = autodiff.gradient(model, ["x"], ["y"])
    assert added.graph.node[0] == model.graph.node[0]
    assert added.functions == model.functions
    kinds = [node.op_type for node in added.graph.node[1:]]
    assert kinds.count("Exp") == kinds.count("Sin") == 1
    assert "Tanh" not in kinds


def test_what_is_linear_in_a_loop_records_nothing():
    text = """g (float[1,3] x, int64 n) => (float[1,3] y) { y = Loop<body = b (int64 i, bool c, float[1,3] h) =>
        (bool c1, float[1,3] h1) { c1 = Identity(c) h1 = Mul(h, w) }>(n, , x) }"""
    model = parse(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2], np.float32), "w"))
    added = autodiff.gradient(model, ["x"], ["y"])
    assert [node.op_type for node in added.graph.node].count("Loop") == 2, "the user's and the one backwards"
    [grad] = run(added, {"x": X, "n": np.array(3), "cotangent/y": ONE}, ["grad/x"])
    np.testing.assert_array_equal(grad, 8 * ONE)


def test_what_is_the_same_in_every_iteration_is_computed_once_outside():
    text = """g (float[1,3] x, float[1,3] w, int64 n) => (float[1,3] y) { y = Loop<body = b (int64 i, bool c,
        float[1,3] h) => (bool c1, float[1,3] h1) { c1 = Identity(c) e = Exp(w) h1 = Mul(h, e) }>(n, , x) }"""
    added = autodiff.gradient(parse(text), ["x"], ["y"])
    assert "Exp" in [node.op_type for node in added.graph.node[1:]]
    loaded = load(added)
    inner = [each.op_type for node in list(loaded.graph)[1:] for graph in graphs(node) for each in graph]
    assert "Exp" not in inner


def test_an_added_name_hides_none_of_a_subgraph():
    text = """g (float[1,3] x, bool c) => (float[1,3] y) { t = Tanh(x)
        y = If<then_branch = t1 () => (float[1,3] q) { `grad/t` = Exp(t) q = Mul(`grad/t`, t) },
               else_branch = e () => (float[1,3] r) { r = Neg(t) }>(c) }"""
    model = parse(text.replace("`grad/t`", "grad_t"))
    then = next(a for a in model.graph.node[1].attribute if a.name == "then_branch").g
    then.node[0].output[0] = then.node[1].input[0] = "grad/t"
    added = autodiff.gradient(model, ["x", "t"], ["y"])
    onnx.checker.check_model(added, full_check=True)
    names = [output.name for output in added.graph.output]
    assert names[-1].startswith("grad/t_")


def test_random_numbers_in_a_body_are_not_drawn_again():
    model = parse(
        "g (float[1,3] x) => (float[1,3] y) { y = local.F(x) }\n"
        + function("F (a) => (y) { r = RandomNormalLike(a) m = Mul(a, r) y = Tanh(m) }")
    )
    table = Table(RULES)
    if RULES.find("RandomNormalLike", 17) is None:
        table.defzero("RandomNormalLike")
    with pytest.raises(UnsupportedOperators, match="RandomNormalLike in a body would give other numbers"):
        autodiff.gradient(model, ["x"], ["y"], table)


def test_a_rule_for_a_function_goes_before_its_body():
    model = parse("g (float[1,3] x) => (float[1,3] y) { y = local.F(x) }\n" + function("F (a) => (y) { y = Tanh(a) }"))
    table = Table(RULES)
    table.defvjp("F", lambda op, g, y, x: g * 7.0, domain="local")
    [grad] = run(autodiff.gradient(model, ["x"], ["y"], table), {"x": X, "cotangent/y": ONE}, ["grad/x"])
    np.testing.assert_array_equal(grad, 7 * ONE)


def test_an_output_of_a_call_is_a_value_of_its_own():
    """`v` is computed from `y` inside, but not from the call's output `y`: that has no influence on it."""
    model = parse(
        "g (float[1,3] x) => (float[1,3] y, float[1,3] v) { y, v = local.F(x) }\n"
        + function("F (a) => (y, v) { y = Mul(a, a) v = Mul(y, y) }")
    )
    added = autodiff.gradient(model, ["x", "y"], ["v"])
    of_x, of_y = run(added, {"x": X, "cotangent/v": ONE}, ["grad/x", "grad/y"])
    np.testing.assert_allclose(of_x, 4 * X**3, rtol=1e-6)
    np.testing.assert_array_equal(of_y, 0 * X)


# -- old files -------------------------------------------------------------------------------------------------------


def test_functions_are_raised_with_the_model():
    """Version converters drop them; and ReduceMean of opset 18 takes its axes as an input."""
    model = parse(
        "g (float[1,3] x, int64[k] ax) => (float[1,3] y) { t = local.F(x) m = ReduceMax(t) y = Mul(t, m) }\n"
        + function("F (a) => (y) { m = ReduceMean<axes = [1]>(a) y = Mul(m, a) }", 11),
        opset=11,
    )
    raised = load(model).raise_to(18)
    [body] = raised.proto.functions
    assert [o.version for o in body.opset_import if o.domain == ""] == [18]
    assert [node.op_type for node in body.node] == ["Constant", "ReduceMean", "Mul"]
    feeds = {"x": X, "ax": np.array([1])}
    np.testing.assert_allclose(run(raised.whole(), feeds)[0], run(model, feeds)[0], rtol=1e-6)


@pytest.mark.parametrize("opset", [7, 9, 11])
def test_control_flow_of_old_opsets_is_raised(opset):
    text = """g (float[1,3] x, int64 n, bool c) => (float[1,3] y) {
        t = Loop<body = b (int64 i, bool c0, float[1,3] h) => (bool c1, float[1,3] h1) { c1 = Identity(c0)
            h1 = Sigmoid(h) }>(n, c, x)
        y = If<then_branch = p () => (float[1,3] q) { q = Mul(t, x) }, else_branch = e () => (float[1,3] r)
            { r = Neg(t) }>(c) }"""
    feeds = {"x": X, "n": np.array(2), "c": np.array(True), "cotangent/y": ONE}
    model = parse(text, opset)
    model.ir_version = 4
    [grad] = run(autodiff.gradient(model, ["x"], ["y"]), feeds, ["grad/x"])
    [same] = run(autodiff.gradient(parse(text), ["x"], ["y"]), feeds, ["grad/x"])
    np.testing.assert_allclose(grad, same, rtol=1e-6)


# -- what is missing -------------------------------------------------------------------------------------------------


def test_all_that_is_missing_is_said_at_once_with_where_it_stands():
    model = parse(
        """g (float[1,3] x, bool c) => (float[1,3] y) { a = acme.Odd(x) [block] b = local.F(a)
        y = If<then_branch = p () => (float[1,3] q) { q = acme.Even(b) }, else_branch = e () => (float[1,3] r)
            { r = Neg(b) }>(c) }\n""".replace("[block] ", "")
        + function("F (a) => (y) { s = local.G(a) y = acme.Odd(s) }")
        + function("G (a) => (y) { y = acme.Even(a) }")
    )
    model.graph.node[1].name = "block_3"
    with pytest.raises(UnsupportedOperators) as caught:
        autodiff.gradient(model, ["x"], ["y"])
    assert caught.value.missing == {
        "acme::Odd": ["a", "block_3 (function F) / y"],
        "acme::Even": ["block_3 (function F) / s (function G) / y", "y (then_branch) / q"],
    }
    assert "2 operators between 'x' and 'y'" in str(caught.value)
    assert "Choose a target layer after 'y'" in str(caught.value)


def test_what_is_missing_beside_the_path_does_not_matter():
    model = parse(
        "g (float[1,3] x) => (float[1,3] y) { y, z = local.F(x) }\n"
        + function("F (a) => (y, z) { y = Tanh(a) z = acme.Odd(a) }")
    )
    assert autodiff.gradient(model, ["x"], ["y"]).graph.output[-1].name == "grad/x"


# -- depth -----------------------------------------------------------------------------------------------------------


def calls_of(model: onnx.ModelProto) -> int:
    """Return how many Python functions a differentiation calls: time, without the machine's noise."""
    profile = cProfile.Profile()
    profile.enable()
    autodiff.gradient(model, ["x"], ["y"])
    profile.disable()
    return pstats.Stats(profile).total_calls  # type: ignore[attr-defined]


def consumers(count: int) -> onnx.ModelProto:
    names = ", ".join(f"a{i}" for i in range(count))
    nodes = " ".join(f"a{i} = Tanh(x)" if i % 2 else f"a{i} = Sigmoid(x)" for i in range(count))
    return parse(f"g (float[N,3] x) => (float[N,3] y) {{ {nodes} y = Sum({names}) }}")


def chain(count: int) -> onnx.ModelProto:
    values = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    nodes = " ".join(f"{b} = Tanh({a})" for a, b in pairwise(values))
    return parse(f"g (float[N,3] x) => (float[N,3] y) {{ {nodes} }}")


def called(count: int) -> onnx.ModelProto:
    values = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    nodes = " ".join(f"{b} = local.F({a})" for a, b in pairwise(values))
    body = function("F (a) => (y) { t = Tanh(a) y = Mul(t, a) }")
    return parse(f"g (float[N,3] x) => (float[N,3] y) {{ {nodes} }}\n{body}")


@pytest.mark.parametrize("build", [consumers, chain, called], ids=lambda f: f.__name__)
def test_the_work_is_linear(build):
    calls_of(build(8))  # schemas are read once
    assert calls_of(build(200)) < 2.2 * calls_of(build(100))


def test_200_consumers_of_one_value():
    model = consumers(200)
    [grad] = run(autodiff.gradient(model, ["x"], ["y"]), {"x": X, "cotangent/y": ONE}, ["grad/x"])
    s = 1 / (1 + np.exp(-X))
    np.testing.assert_allclose(grad, 100 * (1 - np.tanh(X) ** 2 + s * (1 - s)), rtol=1e-4)


def test_a_loop_of_1000_iterations():
    text = """g (float[1,3] x, int64 n) => (float[1,3] y) { y = Loop<body = b (int64 i, bool c, float[1,3] h) =>
        (bool c1, float[1,3] h1) { c1 = Identity(c) s = Sin(h) d = Mul(s, k) h1 = Add(h, d) }>(n, , x) }"""
    model = parse(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1e-3, np.float32), "k"))
    [grad] = run(autodiff.gradient(model, ["x"], ["y"]), {"x": X, "n": np.array(1000), "cotangent/y": ONE}, ["grad/x"])
    h, expected = X.astype(float), np.ones((1, 3))
    for _ in range(1000):
        expected, h = expected * (1 + 1e-3 * np.cos(h)), h + 1e-3 * np.sin(h)
    np.testing.assert_allclose(grad, expected, rtol=1e-4)


def test_functions_that_call_one_another_90_deep():
    bodies = [function("F0 (a) => (y) { y = Tanh(a) }")]
    bodies += [function(f"F{i} (a) => (y) {{ t = local.F{i - 1}(a) y = Add(t, a) }}") for i in range(1, 90)]
    model = parse("g (float[1,3] x) => (float[1,3] y) { y = local.F89(x) }\n" + "\n".join(bodies))
    [grad] = run(autodiff.gradient(model, ["x"], ["y"]), {"x": X, "cotangent/y": ONE}, ["grad/x"])
    np.testing.assert_allclose(grad, 89 + 1 - np.tanh(X) ** 2, rtol=1e-5)
