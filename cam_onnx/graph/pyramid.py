"""Outputs on grids of the picture, level by level: what a pyramid's heads give where no value joins them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.val import cotangent_of
from cam_onnx.graph.cells import WINDOWS
from cam_onnx.graph.heads import VIEWS, Numbers, picture_sizes
from cam_onnx.graph.positions import LIST, dims
from cam_onnx.graph.roles import Roles, axes_of, follow
from cam_onnx.graph.strides import Strides, strides

__all__ = ["Output", "Pyramid", "last", "pyramid"]

_ROUNDED = {"DequantizeLinear", "QuantizeLinear"}
_ACTIVATIONS = {"Clip", "Exp", "Mul", "Relu", "Sigmoid", "Softmax"}


@dataclass(frozen=True)
class Output:
    """An output on a grid: numbers of all cells.

    `axes`: of the grid, rows first, or of the list of its cells, (0,) where that has no axis of the batch. `each`: how
    many numbers a candidate has, None: not told by its shape; `count`: how many a cell has. `last`: the operator that
    gives them. `grid`: a map of the same cells, whose axes `places` are rows and columns; None: not known, or in
    another order.
    """

    value: ir.Value
    axes: tuple[int, ...]
    each: int | None
    count: int
    last: str
    stride: int
    grid: ir.Value | None
    places: tuple[int, ...]

    @property
    def words(self) -> set[str]:
        return set(re.split(r"[^a-z]+", (self.value.name or "").casefold()))

    @property
    def free(self) -> bool:
        """Whether this is a list of any length, whose symbol may be another level's too: runtimes believe it."""
        return len(self.axes) == 1 and not isinstance((dims(self.value) or [0, 0])[self.axes[0]], int)

    def of(self, each: int) -> Numbers:
        """Return its numbers, of a list of any length those of the map that it was, if nothing else is between."""
        if self.free and self.grid is not None and last(self.grid) == self.last and self.count == each:
            return self._on_map(each)
        return Numbers(self.value, self.axes, each)

    def before(self, each: int) -> Numbers | None:
        """Return what an activation at the very end reads; None: it does not stand there."""
        if self.free and self.grid is not None and last(self.grid) != self.last and self.count == each:
            return self._on_map(each)
        node = self.value.producer()
        x = None if node is None or node.op_type != self.last else node.inputs[0]
        return None if x is None else Numbers(x, self.axes, each)

    def _on_map(self, each: int) -> Numbers:
        assert self.grid is not None
        return Numbers(self.grid, self.places, each)


Pyramid = list[list[Output]]


def pyramid(model: Model) -> Pyramid:
    """Return the outputs of each level, finest first; none where some stand on no grid, or levels are not alike."""
    roles = follow(model.graph)
    known, size = strides(model.graph, roles), picture_sizes(model)
    rows: dict[int, list[Output]] = {}
    for value in model.graph.outputs:
        output = None if cotangent_of(value) is None else _on_grid(value, roles, known, size)
        if output is None:
            return []
        rows.setdefault(output.stride, []).append(output)
    found = [rows[stride] for stride in sorted(rows)]
    alike = {tuple((o.each, o.count, o.last, len(o.axes)) for o in row) for row in found}
    return found if len(alike) == 1 and 1 not in rows else []


