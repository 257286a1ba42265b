"""The role of an axis that holds all positions as a list: which of its entries are the grid's, as far as that is known.

Vision transformers lay the grid of patches out as a list, put class and register tokens before it, and cut them off
again. What happens to the list's order is followed here; where it is not certain that the grid's positions still stand
in it one behind the other, the role is no more than "some list" (`LIST`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import onnx_ir as ir

from cam_onnx.axes import Tokens
from cam_onnx.graph.alike import Node

__all__ = ["BESIDE", "LIST", "MOVES", "Positions", "along", "back", "constants", "dims", "merged"]

LIST = "t"
BESIDE = "q"  # entries that stood beside the grid's in its list: class, register and detection tokens

Dim = int | str | None


class Positions(str):
    """ "t", with what is known: the grid's `sizes` (symbols stay) and the index of its `first` position.

    `strides`: of factors of axes (see `cells`); 1 each where the axes are whole.
    """

    __slots__ = ("first", "sizes", "strides")
    first: int
    sizes: tuple[Dim, ...]
    strides: tuple[int, ...]

    def __new__(cls, sizes: Sequence[Dim], first: int = 0, strides: Sequence[int] = ()) -> Self:
        """Make one."""
        made = super().__new__(cls, LIST)
        made.sizes, made.first, made.strides = tuple(sizes), first, tuple(strides) or (1,) * len(sizes)
        return made

    @property
    def tokens(self) -> Tokens:
        """As the contract has them."""
        return Tokens(self.first, tuple(size if isinstance(size, int) else None for size in self.sizes))

    @property
    def total(self) -> int | None:
        """How many positions the grid has, None where its sizes are symbols."""
        known = [size for size in self.sizes if isinstance(size, int)]
        return math.prod(known) if len(known) == len(self.sizes) else None

    def window(self, start: int, stop: int | None) -> str:
        """Return the role of what a slice leaves; `stop` None: to the end."""
        total = self.total
        if total is not None and (start >= self.first + total or (stop is not None and 0 < stop <= self.first)):
            return BESIDE
        if start > self.first or start < 0:
            return LIST
        if stop is not None and (total is None or stop < self.first + total):
            return LIST
        return Positions(self.sizes, self.first - start)

    def behind(self, others: int) -> Positions:
        """Return the role where so many entries were put before."""
        return Positions(self.sizes, self.first + others)


def merged(x: ir.Value, source: Sequence[str], y: ir.Value) -> tuple[str, ...] | None:
    """Return the roles where a reshape may have made one axis of all spatial ones, else None."""
    space = [i for i, role in enumerate(source) if role.startswith("s")]
    order = [source[i] for i in space]
    together = len(space) > 1 and space == list(range(space[0], space[0] + len(space)))
    if not together or y.shape is None or len(y.shape) != len(source) - len(space) + 1:
        return None
    given, taken = dims(x), dims(y)
    role: str = LIST
    if given is not None and taken is not None and order == sorted(order):
        sizes = given[space[0] : space[-1] + 1]
        rest = given[: space[0]] + given[space[-1] + 1 :]
        left = taken[: space[0]] + taken[space[0] + 1 :]
        if _one_to_one(sizes, [taken[space[0]]], rest, left):
            role = Positions(sizes)
    return (*source[: space[0]], role, *source[space[-1] + 1 :])


def back(x: ir.Value, source: Sequence[str], y: ir.Value) -> tuple[str, ...] | None:
    """Return the roles where a reshape has made the grid's axes of a list of nothing but the grid, else None."""
    if list(source).count(LIST) != 1:
        return None
    at = list(source).index(LIST)
    role = source[at]
    given, taken = dims(x), dims(y)
    if not isinstance(role, Positions) or role.first or given is None or taken is None:
        return None
    count = len(role.sizes)
    sizes = taken[at : at + count]
    if len(taken) != len(given) + count - 1 or None in sizes or sizes != list(role.sizes):
        return None
    if not _one_to_one(sizes, [given[at]], given[:at] + given[at + 1 :], taken[:at] + taken[at + count :]):
        return None
    return (*source[:at], *(f"s{i}" for i in range(count)), *source[at + 1 :])


def along(node: Node, index: int, source: Sequence[str], x: ir.Value) -> tuple[str, ...]:
    """Return the roles of an output of the rank of `x`, whose roles are `source`: lists may have changed."""
    return tuple(
        _after(node, index, i, role, x) if isinstance(role, Positions) else role for i, role in enumerate(source)
    )


