"""A raw detection head in one value, boxes and scores side by side: YOLO v3 to v12, YOLOX.

Told by structure: how many candidates there are (so many cells, at strides of 8, 16 and 32, has the picture), and how
the rows are put together at the end: four numbers, then what went through a Sigmoid.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.val import cotangent_of
from cam_onnx.graph.ends import are_tokens
from cam_onnx.graph.positions import dims
from cam_onnx.graph.roles import follow

__all__ = [
    "VIEWS", "Head", "Level", "Numbers", "Segment", "Unchosen", "cells", "gives", "picture_sizes", "rows", "segments",
    "split", "told_classes",
]  # fmt: skip

LONGEST = 1 << 20  # characters of a list of names
_STRIDES = [(8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (8, 16, 32, 64, 128), (16, 32), (32,), (16,), (8,)]
VIEWS = {"Cast", "Contiguous", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


@dataclass(frozen=True)
class Unchosen:
    """Boxes (K, 4) that were chosen among all candidates, to be computed again without the choice.

    `hanging`: all values that are computed of the scores; `each`: every class of a candidate has a box of its own, but
    for the one that stands for nothing.
    """

    value: ir.Value
    hanging: frozenset[ir.Value]
    each: bool = False


@dataclass(frozen=True)
class Numbers:
    """Numbers of every candidate of a grid, `each` of them along the last axis that is no other.

    `axes` are those of the grid: two of a map, or one that lists all cells.
    """

    value: ir.Value
    axes: tuple[int, ...]
    each: int


@dataclass(frozen=True)
class Level:
    """One level of a pyramid that has outputs of its own: class scores, what multiplies them, boxes.

    `grid`: a value whose axes `places` are the rows and columns of cells, `stride` pixels apart; None: not known.
    """

    stride: int
    scores: Numbers
    sure: Numbers | None = None
    boxes: Numbers | None = None
    grid: ir.Value | None = None
    places: tuple[int, ...] = ()


@dataclass(frozen=True)
class Head:
    """A raw detection head.

    Attributes
    ----------
    scores, boxes : onnx_ir.Value
        One value for both, or two. `boxes` None: not known; `Unchosen`: chosen inside the file.
    parts : tuple of onnx_ir.Value
        Of the scores, (A, C) each or (1, A, C), in the order of `Unchosen` boxes. The class that stands for nothing
        keeps its place: classes are numbered as the file does.
    turned : bool
        Candidates are the last axis: (N, parts, A); of `scores`.
    first : int
        Where the classes begin in `scores`, and
    classes : int or None
        how many there are, None: all that remain.
    objectness : int or None
        Where the number stands that multiplies the classes.
    activation : str
        "": scores are the file's probabilities; "sigmoid": logits of each class; "first", "last": logits of which the
        first or the last class is that there is nothing.
    form : str
        Of the boxes: "centre" (x, y, width, height), "centre of 1" (in parts of the picture), "corners" (x, y, x, y),
        "rows" (y, x, y, x), "grid" (offsets in cells and logarithms of sizes in strides), "cell of 1" (offsets in cells
        behind a tanh, and parts of the picture behind a Sigmoid), "sides" (how far a cell's centre is from the left,
        top, right and bottom, in pixels), "sides of corners" (how far its first corner is, in strides, of several
        candidates at a cell), "" (not known).
    strides : tuple of int
        Of "grid", where no `levels` have their own.
    corner : int
        Where the four numbers of a box begin in `scores`, if they are there.
    levels : tuple of Level
        Where no value holds all candidates; `scores` is then the first level's, and `boxes` the same where they are in
        it.
    squash : bool
        Class scores and what multiplies them are logits, of which the file leaves the Sigmoid to its caller.
    powers : tuple of float
        To which objectness and class are raised before they are multiplied.
    why : str
    """

    scores: ir.Value
    boxes: ir.Value | Unchosen | None
    why: str
    turned: bool = False
    first: int = 0
    classes: int | None = None
    objectness: int | None = None
    activation: str = ""
    form: str = ""
    strides: tuple[int, ...] = ()
    parts: tuple[ir.Value, ...] = ()
    corner: int = 0
    levels: tuple[Level, ...] = ()
    squash: bool = False
    powers: tuple[float, float] = (1.0, 1.0)

    @property
    def explained(self) -> list[ir.Value]:
        """What the score is made of."""
        of_levels = [each.value for level in self.levels for each in (level.scores, level.sure) if each is not None]
        return of_levels or [self.scores]


@dataclass(frozen=True)
class Segment:
    """Neighbouring entries of an axis that one value gives."""

    size: int
    value: ir.Value
    squashed: bool  # by a Sigmoid


def picture_sizes(model: Model) -> tuple[int, int] | None:
    """Return height and width of the picture, where they are fixed."""
    for value in model.graph.inputs:
        sizes = dims(value)
        if sizes is not None and len(sizes) == 4 and value.name not in model.graph.initializers:
            roles = follow(model.graph).get(value, ())
            found = [sizes[roles.index(axis)] for axis in ("s0", "s1") if axis in roles]
            if len(found) == 2 and isinstance(found[0], int) and isinstance(found[1], int):
                return found[0], found[1]
    return None


def cells(size: tuple[int, int], strides: Sequence[int]) -> int:
    """Return how many cells a picture has on all levels of a pyramid."""
    return sum(-(-size[0] // s) * -(-size[1] // s) for s in strides)


def rows(model: Model) -> Head | str | None:
    """(N, 4 + [1] + C, A) or (N, A, 4 + [1] + C)."""
    for output in model.graph.outputs:
        sizes = dims(output)
        if sizes is None or len(sizes) != 3 or cotangent_of(output) is None:
            continue
        for axis in (1, 2):
            parts = sizes[axis]
            if not isinstance(parts, int) or parts < 5:
                continue
            found = list(segments(output, axis) or ())
            per_cell, strides = (0, ()) if are_tokens(output) else _per_cell(model, sizes[3 - axis])
            told = told_classes(model)
            if (head := _of_rows(output, axis, parts, found, per_cell, strides, told)) is not None:
                return head
    return None


def _of_rows(
    output: ir.Value, axis: int, parts: int, found: list[Segment], per_cell: int, strides: tuple[int, ...], told: int
) -> Head | str | None:
    boxes, rest = split(found)
    scores = [segment for segment in rest if segment.squashed]
    if not per_cell and not (boxes and scores and rest[0].squashed):
        return None
    where = f"{output.name} has 4 numbers of a box and scores for each candidate"
    if per_cell:
        listed = ", ".join(map(str, strides))
        where += f", {per_cell} of them at each cell of stride{'s'[: len(strides) > 1]} {listed}"
    objectness: bool | None = None
    first = 4
    classes: int | None = None
    if boxes and scores and rest[0].squashed:
        if len(scores) > 1 and scores[0].size == 1:
            objectness, classes = True, scores[1].size
        elif len(rest) == 1 or len(scores) == 1:
            # of one piece: YOLO v3 to v7 have it, with three anchors a cell, and centre and size apart
            objectness = per_cell == 3 or (not per_cell and len(boxes) > 1)
            classes = scores[0].size - objectness
    elif per_cell == 3:
        objectness = True
    elif per_cell == 1 and axis == 1 and not found:
        objectness = False
    if told and parts in (4 + told, 5 + told) and objectness is not False:
        objectness, classes = parts == 5 + told, told
    if objectness is None or (classes is not None and classes < 1):
        return f"{where}; whether the fifth is an objectness cannot be told"
    first += objectness
    raw = bool(boxes) and all(gives(segment.value) == "Conv" for segment in boxes)
    if raw and not (strides and per_cell == 1):
        return f"{where}; boxes are relative to anchors that the file does not have"
    return Head(
        output, output, where, turned=axis == 1, first=first, classes=classes,
        objectness=4 if objectness else None, form="grid" if raw else "centre", strides=strides if raw else (),
    )  # fmt: skip


def told_classes(model: Model) -> int:
    """Return how many classes the file says that it has (ultralytics' ``names``), 0 where it does not."""
    text = next((entry.value for entry in model.proto.metadata_props if entry.key == "names"), "")
    try:
        names = ast.literal_eval(text) if len(text) < LONGEST else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return 0
    return len(names) if isinstance(names, (dict, list)) else 0


def split(found: list[Segment]) -> tuple[list[Segment], list[Segment]]:
    """Return the segments of the first four numbers and the others; none where no border lies behind the fourth."""
    at = 0
    for i, segment in enumerate(found):
        at += segment.size
        if at == 4:
            return found[: i + 1], found[i + 1 :]
    return [], []


def _per_cell(model: Model, candidates: int | str | None) -> tuple[int, tuple[int, ...]]:
    """Return how many candidates each cell of a pyramid has, and its strides; 0: there is no such pyramid."""
    size = picture_sizes(model)
    if size is None or not isinstance(candidates, int) or candidates < 16:
        return 0, ()
    for strides in _STRIDES:
        for count in (1, 3):
            if cells(size, strides) * count == candidates:
                return count, strides
    return 0, ()


def segments(value: ir.Value, axis: int) -> Iterator[Segment] | None:
    """Return what an axis of a value is put together of: back through views and joints of other axes."""
    sizes = dims(value)
    if sizes is None or not isinstance(sizes[axis], int):
        return None
    size = sizes[axis]
    assert isinstance(size, int)
    node = value.producer()
    x = None if node is None or not node.inputs else node.inputs[0]
    given = None if x is None else dims(x)
    if node is not None and x is not None and given is not None:
        if node.op_type == "Concat":
            along = node.attributes["axis"].as_int() % len(sizes)
            if along != axis:
                return segments(x, axis)  # levels of a pyramid are made alike
            parts = [None if each is None else segments(each, axis) for each in node.inputs]
            if all(part is not None for part in parts):
                return (segment for part in parts if part is not None for segment in part)
        if node.op_type in ("Identity", "Cast"):
            return segments(x, axis)
        if node.op_type == "Transpose" and "perm" in node.attributes:
            return segments(x, node.attributes["perm"].as_ints()[axis])
        if node.op_type in ("Reshape", "Flatten") and (before := _same_axis(given, sizes, axis)) is not None:
            return segments(x, before)
    return iter([Segment(size, value, gives(value) == "Sigmoid")])


def _same_axis(given: list[int | str | None], taken: list[int | str | None], axis: int) -> int | None:
    """Return the axis that a reshape leaves as it is, where everything in front or behind stays too."""
    if len(given) > axis and given[1 : axis + 1] == taken[1 : axis + 1]:
        return axis
    behind = len(taken) - axis
    if len(given) >= behind and given[-behind:] == taken[-behind:]:
        return len(given) - behind
    return None


def gives(value: ir.Value) -> str:
    """Return the operator that gives a value, behind views and cuts."""
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type not in VIEWS | {"Slice", "Split", "Gather"}:
            return node.op_type
        value = node.inputs[0]
    return ""
