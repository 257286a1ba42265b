"""Rearrangements: the cotangent is put back where its element came from. All are linear."""

from __future__ import annotations

import numpy as np

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import defvjp, defzero, each, zero
from cam_onnx.autodiff.val import Refused, Val

__all__: list[str] = []

defzero("Shape", "Size", "NonZero", why="sizes and positions")
defzero("Constant", "ConstantOfShape", "EyeLike", why="a constant, of which the input gives the shape")
defzero("MelWeightMatrix", "HannWindow", "HammingWindow", "BlackmanWindow", why="a table: sizes and whole bins")
defzero("NonMaxSuppression", why="which boxes are kept")
defzero("TfIdfVectorizer", "StringNormalizer", "StringConcat", "StringSplit", "RegexFullMatch", why="words")
defzero("ImageDecoder", why="a file")
defzero("BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", why="whole numbers")


def put_back(op: Emitter, g: Val, y: Val, x: Val, *_: Val | None, **__: object) -> Val:
    return op.reshape_like(g, x)


defvjp("Optional", lambda op, g, y, x, **_: g)  # of a tensor; a sequence has no cotangent
defvjp("OptionalGetElement", lambda op, g, y, x: g)
defvjp("Reshape", put_back, None)
defvjp("Flatten", put_back)
defvjp("Squeeze", put_back, None)
defvjp("Unsqueeze", put_back, None)


def transpose(op: Emitter, g: Val, y: Val, x: Val, perm: list[int] | None) -> Val:
    order = perm or list(reversed(range(x.rank)))
    return op.Transpose(g, perm=[order.index(axis) for axis in range(len(order))])


def concat(op: Emitter, i: int, g: Val, y: Val, *xs: Val, axis: int) -> Val:
    axis %= y.rank
    sizes = [op.shape(x, axis, axis + 1) for x in xs[: i + 1]]
    start = op.constant([0])
    for size in sizes[:-1]:
        start = start + size
    return op.Slice(g, start, start + sizes[-1], [axis])


def split(
    op: Emitter, gs: tuple[Val | None, ...], ys: tuple[Val, ...], x: Val, split: Val | None, axis: int, **_: object
) -> Val:
    dtype = next(g.dtype for g in gs if g is not None)
    nothing = op.constant(0.0, dtype)
    parts = [op.Expand(nothing, op.shape(y)) if g is None else g for g, y in zip(gs, ys, strict=True)]
    return op.Concat(*parts, axis=axis)


defvjp("Transpose", transpose)
defvjp("Concat", each(concat))
defvjp("Split", split, None, several=True)


def slice_(op: Emitter, g: Val, y: Val, x: Val, starts: Val, ends: Val, axes: Val | None, steps: Val | None) -> Val:
    """Any start, end and step: slice the positions too, and put each element back at its own."""
    if axes is None:
        count = starts.known.size if starts.known is not None else x.rank
        which = list(range(count))
    elif axes.known is not None:
        which = [int(a) % x.rank for a in axes.known]
    else:
        raise Refused("axes that are known at run time only")
    for i, axis in enumerate(which):
        one = [op.Slice(v, [i], [i + 1], [0]) for v in (starts, ends)]
        step = op.constant([1]) if steps is None else op.Slice(steps, [i], [i + 1], [0])
        size = op.Squeeze(op.shape(x, axis, axis + 1), [0])
        positions = op.Slice(op.Range(0, size, 1), *one, [0], step)
        g = place(op, g, x.rank, axis, positions, size)
    return g


def place(op: Emitter, g: Val, rank: int, axis: int, positions: Val, size: Val) -> Val:
    """Lay the entries of `g` along `axis` at distinct `positions` of `size`, zeros elsewhere."""
    behind = [0] * (2 * rank)
    # position -> which entry; every other position reads the zero that is appended behind the last entry
    if positions.known is not None and size.known is not None:
        at, whole = positions.known, int(size.known.item())
        if at.size and (at == at[0] + np.arange(at.size)).all():
            behind[axis], behind[rank + axis] = int(at[0]), whole - int(at[-1]) - 1
            return op.Pad(g, behind) if any(behind) else g
        known = np.full(whole, at.size, np.int64)
        known[at] = np.arange(at.size)
        entry = op.constant(known)
    else:
        count = op.Shape(positions)
        empty = op.Expand(count, op.Unsqueeze(size, [0]))
        entry = op.ScatterElements(empty, positions, op.Range(0, op.Squeeze(count, [0]), 1), axis=0)
    behind[rank + axis] = 1
    return op.Gather(op.Pad(g, behind), entry, axis=axis)


