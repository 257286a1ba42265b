"""Reading an image between its pixels: at the points of a grid, in boxes, at displaced taps.

A point reads a few neighbours along every axis; its weight at a neighbour is a product over the axes. The cotangent
of the image adds the weights back where they were read; the cotangent of the point exchanges one axis' weights by
their slopes. At a neighbour's own position the slope is the one on its right.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.windows import Windows
from cam_onnx.autodiff.table import defvjp, zero
from cam_onnx.autodiff.val import Val

__all__: list[str] = []


@dataclass(frozen=True)
class Tap:
    """One neighbour along one axis: its position, int64 and inside the image, and its weight (or the slope of it)."""

    index: Val
    weight: Val


Taps = list[Tap]


def stacked(op: Emitter, parts: Sequence[Val]) -> Val:
    """Stack (B, P) values to (B, T, P)."""
    rows = [op.Unsqueeze(part, [1]) for part in parts]
    return op.Concat(*rows, axis=1) if len(rows) > 1 else rows[0]


def positions(op: Emitter, axes: Sequence[Taps], sizes: Val) -> Val:
    """Return where every combination of taps lies in the flattened image: (B, T, P)."""
    found = []
    for corner in itertools.product(*axes):
        flat = corner[0].index
        for axis, tap in enumerate(corner[1:], start=1):
            flat = flat * op.Slice(sizes, [axis], [axis + 1], [0]) + tap.index
        found.append(flat)
    return stacked(op, found)


def weights(op: Emitter, axes: Sequence[Taps]) -> Val:
    """Return the weight of every combination of taps: (B, T, P)."""
    found = []
    for corner in itertools.product(*axes):
        product = corner[0].weight
        for tap in corner[1:]:
            product = product * tap.weight
        found.append(product)
    return stacked(op, found)


def read(op: Emitter, image: Val, where: Val) -> Val:
    """Read (B, C, S) at (B, T, P): (B, C, T, P)."""
    flat = op.Reshape(where, [0, 1, -1])
    rows = op.Concat(op.Slice(op.Shape(image), [0], [2], [0]), [1], axis=0)
    found = op.GatherElements(image, op.Expand(flat, rows), axis=2)
    return op.Reshape(found, op.Concat([0, 0], op.Slice(op.Shape(where), [1], [3], [0]), axis=0))


def splat(op: Emitter, values: Val, where: Val, shape: Val) -> Val:
    """Add (B, C, T, P) into zeros of `shape` (B, C, S) at (B, T, P): the transpose of `read`."""
    flat = op.Reshape(values, [0, 0, -1])
    target = op.Expand(op.Reshape(where, [0, 1, -1]), op.Shape(flat))
    return op.ScatterElements(op.Expand(op.constant(0.0, values.dtype), shape), target, flat, axis=2, reduction="add")


def floats(op: Emitter, v: Val, g: Val) -> Val:
    return op.Cast(v, to=g.dtype)


# GridSample: coordinates outside are first brought inside (border, reflection), then each neighbour for itself.


def reflected(op: Emitter, at: Val, low: Val, high: Val) -> tuple[Val, Val]:
    """Return `at` folded at both bounds as often as needed, and the sign that this gives a slope."""
    width = op.Max(high - low, 1e-6)  # an image of one pixel
    turn = (at - low) / (width * 2.0)
    turned = (turn - op.Floor(turn)) * (width * 2.0)
    one = op.constant(1.0, at.dtype)
    return low + width - op.Abs(turned - width), op.Where(op.Less(turned, width), one, -one)


@dataclass(frozen=True)
class Grid:
    """One axis of a grid: coordinates in pixels (B, P), and the slope of each in what the grid says."""

    at: Val
    slope: Val
    size: Val
    bounds: tuple[Val, Val]

    @classmethod
    def of(cls, op: Emitter, said: Val, size: Val, align_corners: int, mode: str, padding: str) -> Grid:
        length = floats(op, size, said)
        scale = (length - 1.0) / 2.0 if align_corners else length / 2.0
        low = op.constant(0.0, said.dtype) if align_corners else op.constant(-0.5, said.dtype)
        high = length - 1.0 if align_corners else length - 0.5
        at = (said + 1.0) * scale if align_corners else (said + 1.0) * scale - 0.5
        if mode == "nearest":
            at = op.Round(at)
        slope = scale
        inside = op.And(op.GreaterOrEqual(at, low), op.LessOrEqual(at, high))
        if padding == "border" and mode != "cubic":  # as PyTorch and ONNX Runtime: its neighbours are brought inside
            at = op.Where(inside, at, op.Min(op.Max(at, 0.0), length - 1.0))
            slope = op.Where(inside, slope, 0.0)
        elif padding == "reflection":
            folded, sign = reflected(op, at, low, high)
            at, slope = op.Where(inside, at, folded), op.Where(inside, slope, slope * sign)
        return cls(at, slope, size, (low, high))

    def taps(self, op: Emitter, mode: str, padding: str, slopes: bool = False) -> Taps:
        """Return the neighbours, with weights or with the slopes of the weights."""
        low = op.Round(self.at) if mode == "nearest" else op.Floor(self.at)
        part = self.at - low
        if mode == "nearest":
            found = [(0.0, part * 0.0 + 1.0)]
        elif mode == "linear":
            right = op.constant(1.0, part.dtype)
            found = [(0.0, -right if slopes else 1.0 - part), (1.0, right if slopes else part)]
        else:
            found = [(shift, cubic(part - shift, shift, slopes)) for shift in (-1.0, 0.0, 1.0, 2.0)]
        last = floats(op, self.size, part) - 1.0
        taps = []
        for shift, weight in found:
            index = low + shift if shift else low
            if padding == "zeros":
                inside = op.And(op.GreaterOrEqual(index, 0.0), op.LessOrEqual(index, last))
                weight = op.Where(inside, weight, 0.0)
            elif padding == "reflection":
                index = op.Round(reflected(op, index, *self.bounds)[0])
            taps.append(Tap(op.Cast(op.Min(op.Max(index, 0.0), last), to=7), weight))
        return taps


def cubic(distance: Val, shift: float, slope: bool, a: float = -0.75) -> Val:
    """The cubic convolution kernel (Keys 1981) at `distance` from the neighbour that lies `shift` from the floor."""
    t = distance if shift <= 0 else -distance  # not negative
    if shift in (0.0, 1.0):
        value = (3 * (a + 2) * t - 2 * (a + 3)) * t if slope else ((a + 2) * t - (a + 3)) * t * t + 1.0
    else:
        value = (3 * a * t - 10 * a) * t + 8 * a if slope else ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return -value if slope and shift > 0 else value


def grid_axes(op: Emitter, x: Val, grid: Val, g: Val, align_corners: int, mode: str, padding: str) -> list[Grid]:
    """One entry a spatial axis of `x`; a grid's last axis counts them from the last."""
    n = x.rank - 2
    flat = op.Reshape(floats(op, grid, g), [0, -1, n])
    parts = [op.Squeeze(op.Slice(flat, [n - 1 - a], [n - a], [2]), [2]) for a in range(n)]
    return [Grid.of(op, part, op.shape(x, a + 2, a + 3), align_corners, mode, padding) for a, part in enumerate(parts)]


