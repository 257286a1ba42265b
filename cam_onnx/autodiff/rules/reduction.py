"""Reductions over axes: the cotangent is laid over what was reduced."""

from __future__ import annotations

from collections.abc import Callable

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.elementwise import inverse
from cam_onnx.autodiff.table import defvjp, defzero
from cam_onnx.autodiff.val import Refused, Val

__all__: list[str] = []

defzero("ArgMax", "ArgMin", why="an index")


def spread(op: Emitter, g: Val, x: Val, axes: Val | None, keepdims: int, noop: int) -> Val:
    """Repeat a reduction's cotangent along the reduced axes."""
    empty = no_axes(axes)
    if empty and noop:
        return g
    if not keepdims and not empty:
        g = op.Unsqueeze(g, axes)
    return op.Expand(g, op.shape(x))


def no_axes(axes: Val | None) -> bool:
    """Whether no axes are given: also by an input without entries."""
    if axes is None:
        return True
    if axes.known is not None:
        return axes.known.size == 0
    return axes.value.shape is not None and axes.dims == [0]


def reduce_sum(op: Emitter, g: Val, y: Val, x: Val, axes: Val | None, keepdims: int, noop_with_empty_axes: int) -> Val:
    return spread(op, g, x, axes, keepdims, noop_with_empty_axes)


def reduce_mean(op: Emitter, g: Val, y: Val, x: Val, axes: Val | None, keepdims: int, noop_with_empty_axes: int) -> Val:
    if axes is not None and axes.known is None and not no_axes(axes):  # none may be given at run time, and mean all
        count = op.Size(x) / op.Max(op.Size(y), op.constant(1))
    else:
        count = op.ReduceProd(reduced_sizes(op, x, axes, noop_with_empty_axes), keepdims=0)
    return spread(op, g / op.Cast(count, to=g.dtype), x, axes, keepdims, noop_with_empty_axes)


def reduced_sizes(op: Emitter, x: Val, axes: Val | None, noop: int) -> Val:
    """Return the sizes of the reduced axes, as int64."""
    if axes is None or axes.known is None or no_axes(axes):
        return op.constant([1]) if noop else op.shape(x)
    sizes = [op.shape(x, axis, axis + 1) for axis in (int(a) % x.rank for a in axes.known)]
    return sizes[0] if len(sizes) == 1 else op.Concat(*sizes, axis=0)


def global_average_pool(op: Emitter, g: Val, y: Val, x: Val) -> Val:
    count = op.ReduceProd(op.shape(x, 2), keepdims=0)
    return op.Expand(g / op.Cast(count, to=g.dtype), op.shape(x))


def global_max_pool(op: Emitter, g: Val, y: Val, x: Val) -> Val:
    size = op.ReduceProd(op.shape(x, 2), keepdims=0)
    whole = op.Concat([0, 0], op.Reshape(size, [1]), axis=0)  # -1 would not do for a batch of none
    first = op.ArgMax(op.Reshape(x, whole), axis=2, keepdims=1)  # ties: the first position takes all
    hit = op.Equal(op.Range(0, size, 1), first)
    return op.Where(op.reshape_like(hit, x), g, 0.0)


def axes_of(x: Val, axes: Val | None, noop: int) -> list[int]:
    """Return the reduced axes, where they are known."""
    if axes is None or no_axes(axes):
        return [] if noop else list(range(x.rank))
    if axes.known is None:
        raise Refused("axes that are known at run time only")
    return sorted(int(a) % x.rank for a in axes.known)


def restored(op: Emitter, v: Val, axes: list[int], keepdims: int) -> Val:
    """Give a reduced value its axes back, with one entry each."""
    return v if keepdims or not axes else op.Unsqueeze(v, axes)


