"""What a graph does to its picture before anything else: a shift and a scale by constants, as exporters put inside.

Such a network wants pixels, not pixels normalised once more. Which pixels, the numbers say: what leaves the shift and
the scale is of the order of one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.writing import constant_of
from cam_onnx.sources.table import Said

__all__ = ["normalised"]

THROUGH = {"Identity", "Cast", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Resize"}
AFFINE = {"Add", "Sub", "Mul", "Div"}
SPREAD = (0.5, 12.0)  # what a network is fed: from -1..1 and 0..1 to ImageNet's five standard deviations, and more


def normalised(model: Model, picture: ir.Value | None) -> Said | None:
    """Return what the graph's own start says of the pixels that it wants; None: it does nothing to them.

    Raises nothing: what is not understood says nothing.
    """
    scale, shift, names = 1.0, np.zeros(1), list[str]()
    value = picture
    while value is not None and (node := _only_reader(value)) is not None:
        if node.op_type in AFFINE and (constant := _other(model, node, value)) is not None:
            left = node.inputs[0] is value
            if constant.size > 4 or (node.op_type == "Div" and not (left and constant.all())):
                break
            if node.op_type in ("Mul", "Div"):
                factor = constant.mean() if node.op_type == "Mul" else (1 / constant).mean()
                scale, shift = scale * float(factor), shift * float(factor)
            elif node.op_type == "Add" or left:
                shift = shift + (constant if node.op_type == "Add" else -constant).mean()
            else:
                scale, shift = -scale, constant.mean() - shift
            names.append(node.op_type)
        elif node.op_type not in THROUGH:
            break
        value = node.outputs[0]
    if not names or not np.isfinite(scale) or scale <= 0:
        return None
    where = f"the graph normalises its input itself ({', '.join(names[:4])})"
    fields: dict[str, Any] | None = None
    if SPREAD[0] <= scale * 255 <= SPREAD[1] or (scale == 1 and float(np.abs(shift).max()) > 20):
        fields = dict(scale=1.0)  # from 0..255
    elif SPREAD[0] <= scale <= SPREAD[1]:
        fields = dict(scale=1 / 255)
    return None if fields is None else Said(where, fields)


def _only_reader(value: ir.Value) -> ir.Node | None:
    readers = {use.node for use in value.uses()}
    return next(iter(readers)) if len(readers) == 1 else None


def _other(model: Model, node: ir.Node, value: ir.Value) -> Any:
    """Return the constant that a node puts beside a value, in float64; None where it is none."""
    others = [x for x in node.inputs if x is not None and x is not value]
    if len(others) != 1 or others[0].shape is None:
        return None
    tensor = others[0].const_value
    producer = others[0].producer()
    if tensor is None and producer is not None:
        tensor = constant_of(producer)
    if tensor is None or tensor.size > 16:
        return None
    return np.asarray(tensor.numpy(), np.float64)
