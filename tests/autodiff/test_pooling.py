"""Pooling over large windows: which of several maxima is meant, and how the added nodes grow."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from cam_onnx import autodiff
from tests.running import run


def pool(operator: str, attributes: str, outputs: str = "y") -> onnx.ModelProto:
    text = f"{outputs} = {operator}<{attributes}>(x)"
    given = ", ".join(
        f"{kind} {name}" for kind, name in zip(("float[n,c,p,q]", "int64[n,c,p,q]"), outputs.split(","), strict=False)
    )
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g (float[2,3,19,23] x) => ({given}) {{ {text} }}'
    )


@pytest.mark.parametrize(
    "attributes",
    [
        "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]",
        "kernel_shape=[5,5], pads=[2,2,2,2]",
        "kernel_shape=[4,6], strides=[3,2], dilations=[2,3], pads=[1,2,3,0]",
        "kernel_shape=[13,1], strides=[1,2]",
        'kernel_shape=[5,4], strides=[3,3], auto_pad="SAME_LOWER"',
        "kernel_shape=[7,5], strides=[4,4], ceil_mode=1",
    ],
)
def test_of_several_maxima_the_first_takes_all(attributes):
    """As ONNX Runtime's Indices say, which the gradient does not ask for."""
    x = np.random.default_rng(0).integers(0, 3, (2, 3, 19, 23)).astype(np.float32)
    y, at = run(pool("MaxPool", attributes, "y,at"), {"x": x})
    g = np.asarray(np.random.default_rng(1).integers(-9, 9, y.shape), np.float32)
    expected = np.zeros(x.size, np.float32)
    np.add.at(expected, at.ravel(), g.ravel())
    model = autodiff.gradient(pool("MaxPool", attributes), ["x"], ["y"])
    [grad] = run(model, {"x": x, "cotangent/y": g}, ["grad/x"])
    np.testing.assert_array_equal(grad, expected.reshape(x.shape))


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_nodes_do_not_grow_with_the_taps_of_a_window(operator):
    """Four times the taps: with their roots at most, which is twice."""

    def added(size: int) -> int:
        model = pool(operator, f"kernel_shape=[{size},{size}], strides=[3,3], pads=[4,4,4,4]")
        return len(autodiff.gradient(model, ["x"], ["y"]).graph.node)

    assert added(16) <= 2.1 * added(8)
