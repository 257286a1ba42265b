"""Sizes that a graph computes: what onnx's shape inference leaves open of what is reshaped or expanded to them.

The older exporter writes a batch of any size as arithmetic on `Shape`. Inference follows numbers through it; a symbol
beside them it loses, and with it the numbers. Here both are followed, and what is found is told to inference, which
carries it on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx
import onnx_ir as ir

__all__ = ["told"]

Size = int | str | None  # a number, the name of a dimension, or unknown
Sizes = tuple[Size, ...]

_MOST = 64  # entries of a vector of sizes
_MADE = "unk__"  # how inference names what it does not know
_SAME = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"}  # entries stay, in order


def told(graph: ir.Graph) -> dict[str, onnx.TypeProto]:
    """Return types that say more than the graph's own."""
    known = _Known()
    found: dict[str, onnx.TypeProto] = {}
    for node in graph:
        if node.domain not in ("", "ai.onnx") or not node.outputs:
            continue
        known.follow(node)
        y = node.outputs[0]
        if node.op_type not in _SHAPES or y.dtype is None or (dims := _SHAPES[node.op_type](known, node)) is None:
            continue
        if known.learn(y, dims):
            sizes = [None if isinstance(d, str) and d.startswith(_MADE) else d for d in known.dims(y)]
            found[y.name or ""] = onnx.helper.make_tensor_type_proto(int(y.dtype), sizes)
    return found


class _Known:
    """What is known of sizes so far, on the way through a graph."""

    def __init__(self) -> None:
        self._entries: dict[ir.Value, Sizes] = {}  # of vectors of integers, and of truths about them
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
        if constant is None or constant.size > _MOST or not _counts(constant.dtype):
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
        y = node.outputs[0]
        if y.shape is not None and len(y.shape) > 1:
            return
        if node.op_type == "Shape":
            x = node.inputs[0]
            if x is not None and (x.shape is not None or x in self._shapes):
                start, end = (_integer(node, name, default) for name, default in (("start", 0), ("end", None)))
                self._entries[y] = self.dims(x)[start:end]
            return
        given = [self.entries(x) for x in node.inputs]
        if given and None not in given:
            result = _vector(node, [each for each in given if each is not None])
            if result is not None and len(result) <= _MOST:
                self._entries[y] = result


def _counts(dtype: ir.DataType) -> bool:
    return dtype.is_integer() or dtype == ir.DataType.BOOL


def _numbers_of(sizes: Sequence[Size] | None) -> list[int] | None:
    """Return the entries where all are numbers."""
    found = [size for size in sizes or () if isinstance(size, int)]
    return found if sizes is not None and len(found) == len(sizes) else None


def _open(size: Size) -> bool:
    return size is None or (isinstance(size, str) and size.startswith(_MADE))


def _integer(node: ir.Node, name: str, default: int | None) -> int | None:
    return node.attributes[name].as_int() if name in node.attributes else default


# -- entries ---------------------------------------------------------------------------------------------------------


def _vector(node: ir.Node, given: Sequence[Sizes]) -> Sizes | None:
    kind = node.op_type
    if kind in _SAME:
        return given[0]
    if kind == "Concat":
        return tuple(entry for each in given for entry in each)
    if kind == "Gather" and (at := _numbers_of(given[1])) is not None:
        return tuple(given[0][i] if -len(given[0]) <= i < len(given[0]) else None for i in at)
    if kind == "Slice" and len(given) > 2 and (at := _numbers_of([each[0] for each in given[1:] if each])) is not None:
        return given[0][at[0] : at[1] : at[3] if len(at) > 3 else 1]
    if kind == "ConstantOfShape" and len(given[0]) < 2:
        fill = node.attributes["value"].as_tensor().numpy().reshape(-1)[0] if "value" in node.attributes else 0.0
        count = given[0][0] if given[0] else 1
        return (int(fill),) * count if isinstance(count, int) and count <= _MOST and fill == int(fill) else None
    if kind in _EACH:
        longest = max(map(len, given), default=0)
        if any(len(each) not in (1, longest) for each in given):
            return None
        wide = [each * longest if len(each) < longest else each for each in given]
        return tuple(_EACH[kind](*column) for column in zip(*wide, strict=True))
    return None


def _numbers(compute: Callable[[int, int], int], neutral: int | None) -> Callable[[Size, Size], Size]:
    """Arithmetic of two entries; with the neutral element to its right a symbol stays."""

    def entry(a: Size, b: Size) -> Size:
        if isinstance(a, int) and isinstance(b, int):
            return compute(a, b)
        return a if neutral is not None and b == neutral else None

    return entry


def _equal(a: Size, b: Size) -> Size:
    if a is None or b is None:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return int(a == b)
    if a == b:
        return 1
    numbers = [each for each in (a, b) if isinstance(each, int)]
    return 0 if numbers and numbers[0] < 0 else None  # no dimension is below 0


def _where(condition: Size, a: Size, b: Size) -> Size:
    if isinstance(condition, int):
        return a if condition else b
    return a if a == b else None


_EACH: dict[str, Callable[..., Size]] = {
    "Add": _numbers(lambda a, b: a + b, 0),
    "Sub": _numbers(lambda a, b: a - b, 0),
    "Mul": _numbers(lambda a, b: a * b, 1),
    "Div": _numbers(lambda a, b: int(a / b) if b else 0, 1),
    "Mod": _numbers(lambda a, b: a % b if b else 0, None),
    "Equal": _equal,
    "Where": _where,
}


# -- shapes ----------------------------------------------------------------------------------------------------------


def _reshape(known: _Known, node: ir.Node) -> Sizes | None:
    x, asked = node.inputs[0], known.entries(node.inputs[1] if len(node.inputs) > 1 else None)
    if x is None or asked is None or x.shape is None:
        return None
    given = known.dims(x)
    if not _integer(node, "allowzero", 0):
        asked = tuple(given[i] if size == 0 and i < len(given) else size for i, size in enumerate(asked))
    inferred = [i for i, size in enumerate(asked) if size == -1 or size is None]
    if len(inferred) == 1:  # what is left: sizes that stand on both sides cancel
        left, rest = list(given), [size for i, size in enumerate(asked) if i != inferred[0]]
        for size in [each for each in rest if isinstance(each, str)]:
            if size not in left:
                return _without(asked)
            left.remove(size)
        number = math.prod(size for size in rest if isinstance(size, int))
        total = math.prod(size for size in left if isinstance(size, int))
        names = [size for size in left if not isinstance(size, int)]
        found: Size = None
        if number and total % number == 0 and not names:
            found = total // number
        elif number == total and len(names) == 1:
            found = names[0]
        asked = tuple(found if i == inferred[0] else size for i, size in enumerate(asked))
    return _without(asked)


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
    if x is None or x.shape is None or len(rest) < 3 or (axes := _numbers_of(known.entries(rest[2]))) is None:
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
    numbers = _numbers_of([size, start, end, step])
    return None if numbers is None or step == 0 else len(range(numbers[0])[numbers[1] : numbers[2] : numbers[3]])


_SHAPES = {"Expand": _expand, "Reshape": _reshape, "Slice": _slice}
