"""Graphs that are not well-formed: one row a fault, in a graph, a subgraph or a function. Text is read by onnx."""

from __future__ import annotations

import onnx
import onnx.parser
import pytest

from cam_onnx.autodiff.check import check
from cam_onnx.errors import InvalidModel
from models.builders import BUILDERS

BRANCHES = "then_branch = t () => (float[N] {out}) {{ {then} }}, else_branch = e () => (float[N] q) {{ q = Neg(a) }}"


def graph(nodes, functions=""):
    text = f'<ir_version: 9, opset_import: ["": 18, "acme": 1]>\ng (float[N] x, bool c) => (float[N] y) {{{nodes}}}'
    return onnx.parser.parse_model(f"{text}\n{functions}")


def branch(then, out="p"):
    return graph(f"a = Relu(x) y = If<{BRANCHES.format(then=then, out=out)}>(c)")


def function(body):
    return graph("y = acme.F(x)", f'<domain: "acme", opset_import: ["": 18]>\nF (a) => (b) {{ {body} }}')


GOOD = {
    "names of an outer graph": branch("p = Relu(a)"),
    "a name of an inner graph, again outside": branch("z = Relu(x) p = Relu(z)"),
    "a custom operator": graph("y = acme.Relu<alpha=1>(x, x)"),
    "a reference to an attribute of a function": onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 18, "acme": 1]>\ng (float[N] x) => (float[N] y) {y = acme.F<k=2.0>(x)}\n'
        '<domain: "acme", opset_import: ["": 18]>\nF<k> (a) => (b) { b = Elu<alpha: float = @k>(a) }'
    ),
    "a function": function("h = Relu(a) b = Neg(h)"),
    "missing optional inputs": graph("y = Clip(x, , x)"),
    **{name: BUILDERS[name]() for name in ("gap_linear", "opset7", "silu_se")},
}

BAD = {
    "unsorted": (graph("y = Relu(h) h = Neg(x)"), "reads 'h', which nothing before it gives: the nodes are not"),
    "a circle": (graph("h = Add(x, y) y = Relu(h)"), "reads 'y', which nothing before it gives: the nodes form"),
    "of itself": (graph("y = Add(x, y)"), "the nodes form a circle"),
    "a ghost": (graph("y = Relu(ghost)"), "no node, input or initializer has that name"),
    "twice": (graph("y = Relu(x) y = Neg(x)"), "value 'y' is given twice"),
    "an input, again": (graph("x = Relu(c) y = Neg(x)"), "value 'x' is given twice"),
    "no such output": (graph("z = Relu(x)"), "output 'y' is given by no node"),
    "an unknown attribute": (graph("y = Relu<alpha=1>(x)"), "'y' (Relu) has an attribute 'alpha', which the operator"),
    "an attribute of another type": (graph("y = Elu<alpha=1>(x)"), "an attribute 'alpha' of kind int, expected float"),
    "an attribute twice": (graph("y = Elu<alpha=1.0, alpha=2.0>(x)"), "has the attribute 'alpha' twice"),
    "an attribute missing": (graph("y = Cast(x)"), "lacks the attribute 'to'"),
    "too many inputs": (graph("y = Relu(x, x)"), "has 2 inputs, the operator takes 1"),
    "too few inputs": (graph("y = Add(x)"), "has 1 inputs, the operator takes 2"),
    "too many outputs": (graph("y, z = Relu(x)"), "has 2 outputs, the operator takes 1"),
    "a fault in a subgraph": (branch("p = Elu<alpha=1>(a)"), "node 'p' (Elu) has an attribute 'alpha'"),
    "a fault in a function": (function("b = Elu<alpha=1>(a)"), "function 'F': node 'b' (Elu) has an attribute 'alpha'"),
    "a ghost in a subgraph": (branch("p = Relu(ghost)"), "reads 'ghost'"),
    "unsorted in a subgraph": (branch("p = Relu(h) h = Neg(a)"), "the nodes are not sorted"),
    "an inner name outside": (
        graph(f"a = Relu(x) z = If<{BRANCHES.format(then='p = Relu(a)', out='p')}>(c) y = Neg(p)"), "reads 'p'"),
    "no such output in a subgraph": (branch("p = Relu(a)", out="o"), "output 'o' is given by no node"),
    "a ghost in a function": (function("b = Relu(ghost)"), "function 'F': node 'b' (Relu) reads 'ghost'"),
    "no such output in a function": (function("h = Relu(a)"), "function 'F': output 'b' is given by no node"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good(name):
    check(GOOD[name], "m.onnx")


@pytest.mark.parametrize("name", BAD)
def test_bad(name):
    model, words = BAD[name]
    with pytest.raises(InvalidModel) as caught:
        check(model, "m.onnx")
    assert words in str(caught.value)
    assert str(caught.value).startswith("m.onnx: ")


@pytest.mark.parametrize("old", [b"Conv", b"features", b"w1", b"strides", b"Relu_1"])
def test_names_that_are_not_utf8(old):
    data = BUILDERS["gap_linear"]().SerializeToString()
    assert old in data
    model = onnx.load_model_from_string(data.replace(old, b"\xff" * len(old)))
    with pytest.raises(InvalidModel, match=r"the name '(\\+udcff)+' is not UTF-8"):
        check(model, "m.onnx")
