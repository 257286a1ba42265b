"""Regions of interest: what is read inside boxes, as a mean or a maximum of each bin.

The mean of a box's samples is a matrix along each axis, of hat functions: (box, bin, pixel).
"""

from __future__ import annotations

import itertools

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.boxes import Boxes, Winners, candidates, crossed, own_image
from cam_onnx.autodiff.rules.taps import floats
from cam_onnx.autodiff.table import defvjp, zero
from cam_onnx.autodiff.val import Val

__all__: list[str] = []


def roi_boxes(
    op: Emitter,
    g: Val,
    x: Val,
    rois: Val,
    coordinate_transformation_mode: str,
    output_height: int,
    output_width: int,
    sampling_ratio: int,
    spatial_scale: float,
) -> tuple[Boxes, Boxes]:
    half = coordinate_transformation_mode == "half_pixel"
    high, wide = op.shape(x, 2, 3), op.shape(x, 3, 4)
    return (
        Boxes.of(op, g, rois, 1, high, output_height, half, sampling_ratio, spatial_scale),
        Boxes.of(op, g, rois, 0, wide, output_width, half, sampling_ratio, spatial_scale),
    )


def summed_by_image(op: Emitter, rows: Val, columns: Val, own: Val) -> Val:
    """Return what boxes add to images: `rows` (R, bins, P) times `columns` (R * bins, Q), summed: (N, P, Q)."""
    parts = op.Unsqueeze(rows, [0]) * op.Unsqueeze(own, [2, 3])
    left = op.Reshape(parts, op.Concat([0, -1], op.Slice(op.Shape(rows), [2], [3], [0]), axis=0))
    return op.MatMul(op.Transpose(left, perm=[0, 2, 1]), columns)


def seen_by_box(op: Emitter, columns: Val, images: Val, own: Val, bins: int) -> Val:
    """Return `columns` (R * bins, Q) times each box's own image (N, Q, P): (R, bins, P)."""
    every = op.MatMul(columns, images)
    shape = op.Concat([0, -1, bins], op.Slice(op.Shape(images), [2], [3], [0]), axis=0)
    return op.ReduceSum(op.Reshape(every, shape) * op.Unsqueeze(own, [2, 3]), [0], keepdims=0)


def bins_first(op: Emitter, v: Val, axis: int) -> Val:
    """Reshape (R, C, H, W), of which `axis` counts bins, to (R * bins, rest); R may be 0, as on a pyramid's level."""
    return op.Flatten(op.Transpose(v, perm=[0, axis, 1, 5 - axis]), axis=2)


def roi_align_x(op: Emitter, g: Val, y: Val, x: Val, rois: Val, batch: Val, mode: str, **box: object) -> Val:
    rows, columns = roi_boxes(op, g, x, rois, **box)  # type: ignore[arg-type]
    if mode == "max":
        return Winners.of(op, x, batch, *align_candidates(op, rows, columns)).spread(op, g, x, batch)
    wide = bins_first(op, op.MatMul(g, op.Unsqueeze(columns.matrix(op), [1])), 2)  # (R * bins, C * W)
    flat = summed_by_image(op, rows.matrix(op), wide, own_image(op, x, batch, g))  # (N, H, C * W)
    shape = op.Concat([0, 0], op.shape(x, 1, 2), op.shape(x, 3, 4), axis=0)
    return op.Transpose(op.Reshape(flat, shape), perm=[0, 2, 1, 3])


def roi_align_rois(op: Emitter, g: Val, y: Val, x: Val, rois: Val, batch: Val, mode: str, **box: object) -> Val:
    rows, columns = roi_boxes(op, g, x, rois, **box)  # type: ignore[arg-type]
    scale = float(box["spatial_scale"])  # type: ignore[arg-type]
    if mode == "max":
        edges = max_edges(op, g, x, batch, rows, columns, scale)
    else:
        own = own_image(op, x, batch, g)
        wide = bins_first(op, op.MatMul(g, op.Unsqueeze(columns.matrix(op), [1])), 2)
        high = bins_first(op, op.MatMul(op.Unsqueeze(op.Transpose(rows.matrix(op), perm=[0, 2, 1]), [1]), g), 3)
        by_row = op.Reshape(op.Transpose(x, perm=[0, 1, 3, 2]), op.Concat([0, -1], op.shape(x, 2, 3), axis=0))
        by_column = op.Reshape(x, op.Concat([0, -1], op.shape(x, 3, 4), axis=0))
        told_rows = seen_by_box(op, wide, by_row, own, int(box["output_height"]))  # type: ignore[call-overload]
        told_columns = seen_by_box(op, high, by_column, own, int(box["output_width"]))  # type: ignore[call-overload]
        top, bottom = rows.slope(op, told_rows, scale)
        left, right = columns.slope(op, told_columns, scale)
        edges = [left, top, right, bottom]
    return op.Concat(*(op.Unsqueeze(edge, [1]) for edge in edges), axis=1)


