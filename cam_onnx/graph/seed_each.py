"""Targets of which a picture has several, each with its own classes: boxes, letters; and the area of a class.

Of boxes and letters the values are laid out row by row, (N, rows * C), so that one file serves every choice: which
entries are explained is decided when the picture has been seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from cam_onnx import kinds
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.val import Val
from cam_onnx.errors import InputError, ScoreNotFound, shown
from cam_onnx.graph.choice import batch_axis
from cam_onnx.graph.chosen import computed_again
from cam_onnx.graph.detectors import find
from cam_onnx.graph.heads import Head, Unchosen, picture_sizes
from cam_onnx.graph.positions import dims
from cam_onnx.graph.queries import queried
from cam_onnx.graph.roles import axes_of, follow
from cam_onnx.graph.seed_levels import cells, joined
from cam_onnx.kinds import Kind

__all__ = ["Rows", "area", "head_of", "rows"]

TINY = 1e-12


@dataclass(frozen=True)
class Rows:
    """Values (N, rows * C), C, and corners (N, rows, 4), or of every entry, in pixels of the input or parts of it.

    `nothing`: the class that stands for nothing, of which no row has a score; -1: none does.
    """

    values: Val
    classes: int
    total: int | None
    corners: Val | None = None
    batch: int | None = None  # None: the source's
    nothing: int = -1


def head_of(model: Model) -> Head:
    """Return the model's detection head.

    Raises
    ------
    ScoreNotFound
    """
    head = find(model)
    if head is None and (found := queried(model)) is not None:
        head, _ = found
    if isinstance(head, Head):
        return head
    why = head or "no output has boxes and scores for each candidate"
    raise ScoreNotFound(
        f"{model.name}: target boxes: {why}. Name one value instead (target value:EXPRESSION, such as boxes[0,4,7])"
    )


def rows(op: Emitter, model: Model, source: ir.Value, kind: Kind) -> Rows:
    """Return the values of every box or letter."""
    return _boxes(op, model) if isinstance(kind, kinds.Boxes) else _letters(op, model, source)


def _letters(op: Emitter, model: Model, source: ir.Value) -> Rows:
    x = _as_it_is(op, model, source)
    classes = x.dims[2] if x.rank == 3 else None
    if not isinstance(classes, int):
        raise InputError(
            f"target letters: {shown(source.name or '')!r} is no sequence of classes, (N, T, C) or (T, N, C)"
        )
    turned = batch_axis(model, source) == 1
    length = x.dims[0 if turned else 1]
    values = op.Flatten(op.Transpose(x, perm=[1, 0, 2]) if turned else x, axis=1)
    return Rows(values, classes, length * classes if isinstance(length, int) else None)


def _as_it_is(op: Emitter, model: Model, source: ir.Value) -> Val:
    """Return a value; made once more where the file declares another rank for it, which runtimes would believe."""
    declared = next((o.type.tensor_type.shape.dim for o in model.proto.graph.output if o.name == source.name), None)
    node = source.producer()
    if declared is None or source.shape is None or len(declared) in (0, len(source.shape)) or node is None:
        return op.primal(source)
    x, shape = node.inputs[:2]
    assert x is not None
    assert shape is not None
    made = op.Reshape(op.primal(x), op.primal(shape))
    made.value.shape = source.shape
    return made


def _boxes(op: Emitter, model: Model) -> Rows:
    head = head_of(model)
    if isinstance(head.boxes, Unchosen) or head.parts:
        return _unchosen(op, model, head)
    table, count, parts = _table(op, head)
    classes = head.classes
    if classes is None and isinstance(parts, int):
        classes = parts - head.first
    if classes is None:
        raise InputError(f"target boxes: the number of classes in {shown(head.scores.name or '')!r} is not known")
    if head.activation in ("first", "last"):
        table = op.LogSoftmax(table, axis=2)
    whole = head.first == 0 and classes == parts
    scores = table if whole else op.Slice(table, [head.first], [head.first + classes], [2])
    if (sure := _sure(op, head, table)) is not None:
        scores = _together(op, head, sure, scores)
    total = count * classes if isinstance(count, int) else None
    batch = 1 if head.levels and head.levels[0].scores.axes == (0,) else None  # lists of one picture
    return Rows(op.Flatten(scores, axis=1), classes, total, _corners(op, model, head, table), batch)


def _table(op: Emitter, head: Head) -> tuple[Val, int | str | None, int | str | None]:
    """Return (N, A, parts), A, and how many parts there are."""
    if head.levels:
        table, total = joined(op, [level.scores for level in head.levels])
        return table, total, head.levels[0].scores.each
    x = op.primal(head.scores)
    count, parts = (x.dims[i] for i in ((2, 1) if head.turned else (1, 2)))
    return op.Transpose(x, perm=[0, 2, 1]) if head.turned else x, count, parts


def _sure(op: Emitter, head: Head, table: Val) -> Val | None:
    """Return how sure each candidate is to be a thing, (N, A, 1), where that is said apart from the classes."""
    if head.objectness is not None:
        return op.Slice(table, [head.objectness], [head.objectness + 1], [2])
    beside = [level.sure for level in head.levels if level.sure is not None]
    return joined(op, beside)[0] if beside else None


def _together(op: Emitter, head: Head, sure: Val, scores: Val) -> Val:
    if head.squash:
        sure, scores = op.Sigmoid(sure), op.Sigmoid(scores)
    if head.powers != (1.0, 1.0):  # whose slope at 0 is no number
        sure, scores = (op.Pow(op.Max(x, TINY), power) for x, power in zip((sure, scores), head.powers, strict=True))
    return scores * sure


def _unchosen(op: Emitter, model: Model, head: Head) -> Rows:
    """Of what was chosen inside the file: all candidates, one picture's."""
    parts, classes = [op.primal(part) for part in head.parts], head.classes
    assert classes is not None
    table = parts[0] if len(parts) == 1 else op.Concat(*parts, axis=0)
    if parts[0].rank == 2:
        table = op.Unsqueeze(table, [0])
    if head.activation in ("first", "last"):
        first = head.activation == "first"
        sure = op.LogSoftmax(table, axis=2)
        kept = op.Slice(sure, [int(first)], [classes - (not first)], [2])
        never = op.ReduceMin(kept, [2], keepdims=1) - 1.0  # the best of no candidate
        table = op.Concat(*((never, kept) if first else (kept, never)), axis=2)
    corners = None
    if isinstance(head.boxes, Unchosen):
        corners = computed_again(op, model, head.boxes)
        if head.boxes.each and head.activation in ("first", "last"):
            apart = op.Reshape(corners, [-1, classes - 1, 4])
            pads = [0, 1, 0, 0, 0, 0] if head.activation == "first" else [0, 0, 0, 0, 1, 0]
            corners = op.Reshape(op.Pad(apart, pads), [-1, 4])
        corners = op.Unsqueeze(corners, [0])
    nothing = {"first": 0, "last": classes - 1}.get(head.activation, -1)
    return Rows(op.Flatten(table, axis=1), classes, None, corners, batch=1, nothing=nothing)


