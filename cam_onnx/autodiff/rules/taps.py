"""Reading an image between its pixels, and the transpose of it: shared by GridSample, DeformConv and the boxes.

A point reads a few neighbours along every axis; its weight at a neighbour is a product over the axes. The cotangent
of the image adds the weights back where they were read; the cotangent of the point exchanges one axis' weights by
their slopes. At a neighbour's own position the slope is the one on its right.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.val import Val

__all__ = ["Tap", "Taps", "floats", "positions", "read", "splat", "weights"]


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
