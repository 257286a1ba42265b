"""Resize. Along each axis it is a matrix (outputs × inputs); the cotangent is the product with its transpose.

One matrix per resized axis, computed from coordinates: at conversion where sizes are static and small, else in the
graph, where a session folds it. Linear: the weight of input j at coordinate c is max(0, 1 - |c - j|).
"""

from __future__ import annotations

import numpy as np

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import defvjp
from cam_onnx.autodiff.val import Val

__all__: list[str] = []


def resize(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    roi: Val | None,
    scales: Val | None,
    sizes: Val | None,
    antialias: int,
    axes: list[int] | None,
    coordinate_transformation_mode: str,
    cubic_coeff_a: float,
    exclude_outside: int,
    keep_aspect_ratio_policy: str,
    mode: str,
    nearest_mode: str,
    **_: object,  # extrapolation_value: a constant
) -> Val:
    crops = coordinate_transformation_mode == "tf_crop_and_resize"
    which = [a % x.rank for a in axes] if axes else list(range(x.rank))
    common = None
    if scales is None and keep_aspect_ratio_policy != "stretch":
        asked = op.Cast(sizes, to=g.dtype) / op.Cast(op.Gather(op.shape(x), which), to=g.dtype)
        smallest = keep_aspect_ratio_policy == "not_larger"
        common = op.Reshape(op.ReduceMin(asked, keepdims=0) if smallest else op.ReduceMax(asked, keepdims=0), [1])
    for i, axis in enumerate(which):
        if not crops and _untouched(x, y, axis, i, scales):
            continue  # where one scale serves all axes it is 1 if a size stays, but for rounding
        few, many = op.shape(x, axis, axis + 1), op.shape(y, axis, axis + 1)
        if common is not None:
            scale = common
        elif scales is None:
            scale = op.Cast(many, to=g.dtype) / op.Cast(few, to=g.dtype)
        else:
            scale = op.Cast(op.Slice(scales, [i], [i + 1], [0]), to=g.dtype)
        if crops:
            assert roi is not None
            where = _cropped(op, few, many, [op.Slice(roi, [k], [k + 1], [0]) for k in (i, i + len(which))], g)
        else:
            where = _coordinates(op, few, many, scale, coordinate_transformation_mode, g)
        if mode == "nearest":
            matrix = _nearest(op, where, few, nearest_mode, g)
        elif mode == "linear" and not antialias:
            matrix = _linear(op, where, few, g)
        else:
            shrink = op.Min(scale, 1.0) if antialias else op.constant(np.ones(1, g.dtype.numpy()))  # type: ignore[union-attr]
            matrix = _wide(op, where, few, shrink, cubic_coeff_a if mode == "cubic" else None, bool(exclude_outside), g)
        if crops:  # outside the input stands the extrapolation value
            last = op.Cast(few, to=g.dtype) - 1.0
            inside = op.And(op.GreaterOrEqual(where, 0.0), op.LessOrEqual(where, last))
            matrix = matrix * op.Cast(op.Unsqueeze(inside, [1]), to=g.dtype)
        g = _along(op, g, matrix, axis, x.rank)
    return g


def _untouched(x: Val, y: Val, axis: int, index: int, scales: Val | None) -> bool:
    if scales is not None and scales.known is not None:
        return bool(scales.known[index] == 1)
    return x.dims[axis] is not None and x.dims[axis] == y.dims[axis]


def _coordinates(op: Emitter, few: Val, many: Val, scale: Val, how: str, g: Val) -> Val:
    """Return where each output lies on the input's axis, as the standard defines it."""
    at = op.Cast(op.Range(0, op.Squeeze(many, [0]), 1), to=g.dtype)
    length = op.Cast(few, to=g.dtype)
    if how == "align_corners":
        span = op.Cast(many, to=g.dtype) - 1.0
        single = op.Equal(span, 0.0)
        return op.Where(single, 0.0, at * (length - 1.0) / op.Where(single, 1.0, span))
    if how == "asymmetric":
        return at / scale
    centred = (at + 0.5) / scale - 0.5
    if how == "pytorch_half_pixel":
        return op.Where(op.Greater(many, [1]), centred, 0.0)
    if how == "half_pixel_symmetric":
        adjustment = op.Cast(many, to=g.dtype) / (scale * length)
        return length / 2.0 * (1.0 - adjustment) + centred
    if how == "tf_half_pixel_for_nn":
        return (at + 0.5) / scale
    return centred


