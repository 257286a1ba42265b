"""The one place that thinks of broadcasting: a cotangent is summed back to its primal's shape."""

from __future__ import annotations

from collections.abc import Sequence

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.val import Val

__all__ = ["sum_to"]


def sum_to(op: Emitter, g: Val, dims: Sequence[int | str | None], x: Val) -> Val:
    """Sum `g`, whose dimensions are `dims`, over the axes along which `x` was broadcast.

    Dimensions that may or may not be equal (two symbols, or unknown) are decided at run time.
    """
    own = x.dims
    lead = len(dims) - len(own)
    summed, unsure = list(range(lead)), False
    for i, (big, small) in enumerate(zip(dims[lead:], own, strict=True), start=lead):
        if small == 1 and big != 1:
            summed.append(i)
        elif big != small or big is None:
            unsure = unsure or not isinstance(small, int)  # a static size above 1 was not broadcast
    if unsure:
        own_shape = op.Shape(x)
        padded = op.Concat([1] * lead, own_shape, axis=0) if lead else own_shape
        axes = op.Reshape(op.NonZero(op.Equal(padded, [1])), [-1])
        return op.Reshape(op.ReduceSum(g, axes, keepdims=1, noop_with_empty_axes=1), own_shape)
    if any(i >= lead for i in summed):
        g = op.ReduceSum(g, [i for i in summed if i >= lead], keepdims=1)
    return op.ReduceSum(g, list(range(lead)), keepdims=0) if lead else g