MOVES = {"Compress", "Expand", "GatherElements", "GatherND", "Pad", "Resize", "ReverseSequence", "Tile", "TopK"}


def _after(node: Node, index: int, axis: int, role: Positions, x: ir.Value) -> str:
    rank = len(dims(x) or ())
    if node.op_type == "Concat" and _attribute(node, "axis", 0) % rank == axis:
        return _joined(node, axis, role, x)
    if node.op_type == "Split" and _attribute(node, "axis", 0) % rank == axis:
        return _part(node, index, axis, role)
    if node.op_type in ("Conv", "ConvTranspose") and axis == 1:
        return LIST  # positions take the place of channels there
    if node.op_type == "Slice":
        return _sliced(node, axis, role, dims(x) or [])
    if node.op_type == "Gather":
        return LIST if _attribute(node, "axis", 0) % rank == axis else role
    before, after = (dims(x) or [])[axis], (dims(node.outputs[index]) or [None] * rank)[axis]
    if node.op_type in MOVES and (before is None or before != after):
        return LIST
    return LIST if isinstance(before, int) and isinstance(after, int) and before != after else role


def _joined(node: Node, axis: int, role: Positions, x: ir.Value) -> str:
    where = [i for i, each in enumerate(node.inputs) if each is x]
    if len(where) != 1:
        return LIST
    others = 0
    for each in node.inputs[: where[0]]:
        length = None if each is None or (known := dims(each)) is None else known[axis]
        if not isinstance(length, int):
            return LIST
        others += length
    if len(node.inputs) > where[0] + 1 and role.total is None:
        return LIST  # what follows could not be told from the grid
    return role.behind(others)


def _part(node: Node, index: int, axis: int, role: Positions) -> str:
    start = 0
    for y in node.outputs[:index]:
        length = (dims(y) or [None] * (axis + 1))[axis]
        if not isinstance(length, int):
            return LIST
        start += length
    own = (dims(node.outputs[index]) or [None] * (axis + 1))[axis]
    return role.window(start, start + own if isinstance(own, int) else None) if isinstance(own, int) else LIST


def _sliced(node: Node, axis: int, role: Positions, sizes: Sequence[Dim]) -> str:
    starts, ends, axes, steps = (
        constants(node, name, i) for i, name in enumerate(("starts", "ends", "axes", "steps"), start=1)
    )
    if starts is None or ends is None:
        return LIST
    axes = list(range(len(starts))) if axes is None else [a % len(sizes) for a in axes]
    if len(node.inputs) > 3 and node.inputs[3] is not None and constants(node, "axes", 3) is None:
        return LIST
    if axis not in axes:
        return role
    at = axes.index(axis)
    if steps is not None and steps[at] != 1:
        return LIST
    start, length = starts[at], sizes[axis]
    start += length if start < 0 and isinstance(length, int) else 0
    return role.window(start, None if ends[at] >= 2**31 - 1 else ends[at] if ends[at] > 0 else -1)


def constants(node: Node, name: str, index: int) -> list[int] | None:
    """Return what is an attribute in old opsets and an input in new ones, if it is known."""
    if name in node.attributes:
        return list(node.attributes[name].as_ints())
    given = node.inputs[index] if len(node.inputs) > index else None
    if given is None or given.const_value is None:
        return None
    return [int(each) for each in given.const_value.numpy().reshape(-1)]


def dims(value: ir.Value) -> list[Dim] | None:
    """Return a number or a symbol for every axis."""
    return None if value.shape is None else [d if isinstance(d, int) else d.value for d in value.shape]


def _one_to_one(split: Sequence[Dim], whole: Sequence[Dim], before: Sequence[Dim], after: Sequence[Dim]) -> bool:
    """Whether the axes beside the list are certain to be the same ones.

    All are, but one at most, whose size then follows: the numbers of elements are equal.
    """
    if any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(before, after, strict=True)):
        return False
    unsure = sum(a is None or a != b for a, b in zip(before, after, strict=True))
    numbers = [size for size in split if isinstance(size, int)]
    if len(numbers) == len(split) and isinstance(whole[0], int):
        return math.prod(numbers) == whole[0] and unsure <= 1
    return unsure == 0


def _attribute(node: Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()
