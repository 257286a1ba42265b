"""What the emitter computes at conversion: arithmetic on shapes, axes, paddings and window counts.

A rule then has one form, for static and for symbolic sizes. Weights are never folded: the file must not grow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

__all__ = ["FEW", "FOLD", "LARGEST"]

FEW, LARGEST = 8, 4096  # elements; of floats, of integers: larger constants are weights


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if np.issubdtype(a.dtype, np.integer):  # ONNX truncates integers
        return np.asarray(np.sign(a) * np.sign(b) * (abs(a) // abs(b)), a.dtype)
    return np.asarray(a / b)


def _slice(
    x: np.ndarray, starts: np.ndarray, ends: np.ndarray, axes: np.ndarray | None = None, steps: np.ndarray | None = None
) -> np.ndarray:
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    cut = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes.tolist(), steps.tolist(), strict=True):
        # ONNX clamps; a Python slice does too, but reads a negative end behind the first element as "from the end"
        stop = None if step < 0 and end < -x.shape[axis] else end
        cut[axis] = slice(start, stop, step)
    return x[tuple(cut)]


def _reduce(function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    def fold(x: np.ndarray, axes: np.ndarray | None = None, keepdims: int = 1, **_: Any) -> np.ndarray:
        over = None if axes is None else tuple(axes.tolist())
        return np.asarray(function(x, axis=over, keepdims=bool(keepdims))).astype(x.dtype)

    return fold


def _unsqueeze(x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    return np.expand_dims(x, tuple(axes.tolist()))


def _squeeze(x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    return np.squeeze(x, None if axes is None else tuple(axes.tolist()))


FOLD: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divide,
    "Neg": np.negative,
    "Abs": np.abs,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Max": lambda *xs: np.maximum.reduce(np.broadcast_arrays(*xs)),
    "Min": lambda *xs: np.minimum.reduce(np.broadcast_arrays(*xs)),
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Not": np.logical_not,
    "Where": np.where,
    "Cast": lambda x, to: x.astype(ir.DataType(to).numpy()),
    "Concat": lambda *xs, axis: np.concatenate(xs, axis),
    "Gather": lambda x, i, axis=0: np.take(x, i, axis),
    "Range": np.arange,
    "Reshape": lambda x, shape: x.reshape(shape),
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "ReduceSum": _reduce(np.sum),
    "ReduceProd": _reduce(np.prod),
}
