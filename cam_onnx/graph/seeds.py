"""What is explained, as nodes: every kind of target becomes a few standard operators behind the original's outputs.

The differentiator then starts from a scalar per sample and needs to know nothing of kinds. Two forms: values from which
a class is chosen at run time, (N, C') like logits (C' = 1 where the kind leaves no choice), and a score that is made of
the logits and the class chosen in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from cam_onnx import expression, kinds
from cam_onnx.autodiff.append import append, info
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.val import Val
from cam_onnx.errors import InputError, shown
from cam_onnx.graph import seed_each, seed_expression, seed_places, seed_values
from cam_onnx.graph.choice import Choice, batch_axis, choose, explainable, pair
from cam_onnx.graph.locate import Score, find_dense, find_score
from cam_onnx.graph.task import Task, known_task
from cam_onnx.kinds import Kind

__all__ = ["Chosen", "Seeded", "base", "extend"]


@dataclass(frozen=True)
class Chosen:
    """Names of the added values that a score made of a chosen class has: its input, itself, and the class."""

    target: str
    score: str
    cls: str


@dataclass(frozen=True)
class Seeded:
    """A model with its score. `values`: in which a class is chosen. `chosen`: where that is done already.

    `each`: of how many classes each row of the values is, and which of them is `nothing` (`cam_onnx.Contract`);
    `boxes`: an output.
    """

    model: Model
    values: Score
    chosen: Chosen | None = None
    read: tuple[str, ...] = ()
    each: int = 0
    boxes: str = ""
    nothing: int = -1


def base(model: Model, kind: Kind | None, score: str | None, task: Task | None = None) -> Score:
    """Return the model's own value that a target is about; the default layer lies before it.

    `task`: what the model does, where that has given the kind.

    Raises
    ------
    ScoreNotFound
    """
    if isinstance(kind, kinds.Expression) and score is None:
        known = [name for name in model.values if name]
        first = next(expression.names(expression.parse(kind.text, known)), None)
        if first is None:
            raise InputError(f"target {shown(kind.text)!r} names no value of the model")
        explainable(model, first)
        return Score(first, single=False, classes=None)
    if isinstance(kind, kinds.Boxes) and score is None:
        head = seed_each.head_of(model)
        kept = head.activation if head.activation == "sigmoid" else ""
        name, *beside = [explainable(model, value.name or "").name or "" for value in head.explained]
        return Score(name, False, None, kept, tuple(beside))
    of_task = isinstance(kind, (kinds.Area, kinds.Peak, kinds.Letters))
    if of_task and score is None and (task := task or known_task(model, kind)) is not None:
        return Score(explainable(model, task.score).name or "", False, None, task.activation)
    if isinstance(kind, (kinds.Area, kinds.Mask, kinds.Peak, kinds.Pixel, kinds.Box, kinds.Letters, kinds.Position)):
        return find_dense(model, score)
    return find_score(model, score)


def extend(model: Model, score: Score, kind: Kind | None, target_input: str) -> Seeded:
    """Append what `kind` needs to a model; None: the logit of a class, which needs nothing.

    Raises
    ------
    InputError
        The kind does not fit this model.
    """
    if kind is None or isinstance(kind, kinds.Logit):
        return Seeded(model, score)
    op = Emitter(model.opset, model.names())
    op.scope = "cam/target"
    source = model.values[score.name]
    made = _VALUES.get(type(kind))
    if made is not None:
        values, classes = made(op, model, source, kind)
        dtype = values.dtype or ir.DataType.FLOAT
        named = op.output(values, "cam_value")
        batch = _batch(model, source)
        declared = info(named.name, dtype, [batch, classes])
        extended = model.of(append(model.proto, op, [declared]))
        activation = score.activation if isinstance(kind, kinds.Peak) else ""
        return Seeded(extended, Score(named.name, False, classes, activation), read=(score.name,))
    if isinstance(kind, (kinds.Boxes, kinds.Letters)):
        return _rows(op, model, score, source, kind)
    target = op.input("cam_target", ir.DataType.INT64, [op.fresh("cam_targets")])
    parts: list[onnx.ValueInfoProto] = []
    if isinstance(kind, kinds.Area):
        areas, means, classes = seed_each.area(op, model, source)
        given = op.output(areas, "cam_areas")
        parts.append(info(given.name, areas.dtype or ir.DataType.FLOAT, [_batch(model, source), classes]))
        score = Score(given.name, single=False, classes=classes)
        choice = choose(op, areas, Score("", single=False, classes=classes), target, rank=2)
        result = _picked(op, means, choice)
    else:
        choice = choose(op, op.primal(source), score, target)
        result = _SCORES[type(kind)](op, choice, score, kind)
    named, cls = op.output(result, "cam_score"), op.output(choice.chosen, "cam_class")
    rows: Sequence[int | str | None] = [1] if score.single else op.primal(source).dims[:1]
    outputs = [
        *parts,
        info(named.name, result.dtype or ir.DataType.FLOAT, rows),
        info(cls.name, ir.DataType.INT64, rows),
    ]
    initializers = []
    if target_input == "optional":
        initializers.append(onnx.numpy_helper.from_array(np.array([-1], np.int64), target.name))
    inputs = [info(target.name, ir.DataType.INT64, target.dims)]
    extended = model.of(append(model.proto, op, outputs, inputs, initializers))
    return Seeded(extended, score, Chosen(target.name, named.name, cls.name), read=(source.name or "",))


def _rows(op: Emitter, model: Model, score: Score, source: ir.Value, kind: Kind) -> Seeded:
    """The values of every box or letter, and the boxes."""
    found = seed_each.rows(op, model, source, kind)
    batch, dtype = found.batch or _batch(model, source), found.values.dtype or ir.DataType.FLOAT
    named = op.output(found.values, "cam_value")
    outputs = [info(named.name, dtype, [batch, found.total])]
    boxes = ""
    if found.corners is not None:
        placed = op.output(found.corners, "cam_boxes")
        count = None if found.total is None else found.total // found.classes
        outputs.append(info(placed.name, found.corners.dtype or ir.DataType.FLOAT, [batch, count, 4]))
        boxes = placed.name
    extended = model.of(append(model.proto, op, outputs))
    values = Score(named.name, single=False, classes=found.total, activation=score.activation)
    read = (score.name, *score.beside)
    return Seeded(extended, values, read=read, each=found.classes, boxes=boxes, nothing=found.nothing)


def _batch(model: Model, source: ir.Value) -> int | str | None:
    dim = None if source.shape is None or not len(source.shape) else source.shape[batch_axis(model, source)]
    return dim if isinstance(dim, int) or dim is None else dim.value


def _picked(op: Emitter, values: Val, choice: Choice) -> Val:
    return op.Squeeze(op.GatherElements(values, op.Unsqueeze(choice.chosen, [1]), axis=1), [1])


def _probability(op: Emitter, choice: Choice, score: Score, kind: Kind) -> Val:
    one = score.activation == "sigmoid" or score.classes == 1
    values = op.Sigmoid(choice.logits) if one else op.Softmax(choice.logits, axis=1)
    return _picked(op, values, choice)


def _residual(op: Emitter, choice: Choice, score: Score, kind: Kind) -> Val:
    return _picked(op, choice.logits + op.LogSoftmax(choice.logits, axis=1), choice)


def _difference(op: Emitter, choice: Choice, score: Score, kind: Kind) -> Val:
    assert isinstance(kind, kinds.Difference)
    if score.classes is not None and kind.other >= score.classes:
        raise InputError(f"target difference: class {kind.other} is out of range: 0 to {score.classes - 1}")
    other = op.Gather(choice.logits, op.constant(np.array(kind.other, np.int64)), axis=1)
    return _picked(op, choice.logits, choice) - other


def _finer(op: Emitter, choice: Choice, score: Score, kind: Kind) -> Val:
    """p_d / sum p_d is the softmax of the chosen logits alone: no probability can underflow."""
    assert isinstance(kind, kinds.Finer)
    if score.classes is not None and score.classes < 2:
        raise InputError("target finer needs at least two classes, the model has one")
    nearest = kind.nearest if score.classes is None else min(kind.nearest, score.classes - 1)
    own = op.GatherElements(choice.logits, op.Unsqueeze(choice.chosen, [1]), axis=1)
    apart = op.Neg(op.Abs(choice.logits - own))
    count = op.Squeeze(op.Slice(op.Shape(choice.logits), [1], [2], [0]), [0])
    itself = op.OneHot(choice.chosen, count, pair(choice.logits, 1e30), axis=-1)
    order: Any = op.TopK(apart - itself, [nearest], axis=1, outputs=2)
    others = op.GatherElements(choice.logits, order[1], axis=1)
    gaps = own - others * kind.alpha
    if not kind.weighted:
        return op.ReduceMean(gaps, [1], keepdims=0)
    return op.ReduceSum(op.Softmax(others, axis=1) * gaps, [1], keepdims=0)


_SCORES: dict[type[Kind], Callable[[Emitter, Choice, Score, Kind], Val]] = {
    kinds.Probability: _probability,
    kinds.ResidualSoftmax: _residual,
    kinds.Difference: _difference,
    kinds.Finer: _finer,
}


_VALUES: dict[type[Kind], Callable[[Emitter, Model, ir.Value, Kind], seed_values.Values]] = {
    kinds.Value: seed_values.value,
    kinds.Unit: seed_values.unit,
    kinds.Similarity: seed_values.similarity,
    kinds.Mask: seed_places.region,
    kinds.Pixel: seed_places.region,
    kinds.Peak: seed_places.peak,
    kinds.Box: seed_places.box,
    kinds.Detection: seed_places.detection,
    kinds.Position: seed_values.position,
    kinds.Expression: seed_expression.expression,
}
