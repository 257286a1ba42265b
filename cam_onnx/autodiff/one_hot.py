"""A product with a one-hot matrix is a Gather of rows: the seed of a class costs one row, not a product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from cam_onnx.autodiff import spelling
from cam_onnx.autodiff.quantised import dequantised, scale_of
from cam_onnx.autodiff.val import Val

if TYPE_CHECKING:
    from cam_onnx.autodiff.emit import Emitter

__all__ = ["rows"]


def rows(
    op: Emitter, index: Val | None, op_type: str, vals: list[Val | None], attributes: dict[str, Any]
) -> Val | None:
    """Return ``one_hot(index) @ W`` as the rows ``W[index]``, None where it is no such product."""
    if index is None or op_type not in ("MatMul", "Gemm") or vals[1] is None:
        return None
    weight, wanted = vals[1].value, vals[1].dtype
    if attributes.get("transA") or len(vals) > 2 or scale_of(weight) is not None:
        return None
    turned = bool(attributes.get("transB"))
    # gather first, then cast and transpose the rows, not the weight
    while weight.shape is None and (node := weight.producer()) is not None and node.op_type in ("Cast", "Transpose"):
        weight, turned = node.inputs[0], turned != (node.op_type == "Transpose")  # type: ignore[assignment]
    if weight.shape is None or len(weight.shape) != 2:
        return None
    found = _rows_of(op, weight, index, int(turned))
    if found.dtype != wanted:
        found = op.Cast(found, to=wanted)
    if turned:
        found = op.Transpose(found, perm=[1, 0])
    alpha = attributes.get("alpha", 1.0)
    return found if alpha == 1.0 else found * alpha


def _rows_of(op: Emitter, weight: ir.Value, index: Val, axis: int) -> Val:
    """Gather from a weight as it is stored: of a quantised one, a few rows become numbers, not all."""
    node = weight.producer()
    whole = node is not None and node.op_type == "DequantizeLinear" and "block_size" not in node.attributes
    read = [v for v in node.inputs if v is not None] if node is not None and whole else []
    stored = bool(read) and read[0].is_initializer() and all(v.shape is not None and _gathered(op, v) for v in read)
    if node is None or not stored:
        return op.Gather(Val(op, weight), index, axis=axis)
    along = node.attributes["axis"].as_int() % 2 if "axis" in node.attributes else 1
    parts = [op.primal(v) for v in read[1:]]
    if along == axis and parts[0].dims not in ([], [1]):
        parts = [op.Gather(v, index) for v in parts]
    rows = op.Gather(Val(op, read[0]), index, axis=axis)
    return dequantised(op, rows, parts[0], parts[1] if len(parts) > 1 else None, along)


def _gathered(op: Emitter, v: ir.Value) -> bool:
    """Whether Gather takes entries of this type: not of 4 bits, nor float8."""
    known = spelling.schema("Gather", op.opset)
    kinds = {kind for each in known.type_constraints for kind in each.allowed_type_strs} if known else set()
    return v.dtype is not None and f"tensor({v.dtype.name.lower()})" in kinds