def reduce_extreme(
    op: Emitter, g: Val, x: Val, axes: Val | None, keepdims: int, noop: int, argument: str, reduce: str
) -> Val:
    """The first position of the extreme takes all: its place along the last axis, then along the one before, ..."""
    if 0 in x.dims:  # nothing is the extreme of nothing
        return op.Expand(op.constant(0.0, g.dtype), op.shape(x))
    over, best, hit = axes_of(x, axes, noop), x, None
    for axis in reversed(over):
        size = op.Squeeze(op.shape(x, axis, axis + 1), [0])
        place = op.Reshape(op.Range(0, size, 1), [-1 if a == axis else 1 for a in range(x.rank)])
        here = op.Equal(place, getattr(op, argument)(best, axis=axis, keepdims=1))
        hit = here if hit is None else op.And(hit, here)
        best = getattr(op, reduce)(best, [axis], keepdims=1)
    return g if hit is None else op.Where(hit, restored(op, g, over, keepdims), 0.0)


def reduce_max(op: Emitter, g: Val, y: Val, x: Val, axes: Val | None, keepdims: int, noop_with_empty_axes: int) -> Val:
    return reduce_extreme(op, g, x, axes, keepdims, noop_with_empty_axes, "ArgMax", "ReduceMax")


def reduce_min(op: Emitter, g: Val, y: Val, x: Val, axes: Val | None, keepdims: int, noop_with_empty_axes: int) -> Val:
    return reduce_extreme(op, g, x, axes, keepdims, noop_with_empty_axes, "ArgMin", "ReduceMin")


def through(slope: Callable[[Emitter, Val, Val, Val], Val]) -> Callable[..., Val]:
    """A reduction whose derivative is `slope(op, g, y, x)`, with `g` and `y` laid over the reduced axes."""

    def vjp(op: Emitter, g: Val, y: Val, x: Val, axes: Val | None, keepdims: int, noop_with_empty_axes: int) -> Val:
        over = axes_of(x, axes, noop_with_empty_axes)
        return slope(op, restored(op, g, over, keepdims), restored(op, y, over, keepdims), x)

    return vjp


def l2(op: Emitter, g: Val, y: Val, x: Val) -> Val:
    positive = op.Greater(y, 0.0)  # at 0: 0, as PyTorch
    return op.Where(positive, g * x / op.Where(positive, y, 1.0), 0.0)


LOWEST = -3.4e38


def reduce_prod(op: Emitter, g: Val, y: Val, x: Val, axes: Val | None, keepdims: int, noop_with_empty_axes: int) -> Val:
    along = axes_of(x, axes, noop_with_empty_axes)
    if not along:
        return g
    product = op.ReduceProd(without_zeros(op, x), along, keepdims=1)
    zeros = op.ReduceSum(op.Cast(op.Equal(x, 0.0), to=g.dtype), along, keepdims=1)
    return restored(op, g, along, keepdims) * others(op, x, product, zeros)


def without_zeros(op: Emitter, x: Val) -> Val:
    return op.Where(op.Equal(x, 0.0), 1.0, x)


def others(op: Emitter, x: Val, product: Val, zeros: Val) -> Val:
    """Return the product of all factors but `x`, of which `product` has the zeros left out that `zeros` counts."""
    alone = op.And(op.Equal(zeros, 1.0), op.Equal(x, 0.0))
    return op.Where(op.Equal(zeros, 0.0), product / without_zeros(op, x), op.Where(alone, product, 0.0))


defvjp("ReduceMax", reduce_max, None)
defvjp("ReduceMin", reduce_min, None)
defvjp("ReduceL1", through(lambda op, g, y, x: g * op.Sign(x)), None)
defvjp("ReduceL2", through(l2), None)
defvjp("ReduceSumSquare", through(lambda op, g, y, x: g * x * 2.0), None)
defvjp("ReduceLogSum", through(lambda op, g, y, x: op.Expand(g * inverse(op, op.Exp(y)), op.shape(x))), None)
# where all is -infinity: 0
defvjp("ReduceLogSumExp", through(lambda op, g, y, x: g * op.Exp(x - op.Max(y, LOWEST))), None)
defvjp("ReduceProd", reduce_prod, None)
defvjp("ReduceSum", reduce_sum, None)
defvjp("ReduceMean", reduce_mean, None)
defvjp("GlobalAveragePool", global_average_pool)
defvjp("GlobalMaxPool", global_max_pool)
