"""Softmax and its logarithm. A row that a mask leaves empty is NaN, and must not spoil what stands in front of it."""

from __future__ import annotations

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import defvjp
from cam_onnx.autodiff.val import Val

__all__: list[str] = []


def softmax(op: Emitter, g: Val, y: Val, x: Val, axis: int) -> Val:
    """A row of nothing but -inf is NaN; where something else is put in its place, nothing comes back to it."""
    if replaced(y):
        y = op.Where(op.IsNaN(y), 0.0, y)
    return y * (g - op.ReduceSum(g * y, [axis]))


def replaced(y: Val) -> bool:
    """Whether a Where reads the value, as attention with a mask does, behind Casts if there are any."""
    stack = [y.value]
    while stack:
        for node in stack.pop().consumers():
            if node.op_type == "Where":
                return True
            if node.op_type == "Cast":
                stack.extend(node.outputs)
    return False


defvjp("Softmax", softmax)
defvjp("LogSoftmax", lambda op, g, y, x, axis: g - op.Exp(y) * op.ReduceSum(g, [axis]))
