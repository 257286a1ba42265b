"""Integers that stand for real numbers: ``(q - zero_point) * scale``. Which values are such, and how they are read.

A quantised value carries a derivative, with respect to the real number that it stands for; any other integer has none.
What an integer stands for is not in its type: the operator that gives it says so, and operators that only move
entries hand it on. The view of a model is annotated once; rules read a quantised primal as float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from cam_onnx.autodiff.emit import Emitter
    from cam_onnx.autodiff.val import Val

__all__ = ["COPIES", "Scale", "annotate", "dequantised", "equal", "fixed", "laid_along", "release", "scale_of"]

_SCALE, _FIXED = "cam_onnx.scale", "cam_onnx.fixed"

# operator -> indices of the inputs that are its output's scale and zero point
_GIVEN = {
    "QuantizeLinear": (1, 2),
    "QLinearConv": (6, 7),
    "QLinearMatMul": (6, 7),
    "QGemm": (7, 8),
    "QLinearAdd": (6, 7),
    "QLinearMul": (6, 7),
    "QLinearConcat": (0, 1),
    "QLinearAveragePool": (3, 4),
    "QLinearGlobalAveragePool": (3, 4),
    "QLinearSigmoid": (3, 4),
    "QLinearLeakyRelu": (3, 4),
    "QLinearSoftmax": (3, 4),
    "QLinearWhere": (7, 8),
}
_SUMS = {"ConvInteger", "MatMulInteger"}  # their integers stand for themselves

# Entries are moved, chosen, repeated, or averaged: the scale stays.
COPIES = {
    *("DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "GlobalMaxPool"),
    *(
        "Identity",
        "MaxPool",
        "NhwcMaxPool",
        "Pad",
        "ReduceMax",
        "ReduceMin",
        "Reshape",
        "Resize",
        "Slice",
        "SpaceToDepth",
        "Split",
    ),
    *("Squeeze", "Tile", "Transpose", "Unsqueeze"),
}


@dataclass(frozen=True)
class Scale:
    """What an integer stands for. `scale` None: 1. `axis` and `block_size` as QuantizeLinear has them."""

    scale: ir.Value | None
    zero_point: ir.Value | None = None
    axis: int = 1
    block_size: int = 0


def scale_of(value: ir.Value | None) -> Scale | None:
    """Return what the value's integers stand for, or None if it is not quantised."""
    found: Scale | None = None if value is None else value.meta.get(_SCALE)
    return found


def fixed(value: ir.Value) -> bool:
    """Whether a float is part of a quantisation and counts as a constant: a scale that follows the data cancels."""
    return _FIXED in value.meta


def release(value: ir.Value) -> None:
    """Take a float that counts as a constant for what it is: a value that follows the data."""
    value.meta.pop(_FIXED, None)


def annotate(graph: ir.Graph) -> None:
    """Say of every quantised value of the graph what it stands for."""
    for node in graph:
        if node.domain not in ("", "ai.onnx", "com.microsoft") or not node.inputs:
            continue
        x, y = node.inputs[0], node.outputs[0]
        own = scale_of(x)
        if node.op_type in _GIVEN:
            scale, zero = (node.inputs[i] if i < len(node.inputs) else None for i in _GIVEN[node.op_type])
            if scale is not None:  # QGemm without one gives floats
                y.meta[_SCALE] = Scale(scale, zero, *_along(node))
        elif node.op_type == "DynamicQuantizeLinear":
            y.meta[_SCALE] = Scale(node.outputs[1], node.outputs[2])
            node.outputs[1].meta[_FIXED] = True
        elif node.op_type in _SUMS:
            y.meta[_SCALE] = Scale(None)
        elif node.op_type in COPIES and own is not None and _one(own.scale):
            for given in node.outputs:
                if given.dtype is None or given.dtype == (None if x is None else x.dtype):
                    given.meta[_SCALE] = own


def _along(node: ir.Node) -> tuple[int, int]:
    """Return axis and block size of QuantizeLinear; the other operators give one scale for all."""
    if node.op_type != "QuantizeLinear":
        return 1, 0
    axis, size = node.attributes.get("axis"), node.attributes.get("block_size")
    return axis.as_int() if axis else 1, size.as_int() if size else 0


def _one(scale: ir.Value | None) -> bool:
    """Whether a scale is one number for all entries: only that survives a move."""
    return scale is None or (scale.shape is not None and all(d == 1 for d in scale.shape))


def dequantised(
    op: Emitter, q: Val, scale: Val | None, zero_point: Val | None, axis: int = 1, block_size: int = 0
) -> Val:
    """Emit the real numbers, float32, that the integers `q` stand for; ``scale`` None: 1.

    DequantizeLinear took 16 and 4 bits late; before that it is spelled out.
    """
    kind = q.value.dtype
    if scale is not None and (op.opset >= 21 or kind not in (ir.DataType.INT16, ir.DataType.UINT16)):
        along = {} if _one(scale.value) else {"axis": axis, "block_size": block_size or None}
        real: Val = op.DequantizeLinear(q, op.Cast(scale, to=ir.DataType.FLOAT), zero_point, **along)
    else:
        real = op.Cast(q, to=ir.DataType.FLOAT)
        if zero_point is not None:
            real = real - laid_along(op, op.Cast(zero_point, to=ir.DataType.FLOAT), q, axis)
        if scale is not None:
            real = real * laid_along(op, scale, q, axis)
    if real.value.producer() is not None:
        real.value.type, real.value.shape = ir.TensorType(ir.DataType.FLOAT), q.value.shape
    return real


def laid_along(op: Emitter, v: Val, x: Val, axis: int, block_size: int = 0) -> Val:
    """Give a scale or zero point the axes of `x`: its own entries along `axis`, or one for each block of `x` there."""
    if block_size:
        axis %= x.rank
        sizes, end = [op.shape(v, a, a + 1) for a in range(x.rank)], op.shape(x, axis, axis + 1)
        repeated = op.Expand(op.Unsqueeze(v, [axis + 1]), [block_size] + [1] * (x.rank - axis - 1))
        whole = op.Reshape(repeated, op.Concat(*sizes[:axis], [-1], *sizes[axis + 1 :], axis=0))
        return op.Slice(whole, [0], end, [axis])  # the last block may be cut short
    if v.value.shape is not None and not len(v.value.shape):
        return v
    if v.known is not None and v.known.size == 1:
        return op.constant(v.known.reshape(()))
    rank = x.rank
    return op.Reshape(v, [-1 if a == axis % rank else 1 for a in range(rank)])


def equal(a: Val | None, b: Val | None) -> bool:
    """Whether two scales are known to be the same; None is 1."""
    if a is None or b is None:
        return a is b
    return a.value is b.value or (a.known is not None and b.known is not None and bool(np.all(a.known == b.known)))
