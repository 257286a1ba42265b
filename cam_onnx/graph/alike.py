"""What fused and quantised operators do to axes, told by the standard's operator of which they were made.

What an optimiser or a quantiser wrote has its positions where they were before: the axes of its values are followed as
those of the plain file are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

__all__ = ["Alike", "Node", "alike"]

# operator -> the standard's, and which inputs are its operands; None: every third one from the third on
_OF: dict[str, tuple[str, tuple[int, ...] | None]] = {
    "BiasAdd": ("Sum", (0, 1, 2)),
    "BiasGelu": ("Add", (0, 1)),
    "DynamicQuantizeLinear": ("Identity", (0,)),
    "DynamicQuantizeLSTM": ("LSTM", (0, 1, 2)),
    "DynamicQuantizeMatMul": ("MatMul", (0, 1)),
    "FusedGemm": ("Gemm", (0, 1, 2)),
    "FusedMatMul": ("MatMul", (0, 1)),
    "MatMulInteger": ("MatMul", (0, 1)),
    "MatMulIntegerToFloat": ("MatMul", (0, 1)),
    "MatMulNBits": ("MatMul", (0, 1)),
    "QGemm": ("Gemm", (0, 3)),
    "QLinearAdd": ("Add", (0, 3)),
    "QLinearConcat": ("Concat", None),
    "QLinearLeakyRelu": ("LeakyRelu", (0,)),
    "QLinearMatMul": ("MatMul", (0, 3)),
    "QLinearMul": ("Mul", (0, 3)),
    "QLinearSigmoid": ("Sigmoid", (0,)),
    "QLinearSoftmax": ("Softmax", (0,)),
    "QLinearWhere": ("Where", (0, 1, 4)),
    "SkipLayerNormalization": ("LayerNormalization", (0, 1)),
    "SkipSimplifiedLayerNormalization": ("LayerNormalization", (0, 1)),
    "TransposeMatMul": ("MatMul", (0, 1)),
}


@dataclass(frozen=True)
class Alike:
    """A node as the standard's operator would stand there. A turned operand is told by ``transA`` and ``transB``."""

    op_type: str
    inputs: Sequence[ir.Value | None]
    outputs: Sequence[ir.Value]
    attributes: Mapping[str, ir.Attr]


Node = ir.Node | Alike


def alike(node: ir.Node) -> Node:
    """Return the node, or the one that it does to axes what it does."""
    if node.op_type not in _OF:
        return node
    op_type, operands = _OF[node.op_type]
    inputs = node.inputs[2::3] if operands is None else [node.inputs[i] for i in operands if i < len(node.inputs)]
    return Alike(op_type, inputs, node.outputs, node.attributes)
