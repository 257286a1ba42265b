"""Attention probabilities: a softmax between two matrix products, of nodes or of what an operator is in others."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx_ir as ir

from cam_onnx.autodiff.path import Path

__all__ = ["probabilities"]

_PRODUCTS = {"MatMul", "Einsum"}
_BEFORE = {"Add", "Cast", "Clip", "Div", "Identity", "Mul", "Reshape", "Sub", "Where"}  # scales, masks, biases
_BEHIND = {"Cast", "Dropout", "Expand", "Identity", "Reshape", "Where"}  # empty rows made 0


def probabilities(path: Path) -> list[ir.Value]:
    """Return the attention probabilities on a path, from the picture on."""
    return [
        node.outputs[0]
        for node in path.nodes
        if node.op_type == "Softmax"
        and node.domain in ("", "ai.onnx")
        and node.outputs[0] in path.values
        and _reaches(node.outputs[0], _readers, _BEHIND)
        and _reaches(node.inputs[0], _givers, _BEFORE)
    ]


def _reaches(value: ir.Value | None, step: Callable[[ir.Value], Iterable[ir.Node]], through: set[str]) -> bool:
    """Whether a product lies on the way, with nothing else between than `through`."""
    stack, seen = [value], set()
    while stack:
        each = stack.pop()
        if each is None or each in seen:
            continue
        seen.add(each)
        for node in step(each):
            if node.op_type in _PRODUCTS:
                return True
            if node.op_type in through:
                stack += node.outputs if step is _readers else node.inputs
    return False


def _readers(value: ir.Value) -> Iterable[ir.Node]:
    return value.consumers()


def _givers(value: ir.Value) -> Iterable[ir.Node]:
    node = value.producer()
    return [] if node is None else [node]