def add_at(op: Emitter, g: Val, x: Val, axis: int, positions: Val) -> Val:
    """Add the entries of `g` along `axis` into zeros of the shape of `x` at `positions`."""
    shaped = op.Reshape(op.Cast(positions, to=7), [-1 if a == axis else 1 for a in range(x.rank)])
    zeros = op.Expand(op.constant(0.0, g.dtype), op.shape(x))
    return op.ScatterElements(zeros, op.Expand(shaped, op.Shape(g)), g, axis=axis, reduction="add")


def pad_or_cut(op: Emitter, x: Val, pads: Val, axes: Val | None = None, value: float = 0.0) -> Val:
    """Pad where `pads` (all in front, then all behind) is positive, cut where it is negative.

    Pad itself takes negative pads, but not in every runtime.
    """
    more, less = op.Max(pads, [0]), op.Max(-pads, [0])
    if more.known is None or more.known.any():
        x = op.Pad(x, more, value, axes)
    if less.known is None or less.known.any():
        half = op.Shape(axes) if axes is not None else None
        if pads.known is not None:
            n = op.constant([pads.known.size // 2])
        else:
            n = op.Shape(x) if half is None else half
            n = op.Shape(n) if half is None else n
        front = op.Slice(less, [0], n, [0])
        behind = op.Slice(less, n, [WHOLE], [0])
        sizes = op.Shape(x) if axes is None else op.Gather(op.Shape(x), axes)
        x = op.Slice(x, front, sizes - behind, axes)
    return x


WHOLE = 2**31 - 1


def pad(op: Emitter, g: Val, y: Val, x: Val, pads: Val, value: Val | None, axes: Val | None, mode: str) -> Val:
    if mode == "constant":
        return pad_or_cut(op, g, -pads, axes)
    if axes is not None and axes.known is None:
        raise Refused(f"mode {mode} with axes that are known at run time only")
    which = list(range(x.rank)) if axes is None or axes.known is None else [int(a) % x.rank for a in axes.known]
    for i, axis in enumerate(which):
        size = op.shape(x, axis, axis + 1)
        one = op.Concat(*(op.Slice(pads, [at], [at + 1], [0]) for at in (i, i + len(which))), axis=0)
        if one.known is not None and not one.known.any():
            continue
        source = op.Pad(op.Range(0, op.Squeeze(size, [0]), 1), one, mode=mode)  # where each entry was read from
        shaped = op.Reshape(source, [-1 if a == axis else 1 for a in range(x.rank)])
        whole = op.Shape(g)
        target = op.Concat(*(size if a == axis else op.Slice(whole, [a], [a + 1], [0]) for a in range(x.rank)), axis=0)
        zeros = op.Expand(op.constant(0.0, g.dtype), target)
        g = op.ScatterElements(zeros, op.Expand(shaped, whole), g, axis=axis, reduction="add")
    return g


defvjp("Slice", slice_, None, None, None, None)


def pad_value(op: Emitter, g: Val, y: Val, x: Val, pads: Val, value: Val, axes: Val | None, mode: str) -> Val:
    """The sum over what was filled."""
    if mode != "constant":
        return op.Expand(op.constant(0.0, g.dtype), op.shape(value))
    taken = pad_or_cut(op, op.Expand(op.constant(1.0, g.dtype), op.shape(x)), pads, axes)
    return op.Reshape(op.ReduceSum(op.Where(op.Equal(taken, 0.0), g, 0.0), keepdims=0), op.shape(value))


defvjp("Pad", pad, None, pad_value, None)


def depth_to_space(op: Emitter, g: Val, y: Val, x: Val, blocksize: int, mode: str) -> Val:
    depth = op.SpaceToDepth(g, blocksize=blocksize)
    if mode == "DCR":
        return depth
    # SpaceToDepth lays out (block, channel); CRD wants (channel, block)
    block = blocksize * blocksize
    split = op.Reshape(depth, op.Concat([0, block], op.shape(y, 1, 2), [-1], axis=0))
    return op.reshape_like(op.Transpose(split, perm=[0, 2, 1, 3]), x)


def tile(op: Emitter, g: Val, y: Val, x: Val, repeats: Val) -> Val:
    """Sum over the repetitions: each axis is (repeat, entry)."""
    pairs = [part for a in range(x.rank) for part in (op.Slice(repeats, [a], [a + 1], [0]), op.shape(x, a, a + 1))]
    return op.ReduceSum(op.Reshape(g, op.Concat(*pairs, axis=0)), list(range(0, 2 * x.rank, 2)), keepdims=0)


def cum_sum(op: Emitter, g: Val, y: Val, x: Val, axis: Val, exclusive: int, reverse: int) -> Val:
    return op.CumSum(g, axis, exclusive=exclusive, reverse=1 - reverse)


defvjp("DepthToSpace", depth_to_space)


def space_to_depth(op: Emitter, g: Val, y: Val, x: Val, blocksize: int, mode: str = "DCR") -> Val:
    return op.DepthToSpace(g, blocksize=blocksize, mode=mode)


defvjp("SpaceToDepth", space_to_depth)
defvjp("Tile", tile, None)
defvjp("CumSum", cum_sum, None)
defvjp("Trilu", lambda op, g, y, x, k, upper: op.Trilu(g, k, upper=upper), None)


def col2im(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    image: Val,
    block: Val,
    dilations: list[int] | None,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Val:
    """Each column reads its block of the cotangent: along every axis the positions of (tap, block)."""
    axes = y.rank - 2
    pads, strides, dilations = pads or [0] * (2 * axes), strides or [1] * axes, dilations or [1] * axes
    padded = pad_or_cut(op, g, op.constant([0, 0, *pads[:axes], 0, 0, *pads[axes:]]))
    for axis in range(axes):
        size = op.shape(y, axis + 2, axis + 3) + [pads[axis] + pads[axis + axes]]
        taps = op.Squeeze(op.Slice(block, [axis], [axis + 1], [0]), [0])
        count = (op.Squeeze(size, [0]) - (taps - 1) * dilations[axis] - 1) / strides[axis] + 1
        at = op.Unsqueeze(op.Range(0, taps, 1) * [dilations[axis]], [1]) + op.Range(0, count, 1) * [strides[axis]]
        padded = op.Gather(padded, at, axis=2 + 2 * axis)
    first = list(range(2, 2 + 2 * axes, 2))
    return op.reshape_like(op.Transpose(padded, perm=[0, 1, *first, *(a + 1 for a in first)]), x)


defvjp("Col2Im", col2im, None, None)


def cum_prod(op: Emitter, g: Val, y: Val, x: Val, axis: Val, exclusive: int, reverse: int) -> Val:
    """For every factor the products without it: quadratic in the axis, and right where factors are 0."""
    if axis.known is None:
        raise Refused("an axis that is known at run time only")
    along = int(axis.known.item()) % x.rank
    place = op.Range(0, op.Squeeze(op.shape(x, along, along + 1), [0]), 1)
    behind = [1] * (x.rank - along - 1)
    factor, entry = op.Reshape(place, [-1, 1, *behind]), op.Reshape(place, [-1, *behind])
    without = op.Where(op.Equal(factor, entry), 1.0, op.Unsqueeze(x, [along]))
    products = op.CumProd(without, along + 1, exclusive=exclusive, reverse=reverse)
    first, last = (entry, factor) if reverse else (factor, entry)
    reached = op.Less(first, last) if exclusive else op.LessOrEqual(first, last)
    return op.ReduceSum(op.Where(reached, op.Unsqueeze(g, [along]) * products, 0.0), [along + 1], keepdims=0)


def range_delta(op: Emitter, g: Val, y: Val, start: Val, limit: Val, delta: Val, **_: object) -> Val:
    steps = op.Range(0, op.Squeeze(op.Shape(y), [0]), 1)
    return op.ReduceSum(g * op.Cast(steps, to=g.dtype), keepdims=0)


defvjp("CumProd", cum_prod, None)
defvjp("Range", lambda op, g, *_, **__: op.ReduceSum(g, keepdims=0), zero("a count"), range_delta)
