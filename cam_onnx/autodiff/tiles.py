"""The sum of cotangents. Slices that were laid side by side into zeros and fill a value are joined, not added.

Attention reads its queries, keys and values from one product, a shifted window reads two halves of a row: adding them
up padded costs several passes over zeros, joining them one copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import onnx_ir as ir

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.val import Val

__all__ = ["total"]


class _Tile(NamedTuple):
    """A slice of an axis, `front` entries behind its start and `behind` before its end."""

    front: int
    behind: int
    axis: int
    slice: ir.Value


def total(op: Emitter, parts: Sequence[Val], value: ir.Value) -> Val:
    """Return the sum of the parts of the cotangent of `value`, of which there is at least one."""
    joined = _joined(op, [_tile(part) for part in parts], value) if len(parts) > 1 else None
    if joined is not None:
        return joined
    sum_ = parts[0]
    for part in parts[1:]:
        sum_ = sum_ + part
    return sum_


def _tile(part: Val) -> _Tile | None:
    node = part.value.producer()
    if part.primal or node is None or node.op_type != "Pad" or len(node.inputs) != 2:
        return None
    source, pads = node.inputs
    if source is None or pads is None or pads.const_value is None:
        return None
    edges = pads.const_value.numpy()
    rank = edges.size // 2
    axes = {int(i) % rank for i in edges.nonzero()[0]}
    if len(axes) != 1 or edges.min() < 0 or "mode" in node.attributes:
        return None
    (axis,) = axes
    return _Tile(int(edges[axis]), int(edges[axis + rank]), axis, source)


def _joined(op: Emitter, tiles: Sequence[_Tile | None], value: ir.Value) -> Val | None:
    found = sorted((tile for tile in tiles if tile is not None), key=lambda tile: tile.front)
    if len(found) < len(tiles) or len({tile.axis for tile in found}) != 1 or value.shape is None:
        return None
    axis, end = found[0].axis, 0
    size = value.shape[axis]
    for tile in found:
        if tile.front != end or not isinstance(size, int):
            return None
        end = size - tile.behind
    return op.Concat(*(Val(op, tile.slice) for tile in found), axis=axis) if end == size else None
