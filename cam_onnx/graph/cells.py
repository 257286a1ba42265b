"""Reshapes that split axes into factors and put them together again, as far as roles stay known.

Patch merging, windows that go to the batch, tokens that are unrolled and attention's heads are written so: a grid's
axis of 56 becomes 8 windows of 7, and the 8 goes to the batch. Every axis is a run of factors, the outermost first, and
a reshape only draws other borders in the whole run. The outermost factor of a grid's axis is the coarser grid ("s0"),
what lies within a cell has the role "d0"; both know their `stride`, in the axis's finest steps, so that what stood side
by side once is one axis again, and only then. Factors of different axes side by side are `Windows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import onnx_ir as ir

from cam_onnx.graph.alike import Node
from cam_onnx.graph.positions import MOVES, Positions, constants, dims

__all__ = ["WINDOWS", "WITHIN", "Factor", "Windows", "kept", "regrouped"]

WITHIN, WINDOWS = "d", "w"

Dim = int | str | None
Part = tuple[str, Dim]  # a role and a size


class Factor(str):
    """A factor of a grid's axis: "s0", "d0", ..., and its `stride`."""

    __slots__ = ("stride",)
    stride: int

    def __new__(cls, role: str, stride: int) -> Self:
        """Make one."""
        made = super().__new__(cls, role)
        made.stride = stride
        return made


class Windows(str):
    """ "w": one axis of several parts, in order."""

    __slots__ = ("parts",)
    parts: tuple[Part, ...]

    def __new__(cls, parts: Sequence[Part]) -> Self:
        """Make one."""
        made = super().__new__(cls, WINDOWS)
        made.parts = tuple(parts)
        return made

    @property
    def places(self) -> bool:
        """Whether it holds positions, and no channels: these would say that each position has weights of its own."""
        roles = [role for role, _ in self.parts]
        return "c" not in roles and any(role[0] in "sdt" for role in roles)


def regrouped(roles: Sequence[str], given: Sequence[Dim], taken: Sequence[Dim]) -> tuple[str, ...] | None:
    """Return the roles behind a reshape from `given` to `taken`, None where they are not known.

    What is matched from both ends is certain where sizes are numbers or the same symbol; one axis of any size between
    them is all that is left over, since a reshape keeps the number of entries.
    """
    if len(roles) != len(given) or not taken:
        return None
    parts = [part for role, size in zip(roles, given, strict=True) for part in _parts(role, size)]
    before, parts, left = _matched(parts, taken, from_end=False)
    behind, parts, left = _matched(parts, left, from_end=True)
    parts = [(role, size) for role, size in parts if size != 1 or left]
    middle: list[list[Part]] = []
    if len(left) == 1:
        middle = [parts]
    elif left and len(parts) == 1 and parts[0][0] == "c":
        middle = [[("c", size)] for size in left]
    elif left or parts:
        return None
    return tuple(_joined(run) for run in (*before, *middle, *behind))


_ON_AXIS = {"Concat", "Gather", "GatherElements", "Split"}


def kept(node: Node, index: int, roles: Sequence[str], x: ir.Value) -> tuple[str, ...]:
    """Return the roles of an output of the rank of `x`: factors whose order may have changed are not known any more."""
    given, taken = dims(x) or [], dims(node.outputs[index]) or [None] * len(roles)
    found = []
    for axis, role in enumerate(roles):
        changed = axis < len(given) and isinstance(given[axis], int) and given[axis] != taken[axis]
        inner = isinstance(role, Windows) or role.startswith(WITHIN)
        found.append("?" if inner and (changed or _moves(node, axis, len(roles))) else role)
    return tuple(found)


def _moves(node: Node, axis: int, rank: int) -> bool:
    """Whether a node may change the order of entries along an axis."""
    if node.op_type in _ON_AXIS:
        return (node.attributes["axis"].as_int() if "axis" in node.attributes else 0) % rank == axis
    if node.op_type == "Slice":
        axes = constants(node, "axes", 3)
        return axes is None or axis in {a % rank for a in axes}
    return node.op_type in MOVES and node.op_type != "Expand"


def _parts(role: str, size: Dim) -> list[Part]:
    if isinstance(role, Windows):
        return list(role.parts)
    if isinstance(role, Positions) and not role.first and role.total == size and size is not None:
        return [(Factor(f"s{i}", role.strides[i]), each) for i, each in enumerate(role.sizes)]
    return [] if role == "?" and size == 1 else [(role, size)]


def _matched(
    parts: list[Part], taken: Sequence[Dim], from_end: bool
) -> tuple[list[list[Part]], list[Part], Sequence[Dim]]:
    """Match axes from one end on as long as it is certain; return what they hold, and what is left of both."""
    parts, found = list(parts), []
    axes = list(taken)
    at = -1 if from_end else 0
    while axes:
        rest, run, size = list(parts), [], axes[at]
        if not isinstance(size, int):
            if not rest or rest[at][1] is None or rest[at][1] != size:
                break
            run = [rest.pop(at)]
        elif size == 1:
            run = [rest.pop(at)] if rest and rest[at][1] == 1 else []
        elif (run_ := _filled(rest, size, at)) is not None:
            run = run_[::-1] if from_end else run_
        else:
            break
        axes.pop(at)
        parts = rest
        found.append(run)
    return found[::-1] if from_end else found, parts, axes


def _filled(rest: list[Part], size: int, at: int) -> list[Part] | None:
    """Take parts of `size` entries in all from an end of `rest`; None where these are not certain."""
    run: list[Part] = []
    while size > 1:
        if not rest:
            return None
        role, length = rest.pop(at)
        if not isinstance(length, int):
            return None
        if length > size:
            halves = _split(role, length, size if at else length // size) if length % size == 0 else None
            if halves is None:
                return None
            outer, inner = halves
            rest.insert(len(rest) if at else 0, outer if at else inner)
            role, length = (inner if at else outer)[0], size
        if size % max(length, 1):
            return None
        run.append((role, length))
        size //= length
    return run


def _split(role: str, length: int, inner: int) -> tuple[Part, Part] | None:
    """Split a part into an outer and an inner one, which has `inner` entries."""
    if role == "c":
        return ("c", length // inner), ("c", inner)
    if role[0] not in f"s{WITHIN}":
        return None
    stride = _stride(role)
    return (Factor(role, stride * inner), length // inner), (Factor(WITHIN + role[1:], stride), inner)


def _joined(run: Sequence[Part]) -> str:
    parts: list[Part] = []
    for part in run:
        if parts and (one := _together(parts[-1], part)) is not None:
            parts[-1] = one
        else:
            parts.append(part)
    if not parts:
        return "?"
    if len(parts) > 1:
        parts = [part for part in parts if part[1] != 1 or part[0] == "n"] or parts[:1]
    roles = [role for role, _ in parts]
    if len(parts) == 1:
        return roles[0]
    if "c" in roles and all(role == "c" or role.startswith(WITHIN) for role in roles):
        return "c"
    if roles == [f"s{i}" for i in range(len(roles))]:
        return Positions([size for _, size in parts], strides=[_stride(role) for role in roles])
    return Windows(parts)


def _together(outer: Part, inner: Part) -> Part | None:
    (a, n), (b, m) = outer, inner
    if not (isinstance(n, int) and isinstance(m, int)):
        return None
    if a == b == "c":
        return "c", n * m
    cells = a[0] in f"s{WITHIN}" and b == WITHIN + a[1:] and _stride(a) == m * _stride(b)
    return (Factor(a, _stride(b)), n * m) if cells else None


def _stride(role: str) -> int:
    return role.stride if isinstance(role, Factor) else 1
