"""Sizes that a graph computes: what onnx's shape inference leaves open of what is reshaped or expanded to them.

The older exporter writes a batch of any size as arithmetic on `Shape`. Inference follows numbers through it; a symbol
beside them it loses, and with it the numbers. Here both are followed, and what is found is told to inference, which
carries it on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from cam_onnx.autodiff.entries import MOST, Size, Sizes, integer, numbers_of, vector
from cam_onnx.autodiff.size_tables import KINDS, Table, arranged, table_of
from cam_onnx.autodiff.skeleton import MADE

__all__ = ["belied", "told"]


def told(graph: ir.Graph, taken: dict[ir.Node, str]) -> dict[str, onnx.TypeProto]:
    """Return types that say more than the graph's own; note in `taken` the branch of an If that is always taken."""
    known = _Known(taken)
    found: dict[str, onnx.TypeProto] = {}
    for node in graph:
        if node.domain not in ("", "ai.onnx") or not node.outputs:
            continue
        known.follow(node)
        for y, dims in _shapes(known, node):
            if y.name and y.dtype is not None and known.learn(y, dims):
                sizes = [None if isinstance(d, str) and d.startswith(MADE) else d for d in known.dims(y)]
                found[y.name] = onnx.helper.make_tensor_type_proto(int(y.dtype), sizes)
    return found


def belied(value: ir.Value) -> bool:
    """Whether an output is declared with another number of axes than the Reshape that makes it is told to give."""
    node = value.producer()
    asked = node.inputs[1] if node is not None and node.op_type == "Reshape" and len(node.inputs) > 1 else None
    if asked is None or asked.shape is None or len(asked.shape) != 1 or value.shape is None:
        return False
    return isinstance(asked.shape[0], int) and asked.shape[0] != len(value.shape)


def _shapes(known: _Known, node: ir.Node) -> Iterator[tuple[ir.Value, Sizes]]:
    """Yield what the sizes tell of the outputs of a node."""
    if node.op_type in _SHAPES:
        if (dims := _SHAPES[node.op_type](known, node)) is not None:
            yield node.outputs[0], dims
        return
    for y in node.outputs:
        if y.shape is not None and len(y.shape) == 1 and (entries := known.entries(y)) is not None:
            yield y, (len(entries),)