def grid_sample_x(
    op: Emitter, g: Val, y: Val, x: Val, grid: Val, align_corners: int, mode: str, padding_mode: str
) -> Val:
    mode = mode.removeprefix("bi")  # bilinear and bicubic before 20
    axes = grid_axes(op, x, grid, g, align_corners, mode, padding_mode)
    taps = [axis.taps(op, mode, padding_mode) for axis in axes]
    shares = op.Unsqueeze(op.Reshape(g, [0, 0, -1]), [2]) * op.Unsqueeze(weights(op, taps), [1])
    size = op.ReduceProd(op.shape(x, 2), keepdims=1)
    flat = splat(op, shares, positions(op, taps, op.shape(x, 2)), op.Concat(op.shape(x, 0, 2), size, axis=0))
    return op.reshape_like(flat, x)


def grid_sample_grid(
    op: Emitter, g: Val, y: Val, x: Val, grid: Val, align_corners: int, mode: str, padding_mode: str
) -> Val:
    mode = mode.removeprefix("bi")
    if mode == "nearest":  # steps
        return op.Expand(op.constant(0.0, g.dtype), op.shape(grid))
    axes = grid_axes(op, x, grid, g, align_corners, mode, padding_mode)
    taps = [axis.taps(op, mode, padding_mode) for axis in axes]
    seen = read(op, op.Reshape(x, [0, 0, -1]), positions(op, taps, op.shape(x, 2)))
    told = op.ReduceSum(seen * op.Unsqueeze(op.Reshape(g, [0, 0, -1]), [2]), [1], keepdims=0)
    found = []
    for a, axis in enumerate(axes):
        sloped = [axis.taps(op, mode, padding_mode, slopes=True) if i == a else t for i, t in enumerate(taps)]
        found.append(op.ReduceSum(told * weights(op, sloped), [1], keepdims=0) * axis.slope)
    return op.reshape_like(op.Concat(*(op.Unsqueeze(v, [2]) for v in reversed(found)), axis=2), grid)


