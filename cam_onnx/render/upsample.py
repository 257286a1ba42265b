"""Bilinear resampling by one matrix per axis: the same rule for signals, pictures and volumes.

Half-pixel centres and clamped edges, as cv2.INTER_LINEAR and ONNX Resize (`half_pixel`) do it. A cubic kernel
would undershoot below zero next to a peak. Reducing samples two neighbours only, without antialiasing, as
those two do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cam_onnx.errors import InputError

__all__ = ["coverage", "upsample"]


def upsample(array: ArrayLike, size: Sequence[int], box: Sequence[float] | None = None) -> NDArray[Any]:
    """Resample the last axes of `array` to `size`.

    Parameters
    ----------
    array : array (..., *S)
        Any real type; 16-bit floats and integers are computed in float32 or wider. Finite: a NaN would spread.
    size : sequence of int
        Of the result, one entry per spatial axis: (height, width) for a picture.
    box : sequence of float, optional
        The rectangle of the result, in its pixels, over which the map is laid: first all starts, then all ends:
        (y0, x0, y1, x1). Smaller than the result after a centre crop: pixels whose centre lies outside are 0.
        Larger after letterboxing: only the part inside is drawn. None: the whole result.

    Returns
    -------
    array (..., *size)

    Raises
    ------
    InputError
        A size below 1, more sizes than axes, or a box that is empty or not finite.
    """
    values = np.asarray(array)
    rank = len(size)
    if rank == 0 or rank > values.ndim or 0 in values.shape[values.ndim - rank :]:
        raise InputError(f"cannot resample an array of shape {values.shape} to {tuple(size)}")
    values = values.astype(np.result_type(values.dtype, np.float32), copy=False)
    leading, extent = values.shape[: values.ndim - rank], values.shape[values.ndim - rank :]
    edges = _edges(size, box)
    # the samples stay a stack of products of one shape: their bits must not depend on how many there are
    lead, before, after = math.prod(leading), 1, math.prod(extent)
    for axis in range(rank):
        matrix = _matrix(extent[axis], size[axis], *edges[axis]).astype(values.dtype)
        after //= extent[axis]
        if axis < rank - 1:
            values = matrix @ values.reshape(lead, before, extent[axis], after)
        else:
            values = values.reshape(lead, before, extent[axis]) @ matrix.T
        before *= size[axis]
    return values.reshape(*leading, *size)


def coverage(size: Sequence[int], box: Sequence[float] | None = None) -> tuple[slice, ...]:
    """Return the slices of the result whose pixel centres lie in `box`; parameters as for `upsample`."""
    inside = []
    for count, (start, end) in zip(size, _edges(size, box), strict=True):
        first = min(max(int(np.ceil(start - 0.5)), 0), count)
        inside.append(slice(first, max(first, min(int(np.ceil(end - 0.5)), count))))
    return tuple(inside)


def _edges(size: Sequence[int], box: Sequence[float] | None) -> list[tuple[float, float]]:
    if any(n < 1 for n in size):
        raise InputError(f"size {tuple(size)} must be positive")
    if box is None:
        return [(0.0, float(n)) for n in size]
    rank = len(size)
    edges = [float(edge) for edge in box]
    if len(edges) != 2 * rank or not np.isfinite(edges).all() or any(edges[i] >= edges[i + rank] for i in range(rank)):
        raise InputError(f"box {tuple(box)} must be {rank} finite starts followed by {rank} larger ends")
    return list(zip(edges[:rank], edges[rank:], strict=True))


def _matrix(count: int, out: int, start: float, end: float) -> NDArray[np.float64]:
    """Return the (out, count) weights of `count` values laid over [start, end) of `out` pixels."""
    centres = np.arange(out) + 0.5
    inside = (centres >= start) & (centres < end)
    position = np.clip((centres - start) * (count / (end - start)) - 0.5, 0, count - 1)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, count - 1)
    part = position - low
    matrix = np.zeros((out, count))
    rows = np.arange(out)
    matrix[rows, low] = 1 - part
    matrix[rows, high] += part
    return matrix * inside[:, None]
