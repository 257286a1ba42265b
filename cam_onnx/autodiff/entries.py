"""The entries of a vector of sizes: numbers, names of dimensions, and what becomes of both in arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

__all__ = ["MOST", "Size", "Sizes", "integer", "numbers_of", "vector"]

Size = int | str | None  # a number, the name of a dimension, or unknown
Sizes = tuple[Size, ...]

MOST = 64  # entries of a vector of sizes
_SAME = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"}  # entries stay, in order


def numbers_of(sizes: Sequence[Size] | None) -> list[int] | None:
    """Return the entries where all are numbers."""
    found = [size for size in sizes or () if isinstance(size, int)]
    return found if sizes is not None and len(found) == len(sizes) else None


def integer(node: ir.Node, name: str, default: int | None) -> int | None:
    return node.attributes[name].as_int() if name in node.attributes else default


def vector(node: ir.Node, given: Sequence[Sizes]) -> Sizes | None:
    kind = node.op_type
    if kind in _SAME:
        return given[0]
    if kind == "Concat":
        return tuple(entry for each in given for entry in each)
    if kind == "Gather" and (at := numbers_of(given[1])) is not None:
        return tuple(given[0][i] if -len(given[0]) <= i < len(given[0]) else None for i in at)
    if kind == "Slice" and len(given) > 2 and (at := numbers_of([each[0] for each in given[1:] if each])) is not None:
        return given[0][at[0] : at[1] : at[3] if len(at) > 3 else 1]
    if kind == "ConstantOfShape" and len(given[0]) < 2:
        fill = node.attributes["value"].as_tensor().numpy().reshape(-1)[0] if "value" in node.attributes else 0.0
        count = given[0][0] if given[0] else 1
        return (int(fill),) * count if isinstance(count, int) and count <= MOST and fill == int(fill) else None
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
