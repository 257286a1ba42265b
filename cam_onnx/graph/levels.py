"""Detection heads with outputs of each level, which no value joins: Darknet's YOLO, YuNet, RetinaNet and FCOS alone.

Told by structure: the outputs stand on grids of several strides, as many on each, with as many numbers of a cell. One
output of each level has all numbers of a candidate; else boxes, classes, and how sure a box is, have one each. Where a
file leaves the activation to its caller, what the logits are is told by what stands beside them, or by how low they
start (`focal`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cam_onnx.autodiff.model import Model
from cam_onnx.expression import quoted
from cam_onnx.graph.embeddings import are_places
from cam_onnx.graph.focal import focal
from cam_onnx.graph.heads import Head, Level, segments, split, told_classes
from cam_onnx.graph.positions import dims
from cam_onnx.graph.pyramid import Output, Pyramid, last, pyramid

__all__ = ["levels"]

_SQUASHED = {"Sigmoid", "Softmax"}
_LINEAR = {"Add", "BatchNormalization", "Conv", "FusedConv", "MatMul", "Mul", "NhwcFusedConv", "QLinearConv"}
# boxes, an objectness and the classes of the usual data (1, 20, 80), of three anchors
_DARKNET = {3 * (5 + classes) for classes in (1, 20, 80)}
_BOXES = {"bbox", "bboxes", "box", "boxes", "delta", "deltas", "loc", "locations", "reg", "regression"}
_ANCHORS = set(range(1, 7)) | {9}  # at a cell
_SPREAD = {8, 11, 16, 17}  # numbers that each side of a box is a distribution over (Li 2020, arXiv:2006.04388)
_CENTRED = {"center", "centerness", "centre", "centreness", "ctr", "ctrness"}


def levels(model: Model) -> Head | str | None:
    """Return the head; a text: there is one, and what of it is not known; None: there is none."""
    rows = pyramid(model)
    if not rows:
        return None
    listed = "; ".join(f"stride {row[0].stride}: {', '.join(o.value.name or '' for o in row)}" for row in rows)
    where = f"a raw head in {'outputs of each level' if len(rows) > 1 else 'one output'} ({listed})"
    if len(rows[0]) == 1:
        outputs = [row[0] for row in rows]
        found = _of_cells(model, outputs, where) or _of_anchors(model, outputs, where)
    else:
        found = _parted(rows, where) if len(rows) > 1 else None
    if not isinstance(found, str):
        return found
    one = next((o for o in rows[0] if not o.words & _BOXES), rows[0][-1])
    named = dict(zip(one.axes, ["ROW", "COLUMN"] if len(one.axes) == 2 else ["CELL"], strict=True))
    place = ",".join(["0", *(named.get(i, "CHANNEL") for i in range(1, len(dims(one.value) or ())))])
    return f"{found}: value:{quoted(one.value.name or '')}[{place}] explains one of them"


# -- one output of each level ----------------------------------------------------------------------------------------


def _of_cells(model: Model, outputs: Sequence[Output], where: str) -> Head | None:
    """One candidate a cell, its numbers put together of boxes and scores: YOLOX, FastestDet."""
    first = outputs[0]
    rest = [i for i in range(1, len(dims(first.value) or ())) if i not in first.axes]
    found = list(segments(first.value, rest[0]) or ()) if len(rest) == 1 else []
    sizes, gives = [each.size for each in found], [last(each.value) for each in found]
    classes = sizes[-1] if sizes else 0
    head = Head(
        first.value, first.value, f"{where}: a box and {classes} classes at each cell",
        first=5, classes=classes, objectness=4,
        levels=tuple(Level(o.stride, o.of(o.count), grid=o.grid, places=o.places) for o in outputs),
    )  # fmt: skip
    if sizes[:2] == [1, 4] and gives[:1] + gives[2:] == ["Sigmoid", "Softmax"]:
        return replace(head, objectness=0, corner=1, form="cell of 1", powers=(0.6, 0.4))
    posed = len(found) == 3 and sizes[1] == told_classes(model)  # and points of each
    if (len(found) == 2 or posed) and sizes[0] in {4 * n for n in _SPREAD} and len(outputs) > 1:  # YOLO v8
        classes = sizes[1]
        why = f"{where}: a box and {classes} class{'es'[: 2 * (classes > 1)]} at each cell"
        head = replace(head, why=why, first=sizes[0], classes=classes, objectness=None)
        ends = [list(segments(o.value, rest[0]) or ())[1] for o in outputs]
        if all(end.squashed for end in ends):
            return head
        return replace(head, activation="sigmoid") if all(focal([end.value], classes) for end in ends) else None
    boxes, scores = split(found)
    kinds = {"Sigmoid" if each.squashed else last(each.value) for each in scores}
    if len(outputs) < 2 or not boxes or len(kinds) != 1 or not kinds <= {"Sigmoid", *_LINEAR}:
        return None
    plain = all(last(each.value) in _LINEAR for each in boxes)
    if len(scores) == 2 and scores[0].size == 1:
        return replace(head, form="grid" if plain else "", squash=kinds != {"Sigmoid"})
    return replace(head, first=4, objectness=None) if len(scores) == 1 and kinds == {"Sigmoid"} else None


def _of_anchors(model: Model, outputs: Sequence[Output], where: str) -> Head | str | None:
    """Boxes, an objectness and classes of each anchor, as Darknet has it."""
    first = outputs[0]
    each = first.each if first.each != first.count else None
    if each is None and (first.count in _DARKNET | {3 * (5 + told_classes(model))} or _objects(outputs)):
        each = first.count // 3
    if len(outputs) < 2 or each is None or each < 6 or first.count % each:
        return None
    if first.last not in {"Sigmoid", *_LINEAR}:
        return f"{where}, of which it is not known what their caller does to them"
    return Head(
        first.value, first.value, f"{where}: {first.count // each} candidates at each cell, an objectness and "
        f"{each - 5} classes of each, and boxes relative to anchors that the file does not have",
        first=5, classes=each - 5, objectness=4, squash=first.last != "Sigmoid",
        levels=tuple(Level(o.stride, o.of(each), grid=o.grid, places=o.places) for o in outputs),
    )  # fmt: skip


def _objects(outputs: Sequence[Output]) -> bool:
    """Whether each of three anchors has an objectness that starts low, since few cells have a thing."""
    count = outputs[0].count
    return count % 3 == 0 and count > 15 and all(focal([o.value], count // 3, only=4) for o in outputs)


# -- an output of each kind of numbers -------------------------------------------------------------------------------


def _parted(rows: Pyramid, where: str) -> Head | str | None:
    """Boxes in one output, classes in another, perhaps how sure a box is in a third."""
    first = rows[0]
    boxes = _boxes(first)
    if not boxes:
        return None
    sides = first[boxes[0]].count // 4
    anchors = 1 if sides in _SPREAD and first[boxes[0]].each != 4 else sides
    squashed = any(o.last in _SQUASHED for o in first)
    scores = [
        i for i, o in enumerate(first)
        if i not in boxes and o.count % anchors == 0 and (o.last in _SQUASHED if squashed else not are_places(o.value))
    ]  # fmt: skip
    if not scores and len(boxes) == 1:
        return None
    scores.sort(key=lambda i: -first[i].count)
    if len(boxes) > 1 or len(scores) > 2 or (len(scores) == 2 and first[scores[1]].count != anchors):
        return f"{where}, of which it is not known which are boxes and which classes"
    box, [of, *sure] = first[boxes[0]], [first[i] for i in scores]
    classes = of.count // anchors
    where += f": {box.value.name or ''} has boxes, {of.value.name or ''} class scores, {classes}"
    found = tuple(
        Level(row[0].stride, row[scores[0]].of(classes), row[scores[1]].of(1) if sure else None, row[boxes[0]].of(4),
              row[boxes[0]].grid, row[boxes[0]].places)
        for row in rows
    )  # fmt: skip
    form = "sides of corners" if _is_scrfd(first) else _form(box, sure, anchors)
    head = Head(of.value, box.value, where, classes=classes, form=form, levels=found)
    if sure:
        if of.last == "Softmax" or (of.last == "Sigmoid") != (sure[0].last == "Sigmoid"):
            return f"{where}, and it is not known what their caller does to them"
        why, inside = f"{where}, times {sure[0].value.name or ''}", _inside(rows, head, scores)
        head = replace(head, why=why, squash=of.last != "Sigmoid", powers=(0.5, 0.5))
        if of.last == "Sigmoid" and inside is not None and of.free:
            return replace(head, scores=inside[0].scores.value, levels=inside, squash=True)
        return head
    inside = _inside(rows, head, scores)
    logits = None if inside is None else replace(head, scores=inside[0].scores.value, levels=inside)
    if of.last == "Sigmoid":  # its logits say more, where it stands at the end
        return head if logits is None else replace(logits, activation="sigmoid")
    if of.last == "Softmax":
        if logits is None or classes == 1 or (anchors > 1 and of.each is None):
            return f"{where}, and which of them stands for nothing is not known"
        return replace(logits, first=1, classes=classes - 1, activation="first")
    if classes == 1 or all(focal([row[scores[0]].value], classes) for row in rows):
        return replace(head, activation="sigmoid")
    return f"{where}; whether one of them stands for nothing cannot be told: they are logits of unknown kind"


def _inside(rows: Pyramid, head: Head, scores: Sequence[int]) -> tuple[Level, ...] | None:
    """Return the levels in front of the activations, where these stand at the very end of all of them."""
    found = []
    for row, level in zip(rows, head.levels, strict=True):
        logits = row[scores[0]].before(level.scores.each)
        sure = row[scores[1]].before(1) if len(scores) == 2 else None
        if logits is None or (sure is None) != (level.sure is None):
            return None
        found.append(replace(level, scores=logits, sure=sure))
    return tuple(found)


def _boxes(outputs: Sequence[Output]) -> list[int]:
    """Return which outputs of a level are boxes: four numbers of each candidate, and no scores; by name, if several.

    Or four distributions, of a candidate at each cell.
    """
    found = [
        i for i, o in enumerate(outputs)
        if o.count % 4 == 0 and o.count // 4 in _ANCHORS | _SPREAD and o.last not in _SQUASHED
        and (o.each in (4, None) or (o.each == o.count and o.count // 4 in _SPREAD))
    ]  # fmt: skip
    for sure in (
        [i for i in found if outputs[i].words & _BOXES],
        [i for i in found if 4 in (outputs[i].each, outputs[i].count)],
    ):
        if len(sure) == 1:
            return sure
    return found


def _is_scrfd(outputs: Sequence[Output]) -> bool:
    """Whether there are a score, a box and five points of two candidates a cell (Guo 2021, arXiv:2105.04714)."""
    each = sorted((o.each or 0, o.count) for o in outputs)
    return each == [(1, 2), (4, 8), (10, 20)] and all(o.grid is not None for o in outputs)


def _form(box: Output, sure: Sequence[Output], anchors: int) -> str:
    """Return the form of boxes that need no anchors: with several of them at a cell, the file does not have them."""
    if anchors != 1 or box.count != 4 or box.grid is None:
        return ""
    if box.last == "Exp":  # behind a Relu they are in strides, of a cell's corner (torchvision) or its centre (others)
        return "sides"
    centred = not sure or bool(sure[0].words & _CENTRED)
    return "grid" if box.last in _LINEAR and not centred else ""