def _cropped(op: Emitter, few: Val, many: Val, region: list[Val], g: Val) -> Val:
    """Coordinates of tf_crop_and_resize: from the region's start to its end, in parts of the input's length."""
    start, end = (op.Cast(v, to=g.dtype) for v in region)
    last, steps = op.Cast(few, to=g.dtype) - 1.0, op.Cast(many, to=g.dtype) - 1.0
    at = op.Cast(op.Range(0, op.Squeeze(many, [0]), 1), to=g.dtype)
    single = op.Equal(steps, 0.0)
    spread = start * last + at * (end - start) * last / op.Where(single, 1.0, steps)
    return op.Where(single, (start + end) * last * 0.5, spread)


def _linear(op: Emitter, where: Val, few: Val, g: Val) -> Val:
    last = op.Cast(few, to=g.dtype) - 1.0
    inside = op.Min(op.Max(where, 0.0), last)  # beyond the border: the border
    inputs = op.Cast(op.Range(0, op.Squeeze(few, [0]), 1), to=g.dtype)
    return op.Max(1.0 - op.Abs(op.Unsqueeze(inside, [1]) - inputs), 0.0)


def _wide(op: Emitter, where: Val, few: Val, shrink: Val, a: float | None, exclude: bool, g: Val) -> Val:
    """Weights of a kernel that may reach beyond the border: cubic (`a`) or linear, made wider by 1 / `shrink`."""
    reach = op.Cast(op.Ceil((1.0 if a is None else 2.0) / shrink), to=7) + [1]
    every = op.Range(op.Squeeze(-reach, [0]), op.Squeeze(few + reach, [0]), 1)
    t = op.Abs(op.Unsqueeze(where, [1]) - op.Cast(every, to=g.dtype)) * shrink
    if a is None:
        kernel = op.Max(1.0 - t, 0.0)
    else:
        near, far = ((a + 2) * t - (a + 3)) * t * t + 1.0, ((t * a - 5 * a) * t + 8 * a) * t - 4 * a
        kernel = op.Where(op.LessOrEqual(t, 1.0), near, op.Where(op.Less(t, 2.0), far, 0.0))
    if exclude:
        inside = op.And(op.GreaterOrEqual(every, [0]), op.Less(every, few))
        kernel = op.Where(inside, kernel, 0.0)
    kernel = kernel / op.ReduceSum(kernel, [1])
    owner = op.Unsqueeze(op.Min(op.Max(every, [0]), few - [1]), [1])
    return op.MatMul(kernel, op.Cast(op.Equal(owner, op.Range(0, op.Squeeze(few, [0]), 1)), to=g.dtype))


def _nearest(op: Emitter, where: Val, few: Val, how: str, g: Val) -> Val:
    rounded = {
        "floor": lambda: op.Floor(where),
        "ceil": lambda: op.Ceil(where),
        "round_prefer_floor": lambda: op.Ceil(where - 0.5),
        "round_prefer_ceil": lambda: op.Floor(where + 0.5),
    }[how]()
    index = op.Min(op.Max(op.Cast(rounded, to=7), [0]), few - [1])
    inputs = op.Range(0, op.Squeeze(few, [0]), 1)
    return op.Cast(op.Equal(op.Unsqueeze(index, [1]), inputs), to=g.dtype)


def _along(op: Emitter, g: Val, matrix: Val, axis: int, rank: int) -> Val:
    """Contract axis `axis` of `g` with the rows of `matrix`."""
    if axis == rank - 1:
        return op.MatMul(g, matrix)
    if axis == rank - 2:
        return op.MatMul(op.Transpose(matrix, perm=[1, 0]), g)
    order = [a for a in range(rank) if a != axis] + [axis]
    back = [order.index(a) for a in range(rank)]
    return op.Transpose(op.MatMul(op.Transpose(g, perm=order), matrix), perm=back)


defvjp("Resize", resize, None, None, None)
