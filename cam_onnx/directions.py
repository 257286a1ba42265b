"""In which directions a gradient is compared with differences. In float32 that matters more than the step.

A Gaussian direction carries the square root of n less signal than the gradient itself and does not see an error of 1 %.
So the directions are the gradient, whole and with a random half of it masked, and the other half; a few Gaussian ones
are there against errors that are orthogonal to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx.contract import Axes

__all__ = ["GAUSSIANS", "Direction", "directions"]

Array = NDArray[Any]

MASKS, GAUSSIANS = 4, 8
FEW = 16  # channels: fewer are masked in patches, not by channels
PATCHES = 64


@dataclass(frozen=True)
class Direction:
    """`unit`: the predicted change that an error is a part of, per unit of length."""

    vector: Array
    unit: float
    aligned: bool


def directions(gradient: Array, free: Array, axes: Axes, image: bool, rng: np.random.Generator) -> Iterator[Direction]:
    """Yield the gradient, its masked halves, and Gaussian directions, all without what is not `free`."""
    gradient = gradient * free
    square = float(np.vdot(gradient, gradient))
    halves = [half for _ in range(MASKS) for half in _halves(gradient.shape, axes, image, rng)]
    for mask in (1.0, *halves):
        vector = gradient * mask
        own = float(np.vdot(vector, vector))
        if own > 1e-3 * square:  # else a step along it would be far too long
            yield Direction(vector, own, aligned=True)
    for _ in range(GAUSSIANS):
        vector = rng.standard_normal(gradient.shape) * free
        yield Direction(vector, math.sqrt(square / free.sum()) * float(np.linalg.norm(vector)), aligned=False)


def _halves(shape: Sequence[int], axes: Axes, image: bool, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return a random half as a mask that broadcasts, and its complement: channels, else patches, else entries."""
    channels = shape[axes.channel] if axes.channel < len(shape) else 1
    if channels >= FEW and not (image and axes.spatial):
        mask = _half(channels, rng).reshape([channels if a == axes.channel else 1 for a in range(len(shape))])
    elif axes.spatial:
        each = max(2, round(PATCHES ** (1 / len(axes.spatial))))
        counts = [min(each, shape[a]) for a in axes.spatial]
        grid = _half(math.prod(counts), rng).reshape(counts)
        for i, a in enumerate(axes.spatial):
            grid = grid.take(np.arange(shape[a]) * counts[i] // shape[a], axis=i)
        order = sorted(range(len(axes.spatial)), key=lambda i: axes.spatial[i])
        mask = grid.transpose(order).reshape([n if a in axes.spatial else 1 for a, n in enumerate(shape)])
    else:
        mask = _half(math.prod(shape), rng).reshape(shape)
    return mask, 1 - mask


def _half(count: int, rng: np.random.Generator) -> Array:
    mask = np.zeros(count)
    mask[rng.permutation(count)[: max(1, count // 2)]] = 1
    return mask
