"""How far apart in the picture two neighbours on a value's grid lie: its strides, followed operator by operator.

Sizes alone do not say it: 299 pixels are 8 positions at stride 32. Where axes are not known on the way (windows of
attention), the grids before and behind them are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil

import onnx_ir as ir

from cam_onnx.axes import Axes
from cam_onnx.graph.alike import alike
from cam_onnx.graph.positions import constants, dims
from cam_onnx.graph.roles import Roles, axes_of

__all__ = ["Grid", "Strides", "grid_of", "strides"]

Grid = tuple[int | str | None, ...]
Strides = tuple[Fraction, ...]
_WINDOWED = {
    "AveragePool", "Conv", "ConvInteger", "DeformConv", "FusedConv", "LpPool", "MaxPool", "NhwcFusedConv",
    "QLinearAveragePool", "QLinearConv",
}  # fmt: skip
_ALL_AT_ONCE = {"GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "QLinearGlobalAveragePool"}


def grid_of(value: ir.Value, axes: Axes) -> Grid:
    """Return the sizes of a value's spatial axes, or of the grid that its tokens are laid out on."""
    if axes.tokens is not None:
        return axes.tokens.grid
    sizes = dims(value)
    return (None,) * len(axes.spatial) if sizes is None else tuple(sizes[a] for a in axes.spatial)


def strides(graph: ir.Graph, roles: Mapping[ir.Value, Roles]) -> dict[ir.Value, Strides]:
    """Return the strides of all values with a grid, one for each of its axes, as far as they can be told."""
    known = {value: axes for value, found in roles.items() if (axes := axes_of(found)) is not None}
    seen: dict[ir.Value, tuple[Strides, Grid]] = {}  # with the grid that they were last known on
    for value in graph.inputs:
        if value in known:
            grid = grid_of(value, known[value])
            seen[value] = (Fraction(1),) * len(grid), grid
    for node in graph:
        for y in node.outputs:
            on = grid_of(y, known[y]) if y in known else None
            given = _given(node, seen, on)
            if given is None:
                continue
            before, at = seen[given]
            if on is None:
                seen[y] = before, at
            elif len(on) == len(before) and (steps := _steps(node, given, known, at, on)) is not None:
                seen[y] = tuple(s * step for s, step in zip(before, steps, strict=True)), on
    return {value: found for value, (found, _) in seen.items() if value in known}


def _given(node: ir.Node, seen: Mapping[ir.Value, tuple[Strides, Grid]], grid: Grid | None) -> ir.Value | None:
    """Return the input whose strides the output continues: the one on its grid, else the one with most extent."""
    inputs = [x for x in node.inputs if x is not None and x in seen] if node.op_type not in _ALL_AT_ONCE else []
    return max(inputs, key=lambda x: (seen[x][1] == grid, any(n != 1 for n in seen[x][1])), default=None)


def _steps(node: ir.Node, x: ir.Value, known: Mapping[ir.Value, Axes], at: Grid, grid: Grid) -> Strides | None:
    """Return what an operator multiplies the strides by; None: it cannot be told."""
    count, kind = len(grid), alike(node).op_type
    if kind in _WINDOWED or kind == "ConvTranspose":
        attribute = node.attributes.get("strides")
        steps = tuple(Fraction(n) for n in attribute.as_ints()) if attribute is not None else (Fraction(1),) * count
        if len(steps) == count:
            return steps if kind != "ConvTranspose" else tuple(1 / step for step in steps)
    if kind in ("DepthToSpace", "SpaceToDepth"):
        block = Fraction(node.attributes["blocksize"].as_int())
        return (block if kind == "SpaceToDepth" else 1 / block,) * count
    if kind in ("Concat", "Pad") or (at == grid and None not in grid):
        return (Fraction(1),) * count
    if kind == "Slice" and x in known and known[x].tokens is None:
        return _sliced(node, x, known[x])
    if kind in ("Resize", "Upsample"):
        return _compared(at, grid, same=False) or _scaled(node, x, known)
    return _compared(at, grid, same=x in known)


def _scaled(node: ir.Node, x: ir.Value, known: Mapping[ir.Value, Axes]) -> Strides | None:
    """Return what constant scales of a Resize say; they stand last, or second to last."""
    if x not in known or known[x].tokens is not None:
        return None
    rank = len(dims(x) or ())
    for given in node.inputs[1:]:
        scales = None if given is None or given.const_value is None else given.const_value.numpy().reshape(-1)
        if scales is not None and len(scales) == rank and scales.dtype.kind == "f" and all(scales > 0):
            return tuple(1 / Fraction(float(scales[a])).limit_denominator(64) for a in known[x].spatial)
    return None


def _sliced(node: ir.Node, x: ir.Value, axes: Axes) -> Strides | None:
    """Return the steps of a Slice; what it cuts off at the edges leaves strides as they are."""
    along, steps = constants(node, "axes", 3), constants(node, "steps", 4)
    if len(node.inputs) > 4 and node.inputs[4] is not None and (along is None or steps is None):
        return None
    rank = len(dims(x) or ())
    taken = dict(zip([a % rank for a in along or ()] if rank else [], steps or [], strict=False))
    return tuple(Fraction(abs(taken.get(axis, 1))) for axis in axes.spatial)


def _compared(at: Grid, grid: Grid, same: bool) -> Strides | None:
    """Return how much coarser a grid is than another; sizes that are not known are taken to be the same, or not."""
    steps = []
    for before, behind in zip(at, grid, strict=True):
        if isinstance(before, int) and isinstance(behind, int) and before and behind:
            whole = max(1, round(before / behind))
            fits = behind in (before // whole, ceil(before / whole))
            steps.append(Fraction(whole) if fits else Fraction(before, behind))
        elif same:
            steps.append(Fraction(1))
        else:
            return None
    return tuple(steps)
