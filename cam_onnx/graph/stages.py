"""The stages of a network: of every stride the last value through which all goes that the score reads.

The last value in the graph's order will not do: the first layers of a stage still lie on the grid of the one before.
Strides at which nothing of this kind lies (branches side by side, the inside of a U) have their last value instead,
where they are the same along all axes: rows that are taken before columns are no stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from cam_onnx.axes import Axes
from cam_onnx.graph.extent import Extent
from cam_onnx.graph.strides import Strides, grid_of

__all__ = ["stages"]


def stages(
    extent: Extent, last: Sequence[ir.Value], found: Mapping[ir.Value, Axes], strides: Mapping[ir.Value, Strides]
) -> list[ir.Value]:
    """Return the last value of every stage up to `last`, in the order of the graph; the picture's own grid is none,
    unless it is that of `last`.

    `found` are the candidates, in the order of the graph.
    """
    order = list(found)
    whole = [value for value in order if not _is_flat(value, found[value]) and not _is_whole(value, strides)]
    until = max((order.index(value) for value in last), default=len(order) - 1)
    chosen: dict[object, ir.Value] = {}
    beside = [value for value in order[: until + 1] if len(set(strides.get(value, (1, 2)))) == 1]
    for value in [*reversed(last), *_trunk(extent, last), *reversed(beside)]:
        if value in whole or value in last:
            chosen.setdefault(strides.get(value) or grid_of(value, found[value]), value)
    return sorted(chosen.values(), key=order.index)


def _trunk(extent: Extent, last: Sequence[ir.Value]) -> list[ir.Value]:
    """Return the values through which all goes that `last` read, from behind."""
    trunk = []
    at = last[0] if len(last) == 1 else extent.joint(last) if last else None
    while at is not None and (node := extent.producer(at)) is not None:
        trunk.append(at)
        at = extent.common([node])
    return trunk


def _is_flat(value: ir.Value, axes: Axes) -> bool:
    """Whether some axis has no extent: a row of means is no grid of the picture."""
    return 1 in grid_of(value, axes)


def _is_whole(value: ir.Value, strides: Mapping[ir.Value, Strides]) -> bool:
    """Whether nothing was left out yet: the picture, also resized, and what stands on its grid."""
    return value in strides and all(stride < 2 for stride in strides[value])
