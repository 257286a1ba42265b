"""The closed formulas have one definition: the same lines that NumPy runs are traced into ONNX nodes, and agree.

`Traced` is an array of the graph with the array-API namespace that the formulas ask their arguments for. What emits a
map into a file needs no second copy of a formula.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from cam_onnx.methods import METHODS
from tests.running import RUNNERS

CLOSED = (
    "cam", "grad-cam", "grad-cam++", "xgrad-cam", "hires-cam", "element-wise-grad-cam", "layer-cam", "activation-map",
)  # fmt: skip


class Traced:
    """A value of a graph that is being written."""

    __array_ufunc__ = None  # NumPy's scalars leave arithmetic to us

    def __init__(self, graph, name, ndim):
        self.graph, self.name, self.ndim = graph, name, ndim

    def __array_namespace__(self):
        def where(condition, a, b):
            return condition.made("Where", a, b)

        def filled(value):
            return lambda like: like.made("Mul", 0.0).made("Add", value)

        return SimpleNamespace(where=where, ones_like=filled(1.0), zeros_like=filled(0.0))

    def made(self, op_type, *others, axes=None, **attributes):
        names = [self.name, *(self.constant(o) if not isinstance(o, Traced) else o.name for o in others)]
        if axes is not None:
            names.append(self.constant(np.array(axes, np.int64)))
        name = f"v{len(self.graph.node)}"
        self.graph.node.append(onnx.helper.make_node(op_type, names, [name], **attributes))
        gone = len(axes) if axes is not None and not attributes.get("keepdims", 1) else 0
        return Traced(self.graph, name, max([self.ndim, *(o.ndim for o in others if isinstance(o, Traced))]) - gone)

    def constant(self, value):
        array = np.asarray(value, None if isinstance(value, np.ndarray) else np.float32)
        name = f"c{len(self.graph.initializer)}"
        self.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        return name

    def swapped(self, op_type, other):
        return Traced(self.graph, self.constant(other), 0).made(op_type, self)

    def sum(self, axis, keepdims=False):
        axes = axis if isinstance(axis, tuple) else (axis,)
        return self.made("ReduceSum", axes=axes, keepdims=int(keepdims))

    def mean(self, axis, keepdims=False):
        axes = axis if isinstance(axis, tuple) else (axis,)
        return self.made("ReduceMean", axes=axes, keepdims=int(keepdims))

    __add__ = lambda a, b: a.made("Add", b)
    __radd__ = lambda a, b: a.swapped("Add", b)
    __mul__ = lambda a, b: a.made("Mul", b)
    __rmul__ = lambda a, b: a.swapped("Mul", b)
    __truediv__ = lambda a, b: a.made("Div", b)
    __rtruediv__ = lambda a, b: a.swapped("Div", b)
    __sub__ = lambda a, b: a.made("Sub", b)
    __neg__ = lambda a: a.made("Neg")
    __abs__ = lambda a: a.made("Abs")
    __gt__ = lambda a, b: a.made("Greater", b)
    __lt__ = lambda a, b: a.made("Less", b)
    __eq__ = lambda a, b: a.made("Equal", b)
    __ne__ = lambda a, b: a.made("Equal", b).made("Not")
    __and__ = lambda a, b: a.made("And", b)
    __hash__ = object.__hash__


def emitted(name, rank):
    """Return a model of activations and gradients to the method's result."""
    graph = onnx.GraphProto(name="method")
    kind = onnx.TensorProto.FLOAT
    for need in ("activations", "gradients"):
        graph.input.append(onnx.helper.make_tensor_value_info(need, kind, [None] * rank))
    entry = METHODS[name]
    result = entry.function(**{need: Traced(graph, need, rank) for need in entry.needs})
    graph.node.append(onnx.helper.make_node("Identity", [result.name], ["result"]))
    graph.output.append(onnx.helper.make_tensor_value_info("result", kind, [None] * result.ndim))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("engine", RUNNERS)
@pytest.mark.parametrize("space", [(6,), (4, 5), (2, 3, 2)], ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize("name", CLOSED)
def test_the_emitted_formula_gives_what_numpy_gives(name, space, engine):
    rng = np.random.default_rng(0)
    A, g = rng.normal(size=(2, 2, 5, *space)).astype(np.float32)
    g[0, 1] = 0  # a channel without gradient, and one without activations
    A[1, 2] = 0
    entry = METHODS[name]
    given = {"activations": A, "gradients": g}
    expected = entry.function(**{need: given[need] for need in entry.needs})
    [found] = RUNNERS[engine](emitted(name, A.ndim), given)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # float32 sums in another order


def test_every_closed_formula_is_plain():
    """What is listed is a method of arrays alone, without options."""
    assert all(METHODS[name].needs and not METHODS[name].calls and not METHODS[name].options for name in CLOSED)