class _Known:
    """What is known of sizes so far, on the way through a graph."""

    def __init__(self, taken: dict[ir.Node, str]) -> None:
        self._taken = taken
        self._entries: dict[ir.Value, Sizes] = {}  # of vectors of integers, and of truths about them
        self._tables: dict[ir.Value, Table] = {}
        self._shapes: dict[ir.Value, Sizes] = {}
        self._same: dict[str, Size] = {}  # what a symbol of inference's is

    def dims(self, value: ir.Value) -> Sizes:
        """Return the shape of a value of known rank."""
        if value in self._shapes:
            return self._shapes[value]
        return tuple(d if isinstance(d, int) else self._same.get(d.value or "", d.value) for d in value.shape or ())

    def entries(self, value: ir.Value | None) -> Sizes | None:
        """Return the entries of a vector of integers, in order, or None where even their number is not known."""
        if value is None or value in self._entries:
            return None if value is None else self._entries[value]
        constant = value.const_value
        if constant is None:
            return (None,) * n if (n := _length(value)) is not None else None
        if constant.size > MOST or not _counts(constant.dtype):
            return None
        return tuple(int(entry) for entry in constant.numpy().reshape(-1))

    def learn(self, value: ir.Value, dims: Sequence[Size]) -> bool:
        """Note a shape; return whether it says more than was known."""
        if value.shape is not None and len(value.shape) != len(dims):
            return False
        old = self.dims(value) if value.shape is not None else (None,) * len(dims)
        new = tuple(d if _open(o) and d is not None else o for o, d in zip(old, dims, strict=True))
        self._shapes[value] = new
        self._same |= {o: d for o, d in zip(old, new, strict=True) if isinstance(o, str) and o != d}
        return any(_open(o) and not _open(d) for o, d in zip(old, new, strict=True))

    def follow(self, node: ir.Node) -> None:
        """Compute the entries of what a node gives, if they are sizes."""
        x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op_type == "If":
            if condition := numbers_of(self.entries(x)):
                self._take(node, "then_branch" if condition[0] else "else_branch")
            return
        if node.op_type in KINDS and self._arrange(node):
            return
        if y.shape is not None and len(y.shape) > 1:
            return
        if node.op_type in ("Shape", "Size"):
            if x is not None and (x.shape is not None or x in self._shapes):
                dims = self.dims(x)
                if node.op_type == "Shape":
                    start, end = (integer(node, name, default) for name, default in (("start", 0), ("end", None)))
                    self._entries[y] = dims[start:end]
                elif (numbers := numbers_of(dims)) is not None:
                    self._entries[y] = (math.prod(numbers),)
            return
        if node.op_type == "Split":
            self._divide(node)
            return
        given = [self.entries(x) for x in node.inputs]
        if given and None not in given:
            result = vector(node, [each for each in given if each is not None])
            if result is not None and len(result) <= MOST:
                self._entries[y] = result

    def _arrange(self, node: ir.Node) -> bool:
        """Note what a node puts in rows and columns, or in a row again; return whether it does."""
        x, y = node.inputs[0], node.outputs[0]
        table = self._tables.get(x) if x is not None else None
        if table is None and node.op_type == "Reshape" and (entries := self.entries(x)) is not None:
            table = table_of(entries)
        if table is None or table.size > MOST:
            return False
        made = arranged(node, table, [numbers_of(self.entries(each)) for each in node.inputs[1:]])
        if made is None or (made.ndim == 1 and table.ndim == 1):
            return False
        if made.ndim == 1:
            self._entries[y] = tuple(made)
        else:
            self._tables[y] = made
        return True

    def _divide(self, node: ir.Node) -> None:
        """Note the entries of the parts of a vector."""
        whole, count = self.entries(node.inputs[0]), len(node.outputs)
        if whole is None:
            return
        sizes = numbers_of(self.entries(node.inputs[1])) if len(node.inputs) > 1 else None
        if sizes is None:
            each = -(-len(whole) // count)
            sizes = [len(whole[i * each : (i + 1) * each]) for i in range(count)]
        start = 0
        for y, size in zip(node.outputs, sizes, strict=False):
            self._entries[y] = whole[start : start + size]
            start += size

    def _take(self, node: ir.Node, name: str) -> None:
        """Note the branch that an If always takes, and the entries of what that gives."""
        self._taken[node] = name
        branch = node.attributes[name].as_graph()
        for inner in branch:
            if inner.domain in ("", "ai.onnx") and inner.outputs:
                self.follow(inner)
        for given, y in zip(branch.outputs, node.outputs, strict=False):
            if (entries := self.entries(given)) is None:
                continue
            self._entries[y] = entries
            numbers = numbers_of(entries)
            if numbers is not None and y.dtype == ir.DataType.INT64 and y.shape is not None and len(y.shape) == 1:
                y.const_value = ir.tensor(np.array(numbers, np.int64))


def _length(value: ir.Value) -> int | None:
    """Return the number of entries of a vector of integers, where the graph tells it."""
    if value.dtype is None or not _counts(value.dtype) or value.shape is None or len(value.shape) > 1:
        return None
    n = value.shape[0] if len(value.shape) else 1
    return n if isinstance(n, int) and n <= MOST else None


def _counts(dtype: ir.DataType) -> bool:
    return dtype.is_integer() or dtype == ir.DataType.BOOL


def _open(size: Size) -> bool:
    return size is None or (isinstance(size, str) and size.startswith(MADE))


# -- shapes ----------------------------------------------------------------------------------------------------------


def _reshape(known: _Known, node: ir.Node) -> Sizes | None:
    x, asked = node.inputs[0], known.entries(node.inputs[1] if len(node.inputs) > 1 else None)
    if x is None or asked is None:
        return None
    if x.shape is None:
        return _without(tuple(None if size == 0 else size for size in asked))
    given = known.dims(x)
    if not integer(node, "allowzero", 0):
        asked = tuple(given[i] if size == 0 and i < len(given) else size for i, size in enumerate(asked))
    inferred = [i for i, size in enumerate(asked) if size == -1 or size is None]
    if len(inferred) == 1:  # what is left: sizes that stand on both sides cancel
        left = [part for size in given for part in _factors(size)]
        rest = [part for i, size in enumerate(asked) if i != inferred[0] for part in _factors(size)]
        for size in [each for each in rest if isinstance(each, str)]:
            if size not in left:
                row = _put_back(known, x, asked) if inferred == [len(asked) - 1] else None
                return _without((*asked[:-1], row)) if row is not None else _without(asked)
            left.remove(size)
        number = math.prod(size for size in rest if isinstance(size, int))
        total = math.prod(size for size in left if isinstance(size, int))
        names = [size for size in left if not isinstance(size, int)]
        found: Size = None
        if number and total % number == 0 and not names:
            found = total // number
        elif number and total % number == 0 and len(names) == 1 and names[0] is not None:
            found = names[0] if number == total else f"{names[0]}*{total // number}"
        asked = tuple(found if i == inferred[0] else size for i, size in enumerate(asked))
    return _without(asked)


def _put_back(known: _Known, x: ir.Value, asked: Sizes) -> Size:
    """Return a row's length where rows are put back after a product: (T, N, K), (T*N, K), (T*N, C), (T, N, -1)."""
    node = x.producer()
    while node is not None and node.op_type in ("Add", "Gemm", "Identity", "MatMul") and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    before = node.inputs[0] if node is not None and node.op_type == "Reshape" else None
    if node is None or before is None or before.shape is None or len(known.dims(x)) != 2:
        return None
    whole, rows = known.dims(before), known.dims(node.outputs[0])
    return known.dims(x)[1] if whole[:-1] == asked[:-1] and whole[-1:] == rows[1:] else None


def _factors(size: Size) -> Sequence[Size]:
    """Return the factors of a product of a symbol and a number, as a batch of lists of tokens in one axis is."""
    name, times, number = size.rpartition("*") if isinstance(size, str) else ("", "", "")
    return [name, int(number)] if times and name.isidentifier() and number.isdecimal() else [size]


def _without(asked: Sizes) -> Sizes:
    return tuple(None if isinstance(size, int) and size < 0 else size for size in asked)


def _expand(known: _Known, node: ir.Node) -> Sizes | None:
    x, asked = node.inputs[0], known.entries(node.inputs[1] if len(node.inputs) > 1 else None)
    if x is None or asked is None or x.shape is None:
        return None
    given = known.dims(x)
    rank = max(len(given), len(asked))
    pairs = zip((1,) * (rank - len(given)) + given, (1,) * (rank - len(asked)) + asked, strict=True)
    return tuple(_broadcast(a, b) for a, b in pairs)


def _broadcast(a: Size, b: Size) -> Size:
    for one, other in ((a, b), (b, a)):
        if one == 1:
            return other
        if isinstance(one, int):
            return one
    return a if a == b else None


def _slice(known: _Known, node: ir.Node) -> Sizes | None:
    x, *rest = node.inputs
    if x is None or x.shape is None or len(rest) < 3 or (axes := numbers_of(known.entries(rest[2]))) is None:
        return None
    unknown: Sizes = (None,) * len(axes)
    starts, ends = (known.entries(each) or unknown for each in rest[:2])
    steps = (1,) * len(axes) if len(rest) < 4 or rest[3] is None else known.entries(rest[3]) or unknown
    sizes = list(known.dims(x))
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=False):
        if not -len(sizes) <= axis < len(sizes):
            return None
        sizes[axis] = _cut(sizes[axis], start, end, step)
    return tuple(sizes)


def _cut(size: Size, start: Size, end: Size, step: Size) -> Size:
    if start == 0 and step == 1 and (end == size or (isinstance(end, int) and end >= 2**31 - 1)):
        return size
    numbers = numbers_of([size, start, end, step])
    return None if numbers is None or step == 0 else len(range(numbers[0])[numbers[1] : numbers[2] : numbers[3]])


def _pad(known: _Known, node: ir.Node) -> Sizes | None:
    x, pads = node.inputs[0], known.entries(node.inputs[1] if len(node.inputs) > 1 else None)
    if x is None or x.shape is None or pads is None or len(pads) != 2 * len(x.shape) or len(node.inputs) > 3:
        return None
    before, behind = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    return tuple(_padded(size, a, b) for size, a, b in zip(known.dims(x), before, behind, strict=True))


def _padded(size: Size, before: Size, behind: Size) -> Size:
    if before == behind == 0:
        return size
    numbers = numbers_of([size, before, behind])
    return None if numbers is None else sum(numbers)


_SHAPES = {"Expand": _expand, "Pad": _pad, "Reshape": _reshape, "Slice": _slice}