def two_sides(op: Emitter, axis: Boxes, slopes: bool = False) -> list[tuple[Val, Val]]:
    """Return index and weight (or the weight's slope in the position) of both neighbours of each sample."""
    at, last = axis.inside(op), floats(op, axis.size, axis.at) - 1.0
    low = op.Floor(at)
    part = at - low
    if slopes:
        moves = op.And(op.GreaterOrEqual(axis.at, 0.0), op.Less(axis.at, last))
        right = op.Cast(op.And(axis.live, moves), to=at.dtype)
        sides = [(low, -right), (low + 1.0, right)]
    else:
        sides = [(low, op.Where(axis.live, 1.0 - part, 0.0)), (low + 1.0, op.Where(axis.live, part, 0.0))]
    return [(op.Cast(op.Min(index, last), to=7), weight) for index, weight in sides]


def align_candidates(op: Emitter, rows: Boxes, columns: Boxes) -> tuple[Val, Val, Val]:
    """The maximum of RoiAlign is over the four weighted neighbours of every sample, not over interpolated samples."""
    where, weight = [], []
    for (y, wy), (x, wx) in itertools.product(two_sides(op, rows), two_sides(op, columns)):
        down, right = crossed(op, y, x)
        where.append(candidates(op, down * columns.size + right))
        down, right = crossed(op, wy, wx)
        weight.append(candidates(op, down * right))
    exist = [op.Less(floats(op, op.Range(0, _samples(op, axis), 1), axis.at), axis.count) for axis in (rows, columns)]
    exist = [op.Expand(e, op.Shape(axis.at)) for e, axis in zip(exist, (rows, columns), strict=True)]
    live = candidates(op, op.And(*crossed(op, *exist)))
    return op.Concat(*where, axis=1), op.Concat(*weight, axis=1), op.Concat(*[live] * 4, axis=1)


def _samples(op: Emitter, axis: Boxes) -> Val:
    return op.Squeeze(op.Slice(op.Shape(axis.at), [2], [3], [0]), [0])


def max_edges(op: Emitter, g: Val, x: Val, batch: Val, rows: Boxes, columns: Boxes, scale: float) -> list[Val]:
    winners = Winners.of(op, x, batch, *align_candidates(op, rows, columns))
    told = winners.of_winner(op, winners.seen) * op.Reshape(g, [0, 0, 1, -1]) * scale
    found = []
    for far, axis in ((False, columns), (False, rows), (True, columns), (True, rows)):
        weight = axis.part if axis.free is None else op.Where(op.Unsqueeze(axis.free, [1, 2]), axis.part, 0.0)
        weight = weight if far else 1.0 - weight
        slopes = []
        for (_, wy), (_, wx) in itertools.product(
            two_sides(op, rows, slopes=axis is rows), two_sides(op, columns, slopes=axis is columns)
        ):
            down, right = crossed(op, wy * weight if axis is rows else wy, wx * weight if axis is columns else wx)
            slopes.append(candidates(op, down * right))
        moved = winners.of_winner(op, op.Concat(*slopes, axis=1))
        found.append(op.ReduceSum(told * moved, [1, 2, 3], keepdims=0))
    return found


OLD = "output_half_pixel"  # before 16 there is one way, and no attribute

defvjp("RoiAlign", roi_align_x, roi_align_rois, None)
defvjp(
    "RoiAlign",
    lambda *values, **box: roi_align_x(*values, coordinate_transformation_mode=OLD, **box),
    lambda *values, **box: roi_align_rois(*values, coordinate_transformation_mode=OLD, **box),
    None,
    before=16,
)


def max_roi_pool(op: Emitter, g: Val, y: Val, x: Val, rois: Val, pooled_shape: list[int], spatial_scale: float) -> Val:
    """Bins of whole pixels, whose edges are rounded: the boxes have no slope."""
    sides, lives = [], []
    for axis, bins in enumerate(pooled_shape):
        near, far = (
            op.Floor(op.Slice(floats(op, rois, g), [c], [c + 1], [1]) * spatial_scale + 0.5)
            for c in (2 - axis, 4 - axis)
        )
        size = floats(op, op.shape(x, axis + 2, axis + 3), g)
        width = op.Max(far - near + 1.0, 1.0) / float(bins)
        bin_ = floats(op, op.constant(list(range(bins))), g)
        start = op.Min(op.Max(op.Floor(bin_ * width) + near, 0.0), size)
        end = op.Min(op.Max(op.Ceil((bin_ + 1.0) * width) + near, 0.0), size)
        most = op.Cast(op.Max(op.ReduceMax(end - start, keepdims=0), 1.0), to=7)
        index = op.Unsqueeze(start, [2]) + floats(op, op.Range(0, most, 1), g)
        lives.append(op.Less(index, op.Unsqueeze(end, [2])))
        sides.append(op.Cast(op.Min(index, size - 1.0), to=7))
    down, right = crossed(op, *sides)
    live = candidates(op, op.And(*crossed(op, *lives)))
    batch = op.Squeeze(op.Slice(rois, [0], [1], [1]), [1])
    where = candidates(op, down * op.shape(x, 3, 4) + right)
    return Winners.of(op, x, batch, where, floats(op, live, g), live).spread(op, g, x, batch)  # an empty bin: 0


defvjp("MaxRoiPool", max_roi_pool, zero())
