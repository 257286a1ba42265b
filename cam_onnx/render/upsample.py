"""Bilinear resampling axis by axis: the same rule for signals, pictures and volumes.

Half-pixel centres and clamped edges, as cv2.INTER_LINEAR and ONNX Resize (`half_pixel`) do it. A cubic kernel
would undershoot below zero next to a peak. Reducing samples two neighbours only, without antialiasing, as
those two do.
"""

from __future__ import annotations

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
    # entry by entry, no product of matrices: a BLAS starts threads for it, and waits for them on a busy machine
    for i in range(rank):
        axis = len(leading) + i
        low, high, part, inside = _between(extent[i], size[i], *edges[i])
        shape = (-1, *[1] * (rank - 1 - i))
        lower = ((1 - part) * inside).astype(values.dtype).reshape(shape)
        upper = (part * inside).astype(values.dtype).reshape(shape)
        lifted = values.take(high, axis)
        lifted *= upper
        values = values.take(low, axis)
        values *= lower
        values += lifted
    return values


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


def _between(count: int, out: int, start: float, end: float) -> tuple[NDArray[Any], ...]:
    """Return for every pixel of `out` the two of `count` values around it, laid over [start, end): which, and where.

    `part` is how far the pixel is from the first to the second; `inside` whether its centre lies in the interval.
    """
    centres = np.arange(out) + 0.5
    position = np.clip((centres - start) * (count / (end - start)) - 0.5, 0, count - 1)
    low = np.floor(position).astype(np.intp)
    return low, np.minimum(low + 1, count - 1), position - low, (centres >= start) & (centres < end)