def _repeated(op: Emitter, model: Model, cells: Val, grid: ir.Value | None) -> Val:
    """Return numbers of each cell once for each of the boxes that it has in a grid of them, (1, A, 2).

    How long their list is does not say it: that may be declared of another size of the picture.
    """
    axes = None if grid is None else axes_of(follow(model.graph)[grid])
    channels = None if grid is None or axes is None else (dims(grid) or [None] * 4)[axes.channel]
    assert isinstance(channels, int)
    return op.Reshape(op.Expand(op.Unsqueeze(cells, [2]), op.constant([1, 1, channels // 4, 1])), [1, -1, 2])


def _corners(op: Emitter, model: Model, head: Head, table: Val) -> Val | None:
    if head.boxes is None or isinstance(head.boxes, Unchosen) or not head.form:
        return None
    if any(level.grid is None for level in head.levels):  # told by sizes alone: where a row stands is not known
        return None
    if head.boxes is head.scores:
        boxes = op.Slice(table, [head.corner], [head.corner + 4], [2])
    elif head.levels:
        boxes, _ = joined(op, [level.boxes for level in head.levels if level.boxes is not None])
    else:
        boxes = op.primal(head.boxes)
    if head.form == "corners":
        return boxes
    if head.form == "rows":
        return op.Gather(boxes, [1, 0, 3, 2], axis=2)
    centre, size = op.Slice(boxes, [0], [2], [2]), op.Slice(boxes, [2], [4], [2])
    if head.form in ("centre", "centre of 1"):
        return op.Concat(centre - size * 0.5, centre + size * 0.5, axis=2)
    if head.levels:
        places, strides, grids = cells(op, head.levels)
    else:
        picture = picture_sizes(model)
        assert picture is not None
        places, strides = (op.constant(each) for each in _grid(picture, head.strides))
    if head.form == "sides of corners":
        at, step = (_repeated(op, model, x, head.levels[0].grid) for x in (places * strides, strides))
        return op.Concat(at - centre * step, at + size * step, axis=2)
    if head.form == "sides":
        middle = (places + 0.5) * strides
        return op.Concat(middle - centre, middle + size, axis=2)
    if head.form == "cell of 1":
        centre, size = (places + op.Tanh(centre)) / grids, op.Sigmoid(size)
    else:
        centre, size = (centre + places) * strides, op.Exp(size) * strides
    return op.Concat(centre - size * 0.5, centre + size * 0.5, axis=2)


def _grid(picture: tuple[int, int], strides: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return each cell's x and y, and its stride, (1, A, 2)."""
    places, steps = [], []
    for stride in strides:
        y, x = np.mgrid[: -(-picture[0] // stride), : -(-picture[1] // stride)]
        places.append(np.stack([x.ravel(), y.ravel()], axis=1))
        steps.append(np.full((x.size, 2), stride))
    return tuple(np.concatenate(each).astype(np.float32)[None] for each in (places, steps))  # type: ignore[return-value]


def area(op: Emitter, model: Model, source: ir.Value) -> tuple[Val, Val, int]:
    """Return the part of the picture that each class has, (N, C), its mean logit there, (N, C), and C."""
    roles = follow(model.graph).get(source, ())
    x = op.primal(source)
    space = [i for i, role in enumerate(roles) if role.startswith("s")]
    classes = x.dims[roles.index("c")] if "c" in roles else None
    if not space or not isinstance(classes, int) or len(space) + 2 != x.rank or roles.index("n") != 0:
        raise InputError(
            f"target area: {shown(source.name or '')!r} is no segmentation's output: its axes are not known to be "
            "batch, classes and space"
        )
    channel = roles.index("c")
    inside = op.Greater(x, 0.0) if classes == 1 else op.GreaterOrEqual(x, op.ReduceMax(x, [channel], keepdims=1))
    mask = op.Cast(inside, to=x.dtype or ir.DataType.FLOAT)
    count = op.ReduceSum(mask, space, keepdims=0)
    return (
        op.ReduceMean(mask, space, keepdims=0),
        op.ReduceSum(x * mask, space, keepdims=0) / op.Max(count, 1.0),
        classes,
    )