defvjp("GridSample", grid_sample_x, grid_sample_grid)


# RoiAlign. The average of a box's samples is a matrix along each axis, of hat functions: (box, bin, pixel).


@dataclass(frozen=True)
class Boxes:
    """The samples of all boxes along one axis.

    Attributes
    ----------
    at : Val
        (R, bins, K): where they lie, in pixels.
    live : Val
        (R, bins, K), bool: which exist, and lie on the image or at most one pixel beside it.
    count : Val
        (R, 1, 1): how many there are in a bin.
    part : Val
        (R, bins, K): which part of the box's extent lies in front of a sample.
    free : Val or None
        (R,): where the extent follows the box; a box smaller than a pixel counts as one.
    """

    at: Val
    live: Val
    count: Val
    part: Val
    free: Val | None
    size: Val

    @classmethod
    def of(
        cls, op: Emitter, g: Val, rois: Val, near: int, size: Val, bins: int, half: bool, ratio: int, scale: float
    ) -> Boxes:
        start, end = (
            op.Squeeze(op.Slice(floats(op, rois, g), [c], [c + 1], [1]), [1]) * scale - 0.5 * half
            for c in (near, near + 2)
        )
        extent, free = end - start, None
        if not half:
            extent, free = op.Max(extent, 1.0), op.Greater(extent, 1.0)
        extent, start = op.Unsqueeze(extent, [1, 2]), op.Unsqueeze(start, [1, 2])
        if ratio > 0:
            count = most = op.constant(float(ratio), g.dtype)
        else:  # as many as the bin has pixels: of each box its own number
            count = op.Max(op.Ceil(extent / float(bins)), 0.0)
            most = op.Max(op.ReduceMax(count, keepdims=0), 1.0)
        index = floats(op, op.Range(0, op.Cast(most, to=7), 1), g)
        bin_ = floats(op, op.constant(list(range(bins))), g)
        part = (op.Unsqueeze(bin_, [1]) + (index + 0.5) / op.Max(count, 1.0)) / float(bins)
        at = start + extent * part
        live = op.And(op.GreaterOrEqual(at, -1.0), op.LessOrEqual(at, floats(op, size, g)))
        return cls(at, op.And(live, op.Less(index, count)), op.Max(count, 1.0), part, free, size)

    def inside(self, op: Emitter) -> Val:
        return op.Min(op.Max(self.at, 0.0), floats(op, self.size, self.at) - 1.0)

    def matrix(self, op: Emitter) -> Val:
        """Return the mean weight of each pixel in each bin: (R, bins, pixels)."""
        pixels = floats(op, op.Range(0, op.Squeeze(self.size, [0]), 1), self.at)
        hats = op.Max(1.0 - op.Abs(op.Unsqueeze(self.inside(op), [3]) - pixels), 0.0)
        seen = op.Where(op.Unsqueeze(self.live, [3]), hats, 0.0)
        return op.ReduceSum(seen, [2], keepdims=0) / self.count

    def slope(self, op: Emitter, told: Val, scale: float) -> tuple[Val, Val]:
        """Return the derivatives in near and far edge (R,), where `told` (R, bins, pixels) is that of the matrix."""
        at, last = self.inside(op), floats(op, self.size, self.at) - 1.0
        low = op.Unsqueeze(op.Floor(at), [3])
        pixels = floats(op, op.Range(0, op.Squeeze(self.size, [0]), 1), self.at)
        rise = floats(op, op.Equal(pixels, low + 1.0), at) - floats(op, op.Equal(pixels, low), at)
        sample = op.ReduceSum(rise * op.Unsqueeze(told, [2]), [3], keepdims=0) / self.count
        moves = op.And(self.live, op.And(op.GreaterOrEqual(self.at, 0.0), op.Less(self.at, last)))
        sample = op.Where(moves, sample * scale, 0.0)
        far, whole = op.ReduceSum(sample * self.part, [1, 2], keepdims=0), op.ReduceSum(sample, [1, 2], keepdims=0)
        if self.free is not None:
            far = op.Where(self.free, far, 0.0)
        return whole - far, far


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


