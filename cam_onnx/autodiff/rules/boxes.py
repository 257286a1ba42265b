"""Boxes over images: where their samples lie, and which candidate of a bin is the largest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.taps import floats, read
from cam_onnx.autodiff.val import Val

__all__ = ["Boxes", "Winners", "candidates", "crossed", "own_image"]


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
            least = op.constant(np.ones(1, np.float32), g.dtype)  # of no boxes there is no maximum
            most = op.ReduceMax(op.Concat(op.Reshape(count, [-1]), op.Cast(least, to=g.dtype), axis=0), keepdims=0)
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


def own_image(op: Emitter, x: Val, batch: Val, g: Val) -> Val:
    """Return which image (N) each box (R) lies on: (N, R) of ones and zeros."""
    images = op.Range(0, op.Squeeze(op.shape(x, 0, 1), [0]), 1)
    return floats(op, op.Equal(op.Unsqueeze(images, [1]), op.Cast(batch, to=7)), g)


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
