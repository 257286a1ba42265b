"""What a detector says level by level, put together as nodes: the same table that other files have themselves."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.val import Val
from cam_onnx.graph.heads import Level, Numbers

__all__ = ["cells", "joined"]


def joined(op: Emitter, parts: Sequence[Numbers]) -> tuple[Val, int | None]:
    """Return (N, A, each), level by level, each row by row, and A where it is known."""
    tables, counts = [_table(op, part) for part in parts], [_count(op, part) for part in parts]
    total = sum(n for n in counts if n is not None) if None not in counts else None
    return tables[0] if len(tables) == 1 else op.Concat(*tables, axis=1), total


def _table(op: Emitter, part: Numbers) -> Val:
    x = op.primal(part.value)
    if x.rank == 2:
        return op.Unsqueeze(x, [0])
    rest = [i for i in range(1, x.rank) if i not in part.axes]
    perm = [0, *part.axes, *rest]
    turned = x if perm == sorted(perm) else op.Transpose(x, perm=perm)
    return op.Reshape(turned, [0, -1, part.each])  # says of a list how many axes it has, which its file may not


def _count(op: Emitter, part: Numbers) -> int | None:
    total = 1
    sizes = op.primal(part.value).dims
    for size in sizes if len(sizes) == 2 else sizes[1:]:
        if not isinstance(size, int):
            return None
        total *= size
    return total // part.each


def cells(op: Emitter, levels: Sequence[Level]) -> tuple[Val, Val, Val]:
    """Return each cell's column and row, its stride, and how many cells its grid has across and down: (1, A, 2)."""
    places, steps, sizes = [], [], []
    for level in levels:
        assert level.grid is not None
        grid = op.primal(level.grid)
        down, across = (op.shape(grid, axis, axis + 1) for axis in level.places)
        one = op.constant([])
        count = op.Reshape(down * across, one)
        index = op.Range(op.Reshape(op.constant([0]), one), count, op.Reshape(op.constant([1]), one))
        at = op.Concat(op.Unsqueeze(op.Mod(index, across), [1]), op.Unsqueeze(index / across, [1]), axis=1)
        place = op.Unsqueeze(op.Cast(at, to=ir.DataType.FLOAT), [0])
        places.append(place)
        steps.append(op.Expand(op.constant(float(level.stride)), op.Shape(place)))
        whole = op.Reshape(op.Cast(op.Concat(across, down, axis=0), to=ir.DataType.FLOAT), [1, 1, 2])
        sizes.append(op.Expand(whole, op.Shape(place)))
    joint = [each[0] if len(each) == 1 else op.Concat(*each, axis=1) for each in (places, steps, sizes)]
    return joint[0], joint[1], joint[2]