def own_image(op: Emitter, x: Val, batch: Val, g: Val) -> Val:
    """Return which image (N) each box (R) lies on: (N, R) of ones and zeros."""
    images = op.Range(0, op.Squeeze(op.shape(x, 0, 1), [0]), 1)
    return floats(op, op.Equal(op.Unsqueeze(images, [1]), op.Cast(batch, to=7)), g)


def summed_by_image(op: Emitter, rows: Val, columns: Val, own: Val) -> Val:
    """Return what boxes add to images: `rows` (R, bins, P) times `columns` (R, bins, Q), summed: (N, P, Q)."""
    parts = op.Unsqueeze(rows, [0]) * op.Unsqueeze(own, [2, 3])
    left = op.Reshape(parts, op.Concat([0, -1], op.Slice(op.Shape(rows), [2], [3], [0]), axis=0))
    right = op.Reshape(columns, op.Concat([-1], op.Slice(op.Shape(columns), [2], [3], [0]), axis=0))
    return op.MatMul(op.Transpose(left, perm=[0, 2, 1]), right)


def seen_by_box(op: Emitter, columns: Val, images: Val, own: Val, bins: int) -> Val:
    """Return `columns` (R, bins, Q) times each box's own image (N, Q, P): (R, bins, P)."""
    flat = op.Reshape(columns, op.Concat([-1], op.Slice(op.Shape(columns), [2], [3], [0]), axis=0))
    every = op.MatMul(flat, images)
    shape = op.Concat([0, -1, bins], op.Slice(op.Shape(images), [2], [3], [0]), axis=0)
    return op.ReduceSum(op.Reshape(every, shape) * op.Unsqueeze(own, [2, 3]), [0], keepdims=0)


def bins_first(op: Emitter, v: Val, axis: int) -> Val:
    """Reshape (R, C, H, W), of which `axis` counts bins, to (R, bins, rest)."""
    return op.Reshape(op.Transpose(v, perm=[0, axis, 1, 5 - axis]), [0, 0, -1])


def roi_align_x(op: Emitter, g: Val, y: Val, x: Val, rois: Val, batch: Val, mode: str, **box: object) -> Val:
    rows, columns = roi_boxes(op, g, x, rois, **box)  # type: ignore[arg-type]
    if mode == "max":
        return Winners.of(op, x, batch, *align_candidates(op, rows, columns)).spread(op, g, x, batch)
    wide = bins_first(op, op.MatMul(g, op.Unsqueeze(columns.matrix(op), [1])), 2)  # (R, bins, C * W)
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


OLD = "output_half_pixel"  # before 16 there is one way, and no attribute

defvjp("RoiAlign", roi_align_x, roi_align_rois, None)
defvjp(
    "RoiAlign",
    lambda *values, **box: roi_align_x(*values, coordinate_transformation_mode=OLD, **box),
    lambda *values, **box: roi_align_rois(*values, coordinate_transformation_mode=OLD, **box),
    None,
    before=16,
)


# The largest of many candidates of a bin: (R, T, P) positions in the box's image, of T candidates for each of P bins.


@dataclass(frozen=True)
class Winners:
    """The first candidate that is largest, for each box, channel and bin: (R, C, 1, P)."""

    which: Val
    where: Val
    weight: Val
    seen: Val

    @classmethod
    def of(cls, op: Emitter, x: Val, batch: Val, where: Val, weight: Val, live: Val) -> Winners:
        own = op.Gather(op.Reshape(x, [0, 0, -1]), op.Cast(batch, to=7), axis=0)
        seen = read(op, own, where)
        scored = op.Where(op.Unsqueeze(live, [1]), seen * op.Unsqueeze(weight, [1]), -3.4e38)
        return cls(op.ArgMax(scored, axis=2, keepdims=1), where, weight, seen)

    def of_winner(self, op: Emitter, v: Val) -> Val:
        """Return the winner's entry of (R, T, P) or (R, C, T, P)."""
        wide = op.Expand(op.Unsqueeze(v, [1]), op.Shape(self.seen)) if v is not self.seen else v
        return op.GatherElements(wide, self.which, axis=2)

    def spread(self, op: Emitter, g: Val, x: Val, batch: Val) -> Val:
        """Return the cotangent of the images."""
        share = op.Reshape(g, [0, 0, 1, -1]) * self.of_winner(op, self.weight)
        place = op.Reshape(self.of_winner(op, self.where), [0, 0, -1])
        size = op.ReduceProd(op.shape(x, 2), keepdims=1)
        zeros = op.Expand(op.constant(0.0, g.dtype), op.Concat(op.Slice(op.Shape(place), [0], [2], [0]), size, axis=0))
        boxes = op.ScatterElements(zeros, place, op.Reshape(share, [0, 0, -1]), axis=2, reduction="add")
        flat = op.Reshape(boxes, op.Concat([-1], op.ReduceProd(op.shape(x, 1), keepdims=1), axis=0))
        return op.reshape_like(op.MatMul(own_image(op, x, batch, g), flat), x)


