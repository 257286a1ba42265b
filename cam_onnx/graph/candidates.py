"""What can be a target layer: a value with spatial extent on the way to the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from cam_onnx.autodiff.backward import mark
from cam_onnx.autodiff.model import Model
from cam_onnx.contract import Axes
from cam_onnx.errors import shown
from cam_onnx.graph.held import DERIVATIVE
from cam_onnx.graph.locate import Score, fed
from cam_onnx.graph.roles import axes_of, follow, has_extent

__all__ = ["Place", "candidates", "listed", "on_path"]


@dataclass(frozen=True)
class Place:
    """A target layer: a value's name, what its axes are, and why it is the default."""

    name: str
    axes: Axes
    why: str = ""


def candidates(model: Model, score: Score) -> list[Place]:
    """Return every inner value with spatial extent on the way to the score, in the order of the graph."""
    roles = follow(model.graph)
    found = []
    for value in on_path(model, score):
        axes = axes_of(roles.get(value, ()))
        if axes is not None and has_extent(value, axes) and value.name:
            found.append(Place(value.name, axes))
    return found


def on_path(model: Model, score: Score) -> list[ir.Value]:
    """Return every inner value of which the score has a derivative, also where none reaches the input (Round)."""
    inner = [y for node in model.graph for y in node.outputs]
    ends = score.values(model)
    path = mark(model.graph, [*fed(model), *inner], ends, model.opset, DERIVATIVE)
    return [y for y in inner if y in path.values and y not in ends]


def listed(names: Sequence[str]) -> str:
    """Return the last few names, the best candidates first."""
    last = [shown(n) for n in names[::-1][:8]]
    return (", ".join(last) or "none") + (", ..." if len(names) > 8 else "")
