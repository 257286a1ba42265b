"""What a network adds on the way from the picture to the score: constants, each with the value that it goes into.

A piecewise-linear network's score is the picture times its gradient plus all of these times theirs.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.path import Path
from cam_onnx.autodiff.rules.normalization import per_channel
from cam_onnx.autodiff.val import Val
from cam_onnx.graph.merged import constant, emitted, leader

__all__ = ["biased", "part"]


def biased(path: Path) -> list[ir.Value]:
    """Return the values on a path to which their node adds a constant."""
    return [node.outputs[0] for node in path.nodes if node.outputs[0] in path.values and _adds(node)]


def part(op: Emitter, z: ir.Value, g: Val) -> Val:
    """Return bias times gradient: (N, C, *S) where that is known to be the layout, else their sum, (N, 1)."""
    node = z.producer()
    assert node is not None
    product = g * _bias(op, node)
    if node.op_type in _CHANNELS_FIRST or (leader(z, emitted(op)) or node).op_type == "Conv":
        op.shaped_as(product, z)
        return product
    flat = op.Reshape(product, op.Concat(op.shape(op.primal(z), 0, 1), [-1], axis=0))
    return op.ReduceSum(flat, [1], keepdims=1)


_CHANNELS_FIRST = {"Conv", "ConvTranspose", "BatchNormalization"}


def _adds(node: ir.Node) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type in ("Conv", "ConvTranspose", "Gemm"):
        return len(node.inputs) > 2 and node.inputs[2] is not None
    if node.op_type in ("Add", "Sub"):
        return any(x is not None and constant(x) for x in node.inputs)
    return node.op_type in ("BatchNormalization", "LayerNormalization")


def _bias(op: Emitter, node: ir.Node) -> Val | float:
    xs = [None if x is None else op.primal(x) for x in node.inputs]
    z = op.primal(node.outputs[0])
    if node.op_type in ("Add", "Sub"):
        [at] = [i for i, x in enumerate(node.inputs) if x is not None and constant(x)][:1]
        return _given(xs, at) * (-1.0 if node.op_type == "Sub" and at else 1.0)
    if node.op_type == "BatchNormalization":
        s, b, mean, var = (_given(xs, i) for i in (1, 2, 3, 4))
        epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
        return per_channel(op, b - mean * s / op.Sqrt(var + epsilon), z)
    if node.op_type == "LayerNormalization":
        return _given(xs, 2) if len(xs) > 2 and xs[2] is not None else 0.0
    if node.op_type == "Gemm":
        beta = node.attributes["beta"].as_float() if "beta" in node.attributes else 1.0
        return _given(xs, 2) * beta
    return per_channel(op, _given(xs, 2), _given(xs, 1))


def _given(xs: Iterable[Val | None], index: int) -> Val:
    found = list(xs)[index]
    assert found is not None
    return found