def crossed(op: Emitter, high: Val, wide: Val) -> tuple[Val, Val]:
    """Give (R, H, A) and (R, W, B) the axes (R, H, W, A, B)."""
    return op.Unsqueeze(high, [2, 4]), op.Unsqueeze(wide, [1, 3])


def candidates(op: Emitter, v: Val) -> Val:
    """Reshape (R, H, W, A, B) to (R, candidates, bins)."""
    n = op.Shape(v)
    bins = op.ReduceProd(op.Slice(n, [1], [3], [0]), keepdims=1)
    many = op.ReduceProd(op.Slice(n, [3], [5], [0]), keepdims=1)
    return op.Transpose(op.Reshape(v, op.Concat([0], bins, many, axis=0)), perm=[0, 2, 1])


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


# DeformConv: every tap of every window reads at its own place; then a product with the kernel.


@dataclass(frozen=True)
class Deformed:
    """What a DeformConv read: images (B, c, S), of N batches in `split` parts with offsets of their own.

    `taps`: at each axis (B, K * P), K taps of P windows; `shape`: (N, split, c, K, P) as a Reshape says it.
    """

    images: Val
    axes: list[Grid]
    windows: Windows
    split: int
    group: int
    taps: int
    count: Val

    @classmethod
    def of(
        cls,
        op: Emitter,
        g: Val,
        y: Val,
        x: Val,
        w: Val,
        offset: Val,
        dilations: list[int] | None,
        group: int,
        kernel_shape: list[int] | None,
        offset_group: int,
        pads: list[int] | None,
        strides: list[int] | None,
    ) -> Deformed:
        kernel = kernel_shape or [int(d) for d in w.dims[2:] if isinstance(d, int)]
        windows = Windows.of(op, x, y, kernel, strides, dilations, pads, "NOTSET")
        n, taps = windows.axes, windows.taps()
        count = op.ReduceProd(windows.counts, keepdims=1)
        moved = op.Reshape(floats(op, offset, g), op.Concat([-1, len(taps), n], count, axis=0))
        axes = []
        for axis in range(n):
            output = op.Range(0, op.Squeeze(op.Slice(windows.counts, [axis], [axis + 1], [0]), [0]), 1)
            output = op.Reshape(output * [windows.strides[axis]], [-1 if a == axis else 1 for a in range(n)])
            window = op.Reshape(op.Expand(output, windows.counts), [1, -1])
            tap = op.constant([[t[axis] * windows.dilations[axis]] for t in taps])
            at = floats(op, window + tap - op.Slice(windows.before, [axis], [axis + 1], [0]), g)
            own = op.Squeeze(op.Slice(moved, [axis], [axis + 1], [2]), [2]) + at
            size, one = op.shape(x, axis + 2, axis + 3), op.constant(1.0, g.dtype)
            axes.append(Grid(op.Reshape(own, [0, -1]), one, size, (one, one)))
        pixels = op.ReduceProd(windows.sizes, keepdims=1)
        channels = op.shape(x, 1, 2) / [offset_group]
        images = op.Reshape(x, op.Concat([-1], channels, pixels, axis=0))
        return cls(images, axes, windows, offset_group, group, len(taps), count)

    def neighbours(self, op: Emitter, slope: int | None = None) -> list[Taps]:
        return [axis.taps(op, "linear", "zeros", slopes=i == slope) for i, axis in enumerate(self.axes)]

    def where(self, op: Emitter) -> Val:
        return positions(op, self.neighbours(op), self.windows.sizes)

    def sampled(self, op: Emitter) -> Val:
        """Return what was read: (N, split, c, K, P)."""
        seen = read(op, self.images, self.where(op)) * op.Unsqueeze(weights(op, self.neighbours(op)), [1])
        return self.parted(op, op.ReduceSum(seen, [2], keepdims=0))

    def parted(self, op: Emitter, v: Val) -> Val:
        channels = op.Slice(op.Shape(self.images), [1], [2], [0])
        return op.Reshape(v, op.Concat([-1, self.split], channels, [self.taps], self.count, axis=0))

    def masked(self, op: Emitter, v: Val, mask: Val | None) -> Val:
        if mask is None:
            return v
        return v * op.Reshape(floats(op, mask, v), op.Concat([-1, self.split, 1, self.taps], self.count, axis=0))

    def columns(self, op: Emitter, g: Val, w: Val) -> Val:
        """Return the cotangent of what the kernel was multiplied with: (N, split, c, K, P)."""
        return self.parted(op, op.MatMul(op.Transpose(self.rows(op, w), perm=[0, 2, 1]), self.grouped(op, g)))

    def rows(self, op: Emitter, w: Val) -> Val:
        inner = op.ReduceProd(op.shape(w, 1), keepdims=1)
        return op.Reshape(w, op.Concat([self.group, -1], inner, axis=0))

    def grouped(self, op: Emitter, g: Val) -> Val:
        outer = op.Slice(op.Shape(g), [1], [2], [0]) / [self.group]
        return op.Reshape(g, op.Concat([0, self.group], outer, self.count, axis=0))


