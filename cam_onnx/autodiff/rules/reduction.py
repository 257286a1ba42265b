"""Reductions over axes: the cotangent is laid over what was reduced."""

from __future__ import annotations

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import defvjp, defzero
from cam_onnx.autodiff.val import Val

__all__: list[str] = []

defzero("ArgMax", "ArgMin")


def spread(op: Emitter, g: Val, x: Val, axes: Val | None, keepdims: int, noop: int) -> Val:
    """Repeat a reduction's cotangent along the reduced axes."""
    empty = axes is None or (axes.known is not None and axes.known.size == 0)
    if empty and noop:
        return g
    if not keepdims and not empty:
        g = op.Unsqueeze(g, axes)
    return op.Expand(g, op.shape(x))


def reduce_sum(op: Emitter, g: Val, y: Val, x: Val, axes: Val | None, keepdims: int, noop_with_empty_axes: int) -> Val:
    return spread(op, g, x, axes, keepdims, noop_with_empty_axes)


def reduce_mean(op: Emitter, g: Val, y: Val, x: Val, axes: Val | None, keepdims: int, noop_with_empty_axes: int) -> Val:
    count = op.ReduceProd(reduced_sizes(op, x, axes, noop_with_empty_axes), keepdims=0)
    return spread(op, g / op.Cast(count, to=g.dtype), x, axes, keepdims, noop_with_empty_axes)


def reduced_sizes(op: Emitter, x: Val, axes: Val | None, noop: int) -> Val:
    """Return the sizes of the reduced axes, as int64."""
    if axes is None or (axes.known is not None and axes.known.size == 0):
        return op.constant([1]) if noop else op.shape(x)
    if axes.known is None:
        return op.Gather(op.shape(x), axes)
    sizes = [op.shape(x, axis, axis + 1) for axis in (int(a) % x.rank for a in axes.known)]
    return sizes[0] if len(sizes) == 1 else op.Concat(*sizes, axis=0)


def global_average_pool(op: Emitter, g: Val, y: Val, x: Val) -> Val:
    count = op.ReduceProd(op.shape(x, 2), keepdims=0)
    return op.Expand(g / op.Cast(count, to=g.dtype), op.shape(x))


def global_max_pool(op: Emitter, g: Val, y: Val, x: Val) -> Val:
    flat = op.Reshape(x, [0, 0, -1])
    first = op.ArgMax(flat, axis=2, keepdims=1)  # ties: the first position takes all
    size = op.ReduceProd(op.shape(x, 2), keepdims=0)
    hit = op.Equal(op.Range(0, size, 1), first)
    return op.Where(op.reshape_like(hit, x), g, 0.0)


defvjp("ReduceSum", reduce_sum, None)
defvjp("ReduceMean", reduce_mean, None)
defvjp("GlobalAveragePool", global_average_pool)
defvjp("GlobalMaxPool", global_max_pool)
