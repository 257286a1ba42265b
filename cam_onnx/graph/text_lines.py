"""A network that reads lines of text, told by its strides: it divides heights by much more than widths.

A line has one height and any length, so such a network keeps places along it and brings the height down to one. Fed a
picture at its own size it answers all the same, and wrongly.
"""

from __future__ import annotations

import onnx_ir as ir

from cam_onnx.graph.roles import follow
from cam_onnx.graph.strides import strides
from cam_onnx.sources.paddle import line_of_text
from cam_onnx.sources.table import Said, Subject

__all__ = ["text_lines"]

FLAT = 4  # of heights and widths at least, over all layers


def text_lines(graph: ir.Graph, subject: Subject) -> Said | None:
    """Return a guess at the preprocessing, as PaddleOCR feeds lines; None: it is no such network, or of fixed size."""
    shape = subject.shape or ()
    if len(shape) != 4 or shape[1] != 3 or isinstance(shape[3], int):
        return None
    grids = [found for found in strides(graph, follow(graph)).values() if len(found) == 2]
    tall, wide = max(grids, default=(1, 1))
    if tall < FLAT * wide:
        return None
    return Said(
        f"a guess: lines of text, since heights are divided by {tall} and widths by {wide}", line_of_text(subject)
    )
