"""Pictures that stand for nothing: what covers, and where paths begin."""

from __future__ import annotations

from typing import Any

import numpy as np

from cam_onnx.errors import InputError

__all__ = ["BASELINES", "blurred", "reference"]

BASELINES = ("zero", "mean", "min", "blur")


def reference(x: Any, baseline: str) -> Any:
    """Return the picture (C, *S) that stands for nothing.

    Raises
    ------
    InputError
        `baseline` is none of `BASELINES`.
    """
    axes = tuple(range(1, x.ndim))
    if baseline == "zero":
        return np.zeros_like(x)
    if baseline == "mean":
        return np.broadcast_to(x.mean(axis=axes, keepdims=True), x.shape).copy()
    if baseline == "min":
        return np.broadcast_to(x.min(axis=axes, keepdims=True), x.shape).copy()
    if baseline == "blur":
        return blurred(x, 0.1 * max(x.shape[1:]))
    raise InputError(f"option baseline is {baseline!r}, expected one of {', '.join(BASELINES)}")


def blurred(x: Any, sigma: float) -> Any:
    """Return (C, *S) blurred by a Gaussian of `sigma` pixels, edges repeated; one matrix an axis."""
    if sigma <= 0:
        return x
    result = x
    for axis in range(1, x.ndim):
        n = x.shape[axis]
        matrix = _gaussian(n, float(sigma)).astype(x.dtype)
        result = np.moveaxis(np.moveaxis(result, axis, -1) @ matrix.T, -1, axis)
    return np.ascontiguousarray(result)


def _gaussian(n: int, sigma: float) -> Any:
    """Return (n, n) rows of a Gaussian; what lies beyond an edge counts for the edge."""
    reach = int(np.ceil(4 * sigma))
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    matrix = np.zeros((n, n))
    for i in range(n):
        np.add.at(matrix[i], np.clip(i + offsets, 0, n - 1), kernel)
    return matrix
