"""What recognisers of tasks see, outputs: what the model does last, and what that reads; and what they say: a task."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.val import cotangent_of
from cam_onnx.graph.alike import alike
from cam_onnx.graph.first_axes import CONVOLUTIONS
from cam_onnx.graph.positions import dims
from cam_onnx.graph.roles import Roles, follow
from cam_onnx.graph.states import is_next
from cam_onnx.graph.upstream import upstream
from cam_onnx.kinds import Kind

__all__ = ["Output", "Task", "are_tokens", "outputs_of"]

_OF_TOKENS = {"LayerNormalization", "MatMul"}
_ENDS = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid", "ArgMax": "argmax"}


@dataclass(frozen=True)
class Output:
    """An output of floats, or of the class that is the largest, of known rank."""

    value: ir.Value
    sizes: list[int | str | None]
    end: str  # "softmax", "sigmoid", "argmax": what the model does last; "" nothing of these
    axis: int | None  # along which axis of `source`, where the end has one
    source: ir.Value  # what the end reads, else the output
    roles: Roles


@dataclass(frozen=True)
class Task:
    """What a model does, the value that is explained, and why.

    `kind`: of the default target; None: the logit of a class. `asks`: what has to be said first. `could`: what it is
    instead where files beside the model say so.
    """

    name: str
    score: str
    why: str
    kind: Kind | None = None
    asks: str = ""
    activation: str = ""
    could: tuple[Task, ...] = ()


def outputs_of(model: Model) -> list[Output]:
    roles = follow(model.graph)
    found = []
    for value in model.graph.outputs:
        end, axis, source = _end(value)
        sizes = dims(value)
        if (
            sizes is None
            or is_next(model.graph, value)
            or (end != "argmax" and cotangent_of(value) is None)
            or not value.name
        ):
            continue
        if dims(source) is None or cotangent_of(source) is None:
            end, axis, source = "", None, value
        if cotangent_of(source) is not None:
            found.append(Output(value, sizes, end, axis, source, tuple(roles.get(source, ()))))
    return found


def _end(value: ir.Value) -> tuple[str, int | None, ir.Value]:
    """Return the last activation, its axis, and what it reads; an ArgMax behind a Softmax is an ArgMax."""
    end, axis, source, whole = "", None, value, dims(value)
    while (node := value.producer()) is not None and node.inputs and (x := node.inputs[0]) is not None:
        if node.op_type in _ENDS and not (end and _ENDS[node.op_type] in (end, "sigmoid")):
            rank = len(x.shape) if x.shape is not None else 0
            at = node.attributes["axis"].as_int() if "axis" in node.attributes else 0 - (node.op_type != "ArgMax")
            end, source = end or _ENDS[node.op_type], x
            axis = at % rank if rank and node.op_type != "Sigmoid" else axis
        elif node.op_type not in ("Identity", "Cast", "Dropout", "Squeeze", *(() if end else ("Reshape",))):
            break
        value = x
    flat = source.producer()
    x = None if flat is None or flat.op_type != "Flatten" or not end else flat.inputs[0]
    if x is not None and flat is not None and len(dims(x) or ()) == len(whole or ()) and "axis" in flat.attributes:
        axis, source = flat.attributes["axis"].as_int() % len(whole or (0,)), x  # an old Softmax, raised
    return end, axis, source


def are_tokens(output: ir.Value) -> bool:
    """Whether the last learned layers before an output are of tokens: these may be as many as cells by chance."""
    nodes = list(upstream(output, lambda node: alike(node).op_type in CONVOLUTIONS | _OF_TOKENS))
    of_tokens = [node for node in nodes if alike(node).op_type in _OF_TOKENS and len(dims(node.outputs[0]) or ()) > 2]
    return bool(of_tokens) and all(node.op_type not in CONVOLUTIONS for node in nodes)
