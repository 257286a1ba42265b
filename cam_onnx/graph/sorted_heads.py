"""A detection head in front of a TopK: files that sort and choose their candidates themselves (YOLO v10, v26).

The scores are followed back from what is sorted, over the maximum of each candidate's classes; the boxes are what the
sorted indices pick.
"""

from __future__ import annotations

import onnx_ir as ir

from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.val import cotangent_of
from cam_onnx.graph.heads import VIEWS, Head
from cam_onnx.graph.positions import dims

__all__ = ["before_sorting"]

_PICKS = {"Gather", "GatherElements", "GatherND"}
_INDICES = VIEWS | {"Div", "Expand", "Mod", "Mul", "Tile", "Concat", "Where", "Add", "Floor"}


def before_sorting(model: Model) -> Head | None:
    """Return the head whose candidates are sorted first; None: nothing is, or what is has no boxes beside it."""
    ends = [o for o in model.graph.outputs if len(dims(o) or ()) == 3 and (dims(o) or [0])[-1] == 6]
    if len(ends) != 1:
        return None
    for node in model.graph:
        if node.op_type != "TopK" or node.inputs[0] is None:
            continue
        scores = _scores(node.inputs[0])
        sizes = None if scores is None else dims(scores)
        if scores is None or sizes is None or not isinstance(sizes[2], int):
            return None
        boxes = {x for x in _picked(node.outputs[1]) if (dims(x) or [0])[1:] == [sizes[1], 4]}
        if len(boxes) != 1 or cotangent_of(scores) is None:
            return None
        [box] = boxes
        where = f"what {node.name or 'a TopK'} sorts: {scores.name}, with the boxes {box.name}"
        return Head(scores, box, where, classes=sizes[2], form="corners")
    return None


def _scores(value: ir.Value) -> ir.Value | None:
    """Return (N, A, C), of which the largest of each candidate, or all in one row, are sorted."""
    while (node := value.producer()) is not None and node.inputs and (x := node.inputs[0]) is not None:
        if len(dims(value) or ()) == 3:
            return value
        if node.op_type != "ReduceMax" and node.op_type not in VIEWS:
            return None
        value = x
    return None


def _picked(indices: ir.Value) -> list[ir.Value]:
    """Return the values that are picked from by indices."""
    found, stack, seen = [], [indices], {indices}
    while stack:
        value = stack.pop()
        for node in value.consumers():
            if node.op_type in _PICKS and len(node.inputs) > 1 and node.inputs[1] is value:
                if node.inputs[0] is not None:
                    found.append(node.inputs[0])
            elif node.op_type in _INDICES:
                new = [y for y in node.outputs if y not in seen]
                seen.update(new)
                stack += new
    return found
