"""How networks of one kind are usually fed, where the graph shows the kind: a better guess than one for any network.

A reader of text lines divides heights by much more than widths, since a line has one height and any length. A raw head
of boxes is of the YOLO family: the one that leaves the grid to its caller is YOLOX's, which is fed pixels as they are,
and so is YuNet, its child with an output of each kind; all others are fed parts of 255. Nothing is taken off the mean
in any.
"""

from __future__ import annotations

from typing import Any

from cam_onnx.autodiff.model import Model
from cam_onnx.graph import detectors
from cam_onnx.graph.heads import Head
from cam_onnx.graph.roles import follow
from cam_onnx.graph.strides import strides
from cam_onnx.sources.paddle import line_of_text
from cam_onnx.sources.table import Said, Subject

__all__ = ["usual"]

FLAT = 4  # heights by widths, at least, over all layers of a reader of lines
HEIGHTS = (32, 48, 64)  # of lines of text, in pixels
_OF_YOLO: tuple[str, dict[str, Any]] = ("YOLO", dict(channels="RGB", scale=1 / 255, fit="letterbox", fill=114.0))
YOLO: dict[str, tuple[str, dict[str, Any]]] = {  # by the form of the head's boxes
    "grid": ("YOLOX", dict(channels="BGR", scale=1.0, fit="corner", fill=114.0)),
    "centre": _OF_YOLO,
    "anchors": _OF_YOLO,
    "cell of 1": ("FastestDet", dict(channels="BGR", scale=1 / 255, fit="stretch")),
    "sides of corners, an output each": (
        "SCRFD",
        dict(channels="RGB", scale=1.0, mean=(127.5,), std=(128.0,), fit="corner", fill=0.0),
    ),
    "grid, an output each": ("YuNet", dict(channels="BGR", scale=1.0, fit="corner", fill=0.0)),
}


def usual(model: Model, subject: Subject) -> Said | None:
    """Return a guess at the preprocessing; None: the graph shows none of these kinds of pictures in colours."""
    shape = subject.shape or ()
    if len(shape) != 4 or 3 not in (shape[1], shape[3]) or subject.dtype == "uint8":
        return None
    return _lines(model, subject) or _boxes(model)


def _lines(model: Model, subject: Subject) -> Said | None:
    if isinstance((subject.shape or ())[3], int):
        return None
    grids = [found for found in strides(model.graph, follow(model.graph)).values() if len(found) == 2]
    tall, wide = max(grids, default=(1, 1))
    if tall < FLAT * wide:
        return None
    where = f"a guess: lines of text, since heights are divided by {tall} and widths by {wide}"
    # of the height of a line that is read nothing is left: 32 in PaddleOCR's first two versions, 48 since the third
    reads = any(output.shape is not None and len(output.shape) == 3 for output in model.graph.outputs)
    return Said(where, line_of_text(subject, int(tall)) if reads and tall in HEIGHTS else line_of_text(subject))


def _boxes(model: Model) -> Said | None:
    head = detectors.find(model)
    if not isinstance(head, Head):
        return None
    form = head.form or ("anchors" if head.levels and head.objectness is not None else "")
    if head.boxes is not head.scores:
        form += ", an output each"
    if form not in YOLO:
        return None
    name, fields = YOLO[form]
    return Said(f"a guess: as {name} is fed, whose head this is", fields)