def deform_x(
    op: Emitter, g: Val, y: Val, x: Val, w: Val, offset: Val, b: Val | None, mask: Val | None, **how: object
) -> Val:
    seen = Deformed.of(op, g, y, x, w, offset, **how)  # type: ignore[arg-type]
    flat = flat_columns(op, seen, seen.masked(op, seen.columns(op, g, w), mask))
    shares = op.Unsqueeze(flat, [2]) * op.Unsqueeze(weights(op, seen.neighbours(op)), [1])
    return op.reshape_like(splat(op, shares, seen.where(op), op.Shape(seen.images)), x)


def flat_columns(op: Emitter, seen: Deformed, v: Val) -> Val:
    """Reshape (N, split, c, K, P) to (B, c, K * P)."""
    ends = op.Slice(op.Shape(seen.images), [1], [2], [0])
    return op.Reshape(v, op.Concat([-1], ends, seen.count * [seen.taps], axis=0))


def deform_offset(
    op: Emitter, g: Val, y: Val, x: Val, w: Val, offset: Val, b: Val | None, mask: Val | None, **how: object
) -> Val:
    seen = Deformed.of(op, g, y, x, w, offset, **how)  # type: ignore[arg-type]
    flat = flat_columns(op, seen, seen.masked(op, seen.columns(op, g, w), mask))
    told = op.ReduceSum(read(op, seen.images, seen.where(op)) * op.Unsqueeze(flat, [2]), [1], keepdims=0)
    found = []
    for axis in range(seen.windows.axes):
        moved = op.ReduceSum(told * weights(op, seen.neighbours(op, slope=axis)), [1], keepdims=0)
        found.append(op.Reshape(moved, op.Concat([0, seen.taps, 1], seen.count, axis=0)))
    return op.reshape_like(op.Concat(*found, axis=2), offset)


def deform_w(
    op: Emitter, g: Val, y: Val, x: Val, w: Val, offset: Val, b: Val | None, mask: Val | None, **how: object
) -> Val:
    seen = Deformed.of(op, g, y, x, w, offset, **how)  # type: ignore[arg-type]
    masked = seen.masked(op, seen.sampled(op), mask)
    inner = op.ReduceProd(op.shape(w, 1), keepdims=1)
    columns = op.Reshape(masked, op.Concat([-1, seen.group], inner, seen.count, axis=0))
    each_ = op.MatMul(seen.grouped(op, g), op.Transpose(columns, perm=[0, 1, 3, 2]))
    return op.reshape_like(op.ReduceSum(each_, [0], keepdims=0), w)


def deform_mask(
    op: Emitter, g: Val, y: Val, x: Val, w: Val, offset: Val, b: Val | None, mask: Val, **how: object
) -> Val:
    seen = Deformed.of(op, g, y, x, w, offset, **how)  # type: ignore[arg-type]
    return op.reshape_like(op.ReduceSum(seen.columns(op, g, w) * seen.sampled(op), [2], keepdims=0), mask)


def deform_b(op: Emitter, g: Val, y: Val, x: Val, *_: Val | None, **__: object) -> Val:
    return op.ReduceSum(g, [axis for axis in range(x.rank) if axis != 1], keepdims=0)


defvjp("DeformConv", deform_x, deform_w, deform_offset, deform_b, deform_mask)
