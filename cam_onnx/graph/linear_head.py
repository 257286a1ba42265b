"""Whether what lies between a layer and the score is a global pooling and one linear layer.

CAM (Zhou 2016) is defined for such heads only; there Σ gradients over space IS the class's weight row.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from cam_onnx.autodiff.backward import Path
from cam_onnx.contract import Axes

__all__ = ["describe"]

_SAME = {"Identity", "Dropout", "Cast", "Reshape", "Flatten", "Squeeze", "Transpose"}
_POOLS = {
    "GlobalAveragePool": "average-pooling",
    "ReduceMean": "average-pooling",
    "AveragePool": "average-pooling",
    "GlobalMaxPool": "max-pooling",
    "ReduceMax": "max-pooling",
    "MaxPool": "max-pooling",
}


def describe(layer: ir.Value, score: ir.Value, path: Path, axes: Axes) -> str:
    """Return "average-pooling + linear", "max-pooling + linear" or "other"."""
    nodes, value, pooled, linear = set(path.nodes), layer, "", False
    while value is not score:
        users = [use.node for use in value.uses() if use.node in nodes]
        if len(users) != 1:
            return "other"
        node = users[0]
        y = path.chain(node.outputs[0])[-1]  # of a function: the call's
        if node.op_type in _POOLS and not pooled and not linear:
            if not _covers_space(node, value, axes):
                return "other"
            pooled = _POOLS[node.op_type]
        elif pooled and not linear and _is_linear(node, value):
            linear = True
        elif not (node.op_type in _SAME and pooled) and not (linear and _adds_constant(node, value)):
            return "other"
        value = y
    return f"{pooled} + linear" if pooled and linear else "other"


def _covers_space(node: ir.Node, x: ir.Value, axes: Axes) -> bool:
    """Whether the node reduces all spatial axes, each entry counted once, and nothing else."""
    y = node.outputs[0]
    if axes.tokens is not None:  # others in the list are averaged with the grid's
        sizes = axes.tokens.grid
        if x.shape is None or None in sizes or x.shape[axes.spatial[0]] != math.prod(map(int, filter(None, sizes))):
            return False
    if node.op_type.startswith("Global"):
        return True
    if x.shape is None or y.shape is None:
        return False
    if node.op_type.startswith("Reduce"):
        return _reduced_axes(node, len(x.shape)) == set(axes.spatial)
    lengths = [x.shape[i] for i in axes.spatial]
    kernel = list(node.attributes["kernel_shape"].as_ints())
    pads = node.attributes.get("pads")
    return kernel == lengths and (pads is None or not any(pads.as_ints()))


def _reduced_axes(node: ir.Node, rank: int) -> set[int] | None:
    if "axes" in node.attributes:
        return {a % rank for a in node.attributes["axes"].as_ints()}
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is None or given.const_value is None:
        return None
    return {int(a) % rank for a in given.const_value.numpy().reshape(-1)}


def _is_linear(node: ir.Node, x: ir.Value) -> bool:
    if node.op_type not in ("Gemm", "MatMul", "Conv") or node.inputs[0] is not x or _constant(node.inputs[1]) is False:
        return False
    return node.op_type != "Gemm" or not ("transA" in node.attributes and node.attributes["transA"].as_int())


def _adds_constant(node: ir.Node, x: ir.Value) -> bool:
    if node.op_type in _SAME:
        return True
    return node.op_type in ("Add", "Sub") and all(v is x or _constant(v) for v in node.inputs)


def _constant(value: ir.Value | None) -> bool:
    return value is None or value.const_value is not None