def _on_grid(
    value: ir.Value, roles: Mapping[ir.Value, Roles], known: Mapping[ir.Value, Strides], size: tuple[int, int] | None
) -> Output | None:
    sizes, own = dims(value) or [], roles.get(value, ())
    grid, places, of_map = _map(value, roles)
    steps = set(known.get(grid, ())) if grid is not None else set()
    stride = int(next(iter(steps))) if len(steps) == 1 else 0
    axes = tuple(own.index(role) for role in ("s0", "s1", LIST, WINDOWS) if role in own)
    if len(sizes) == 2:
        return _flat(value, grid, places, of_map, stride) if stride and _is_flat(value) else None
    if len(sizes) not in (3, 4, 5) or len(axes) != (1 if len(sizes) == 3 else 2) or not stride:
        grid = None
        stride, axes = _by_sizes(size, sizes)
    rest = [i for i in range(1, len(sizes)) if i not in axes]
    numbers = [sizes[i] for i in rest]
    if not stride or 0 in axes or not numbers or not all(isinstance(n, int) for n in numbers):
        return None
    each = int(numbers[-1])  # type: ignore[arg-type]
    count = each if len(numbers) == 1 else each * int(numbers[0])  # type: ignore[arg-type]
    if len(sizes) == 3:
        cells = _cells(grid, places, size, stride)
        listed = sizes[axes[0]]
        count = each * listed // cells if isinstance(listed, int) and cells else of_map or each
        if sorted(places) != list(places):
            grid = None  # cells are listed column by column
    if count % each:
        return None
    return Output(value, axes, None if len(sizes) == 4 else each, count, last(value), stride, grid, places)


def _flat(value: ir.Value, grid: ir.Value | None, places: tuple[int, ...], of_map: int, stride: int) -> Output | None:
    """Return a list (H W A, each) of one picture, without an axis of the batch: SCRFD."""
    each = (dims(value) or [None] * 2)[1]
    if not isinstance(each, int) or not of_map or of_map % each or sorted(places) != list(places):
        return None
    return Output(value, (0,), each, of_map, last(value), stride, grid, places)


def _is_flat(value: ir.Value) -> bool:
    """Whether the batch, of one picture, has gone behind the cells."""
    while (node := value.producer()) is not None and node.op_type in VIEWS | _ROUNDED | _ACTIVATIONS:
        x = node.inputs[0]
        if x is None:
            return False
        if node.op_type == "Transpose" and "perm" in node.attributes:
            return list(node.attributes["perm"].as_ints()) == [2, 3, 0, 1] and (dims(x) or [0])[0] == 1
        value = x
    return False


def _map(value: ir.Value, roles: Mapping[ir.Value, Roles]) -> tuple[ir.Value | None, tuple[int, ...], int]:
    """Return the nearest map (N, C, H, W) or (N, H, W, C) behind views and activations, its rows and columns, and C."""
    while True:
        axes = axes_of(roles.get(value, ()))
        if axes is not None and axes.tokens is None and len(axes.spatial) == 2:
            channels = (dims(value) or [0] * 4)[axes.channel]
            return value, axes.spatial, channels if isinstance(channels, int) else 0
        node = value.producer()
        if node is None or node.op_type not in VIEWS | _ROUNDED | _ACTIVATIONS or node.inputs[0] is None:
            return None, (), 0
        value = node.inputs[0]


def _cells(grid: ir.Value | None, places: Sequence[int], size: tuple[int, int] | None, stride: int) -> int:
    sizes = None if grid is None else dims(grid)
    if sizes is not None:
        rows, columns = (sizes[i] for i in places)
        return rows * columns if isinstance(rows, int) and isinstance(columns, int) else 0
    return 0 if size is None else -(-size[0] // stride) * -(-size[1] // stride)


def _by_sizes(size: tuple[int, int] | None, sizes: Sequence[int | str | None]) -> tuple[int, tuple[int, ...]]:
    """Return stride and axes of a map or a list, by the numbers of cells that the picture has."""
    for stride in (4, 8, 16, 32, 64, 128) if size is not None else ():
        assert size is not None
        grid = [-(-size[0] // stride), -(-size[1] // stride)]
        for at in range(1, len(sizes) - 1) if len(sizes) in (4, 5) else ():
            if list(sizes[at : at + 2]) == grid:
                return stride, (at, at + 1)
        if len(sizes) == 3 and sizes[1] in [count * grid[0] * grid[1] for count in (1, 2, 3, 6, 9)]:
            return stride, (1,)
    return 0, ()


def last(value: ir.Value) -> str:
    """Return the operator that gives a value, behind views and roundings."""
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type not in VIEWS | _ROUNDED:
            return node.op_type
        value = node.inputs[0]
    return ""
