"""Which class is explained, resolved inside the graph: one run finds the predicted class and explains it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.val import Val, cotangent_type
from cam_onnx.errors import ScoreNotFound, shown
from cam_onnx.graph.locate import Score

__all__ = ["Choice", "batch_axis", "choose", "explainable", "pair"]


@dataclass(frozen=True)
class Choice:
    """What is explained: logits as (N, C'), the class used per sample (N,), and its score (N,)."""

    logits: Val
    chosen: Val
    score: Val


def choose(op: Emitter, value: Val, score: Score, target: Val, rank: int | None = None) -> Choice:
    """Resolve the target inside the graph; `rank`: of `value`, where it is no primal.

    It is checked there: a target that does not fit makes the run fail in every runtime, since a Reshape then gets a
    shape that cannot be.
    """
    rank = value.rank if rank is None else rank
    if rank == 1:
        logits = op.Unsqueeze(value, [0] if score.single else [1])
    else:
        logits = value if rank == 2 else op.Flatten(value, axis=1)
    if logits is value and value.primal:
        count, classes = op.shape(value, 0, 1), op.shape(value, 1, 2)
    else:
        shape = op.Shape(logits)
        count, classes = op.Slice(shape, [0], [1], [0]), op.Slice(shape, [1], [2], [0])
        if score.classes is not None:
            classes = op.constant([score.classes])
    outside = op.Or(op.Less(target, [-1]), op.GreaterOrEqual(target, classes))
    wrong = op.ReduceSum(op.Cast(outside, to=ir.DataType.INT64), [0], keepdims=1)
    # a length other than 1 or N, or any index outside, leaves N entries short of or beyond what is asked for
    checked = op.Reshape(op.Expand(target, count), count + wrong)
    chosen = op.Where(op.Less(checked, [0]), op.ArgMax(logits, axis=1, keepdims=0), checked)
    picked = op.GatherElements(logits, op.Unsqueeze(chosen, [1]), axis=1)
    return Choice(logits, chosen, op.Squeeze(picked, [1]))


def batch_axis(model: Model, value: ir.Value) -> int:
    """Return the axis that has the picture's first dimension: 1 of a recogniser's (T, N, C), else 0."""
    pictures = [v for v in model.graph.inputs if v.shape is not None and len(v.shape) > 2]
    if pictures and value.shape is not None and len(value.shape) == 3 and pictures[0].shape is not None:
        batch = pictures[0].shape[0]
        same = [i for i, d in enumerate(value.shape) if d == batch]
        if batch is not None and same == [1]:
            return 1
    return 0


def explainable(model: Model, name: str) -> ir.Value:
    value = model.values[name]
    if value.dtype is None or cotangent_type(value.dtype) is None or value.shape is None or not len(value.shape):
        what = value.dtype if value.dtype is not None else "of unknown type"
        raise ScoreNotFound(
            f"{model.name}: {shown(name)!r} ({what}) cannot be explained: expected floats of known rank, at least 1"
        )
    return value


def pair(like: Val, high: float) -> np.ndarray:
    dtype = cotangent_type(like.dtype)
    assert dtype is not None
    return np.array([0.0, high], dtype.numpy())
