"""Which axis of an input is what, by the first learned layer that reads it: frameworks put channels first or last.

A shape tells a picture's channels by their number, 1 or 3. Of a signal, (N, C, L) or (N, L, C), it does not; and a
wave, (N, L), or a spectrogram, (N, T, F), may have none.
"""

from __future__ import annotations

import onnx_ir as ir

from cam_onnx.contract import Axes
from cam_onnx.graph.alike import Node, alike

__all__ = ["CONVOLUTIONS", "ENTRYWISE", "RECURRENT", "channels_elsewhere", "first_axes", "widened_axes"]

ENTRYWISE = {"Add", "Cast", "Clip", "Div", "Identity", "Mul", "Sub"}
KEEPING = {*ENTRYWISE, "Pad"}
CONVOLUTIONS = {"Conv", "ConvInteger", "FusedConv", "NhwcFusedConv", "QLinearConv"}
RECURRENT = {"GRU", "LSTM", "RNN"}
FARTHEST = 64  # operators

# per axis of a value: the input's axis, None: one that was added
_Order = tuple[int | None, ...]


def first_axes(value: ir.Value) -> Axes | None:
    """Return the axes of an input; None: nothing is known of them."""
    order = _order(value)
    if order is None:
        return _of_frames(value)
    if order[0] is None or order[1] is None:
        return None
    return Axes(order[0], order[1], tuple(axis for axis in order[2:] if axis is not None))


def _of_frames(value: ir.Value) -> Axes | None:
    """Return the axes of a video whose frames stand before the channels, (N, T, C, H, W), by their number."""
    sizes = list(value.shape or ())
    return Axes(0, 2, (1, 3, 4)) if len(sizes) == 5 and sizes[2] in (1, 3) and sizes[1] not in (1, 3) else None


def widened_axes(value: ir.Value) -> Axes | None:
    """Return the axes of an input without channels, (N, *S), as they are once it is (N, 1, *S); None: it is none."""
    found = _order(value) if value.producer() is None else None
    if found is None or found[:2] != (0, None):
        return None
    spatial = [axis + 1 for axis in found[2:] if axis is not None]
    return Axes(0, 1, tuple(spatial)) if spatial and len(spatial) + 1 == len(value.shape or ()) else None


def _order(value: ir.Value) -> _Order | None:
    """Return which axis of an input each axis of what the first learned layer reads is, as (N, C, *S)."""
    if value.shape is None:
        return None
    waiting: list[tuple[ir.Value, _Order]] = [(value, tuple(range(len(value.shape))))]
    for _ in range(FARTHEST):
        if not waiting:
            return None
        x, order = waiting.pop(0)
        for node, index in x.uses():
            if index == 0 and (found := _read(alike(node), order)) is not None:
                return found
            if (moved := _moved(node, x, order)) is not None:
                waiting.append((node.outputs[0], moved))
    return None


def _read(node: Node, order: _Order) -> _Order | None:
    """Return the order as (N, C, *S) where a node is a learned layer, by the standard's definition of it."""

    def told(name: str) -> bool:
        return name in node.attributes and bool(node.attributes[name].as_int())

    if node.op_type in CONVOLUTIONS:
        return (order[0], order[-1], *order[1:-1]) if told("channels_last") else order
    if len(order) != 3:
        return None
    if node.op_type in RECURRENT:
        time, batch = (1, 0) if told("layout") else (0, 1)
        return (order[batch], order[2], order[time])
    weights = node.inputs[1] if node.op_type == "MatMul" else None
    return (order[0], order[2], order[1]) if weights is not None and weights.const_value is not None else None


def channels_elsewhere(value: ir.Value) -> Axes | None:
    """Return the axes of an input where they are not (N, C, *S)."""
    found = first_axes(value) or widened_axes(value)
    return None if found is None or found.order() == tuple(range(len(found.order()))) else found


def _moved(node: ir.Node, x: ir.Value, order: _Order) -> _Order | None:
    """Return the order of axes behind a node; None: it does more than to move or add axes."""
    y = node.outputs[0]
    if node.op_type == "Transpose" and "perm" in node.attributes:
        perm = node.attributes["perm"].as_ints()
        return tuple(order[axis] for axis in perm) if len(perm) == len(order) else None
    if y.shape is None or x.shape is None or len(x.shape) != len(order):
        return None
    if node.op_type in ("Reshape", "Unsqueeze") and len(y.shape) > len(order):
        return _with_ones(list(x.shape), list(y.shape), order)
    return order if node.op_type in KEEPING and len(y.shape) == len(order) else None


def _with_ones(x: list[object], y: list[object], order: _Order) -> _Order | None:
    """Return the order where axes of length 1 were added: the others have to be there, one behind the other."""
    found: list[int | None] = []
    rest = list(zip(x, order, strict=True))
    for size in y:
        if rest and _same(rest[0][0], size):
            found.append(rest.pop(0)[1])
        elif size == 1:
            found.append(None)
        else:
            return None
    return None if rest else tuple(found)


def _same(before: object, behind: object) -> bool:
    known = isinstance(before, int), isinstance(behind, int)
    return before == behind if all(known) else behind != 1 if any(known) else True
