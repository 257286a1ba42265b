"""Scalar expressions of values: ``boxes[0,4,:].max() - 0.5 * logits[:,3]``. A grammar of our own, never Python.

    sum      = product { ("+" | "-") product }
    product  = factor { ("*" | "/" | "×" | "÷") factor }
    factor   = [ "-" | "−" ] part { "[" index { "," index } "]" | ".sum()" | ".mean()" | ".max()" | ".min()" }
    part     = number | name | "'" any name "'" | "(" sum ")"
    index    = integer | [ integer ] ":" [ integer ] | "..."

The first axis is the batch: 0 or ``:`` there means every sample, each by itself, and what reduces leaves it alone.
Where several names fit, the longest of the model's own wins, so that a name may hold dots and slashes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from cam_onnx.errors import InputError, did_you_mean, shown

__all__ = [
    "REDUCTIONS",
    "Binary",
    "Index",
    "Name",
    "Negative",
    "Node",
    "Number",
    "Reduction",
    "names",
    "parse",
    "quoted",
]

REDUCTIONS = ("sum", "mean", "max", "min")
DEEPEST, LONGEST = 60, 2000  # brackets in brackets, characters


@dataclass(frozen=True)
class Number:
    value: float


@dataclass(frozen=True)
class Name:
    name: str


@dataclass(frozen=True)
class Negative:
    of: Node


@dataclass(frozen=True)
class Binary:
    sign: str  # + - * /
    left: Node
    right: Node


@dataclass(frozen=True)
class Index:
    """`at`: an int, (start, end) with None for open ends, or "..." for as many whole axes as fit."""

    of: Node
    at: tuple[int | tuple[int | None, int | None] | str, ...]


@dataclass(frozen=True)
class Reduction:
    of: Node
    kind: str


Node = Number | Name | Negative | Binary | Index | Reduction


def parse(text: str, known: Collection[str]) -> Node:
    """Return the tree of an expression over the values called `known`.

    Raises
    ------
    InputError
        What is wrong, and at which character; an unknown name with the nearest one.
    """
    if text in known:
        return Name(text)
    if len(text) > LONGEST:
        raise InputError(f"target expression has {len(text)} characters, at most {LONGEST}")
    return _Parser(text, known).whole()


def names(node: Node) -> Iterator[str]:
    """Yield the names in a tree, from left to right."""
    if isinstance(node, Name):
        yield node.name
    elif isinstance(node, Binary):
        yield from names(node.left)
        yield from names(node.right)
    elif not isinstance(node, Number):
        yield from names(node.of)


class _Parser:
    def __init__(self, text: str, known: Collection[str]) -> None:
        self.text, self.at, self.depth = text, 0, 0
        self.known = sorted((name for name in known if name), key=len, reverse=True)

    def whole(self) -> Node:
        found = self.sum()
        if self.peek():
            raise self.wrong("the end, or an operator")
        return found

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise InputError(f"target expression: more than {DEEPEST} brackets in one another")
        found = self.product()
        while sign := self.take("+", "-", "−"):
            found = Binary("+" if sign == "+" else "-", found, self.product())
        self.depth -= 1
        return found

    def product(self) -> Node:
        found = self.factor()
        while sign := self.take("*", "/", "×", "÷"):
            found = Binary("*" if sign in "*×" else "/", found, self.factor())
        return found

    def factor(self) -> Node:
        if self.take("-", "−"):
            return Negative(self.factor_part())
        return self.factor_part()

    def factor_part(self) -> Node:
        found = self.part()
        while True:
            if self.take("["):
                at = [self.index()]
                while self.take(","):
                    at.append(self.index())
                if not self.take("]"):
                    raise self.wrong("',' or ']'")
                if at.count("...") > 1:
                    raise InputError(f"target {shown(self.text)!r}: '...' twice in one index")
                found = Index(found, tuple(at))
            elif match := self.match(r"\.\s*([a-z]+)\s*\(\s*\)"):
                if match[1] not in REDUCTIONS:
                    raise InputError(
                        f"target {shown(self.text)!r}: no .{match[1]}(){did_you_mean(match[1], REDUCTIONS)}; there are "
                        f"{', '.join(f'.{kind}()' for kind in REDUCTIONS)}"
                    )
                found = Reduction(found, match[1])
            else:
                return found

    def part(self) -> Node:
        if self.take("("):
            found = self.sum()
            if not self.take(")"):
                raise self.wrong("')'")
            return found
        if match := self.match(r"(\d+(\.\d+)?|\.\d+)([eE][+-]?\d+)?(?![\w.])"):
            return Number(float(match[0]))
        if match := self.match(r"'([^']+)'|\"([^\"]+)\""):
            return self.named(match[1] or match[2])
        self.peek()
        for name in self.known:
            end = self.at + len(name)
            if self.text.startswith(name, self.at) and not re.match(r"\w", self.text[end : end + 1]):
                self.at = end
                return Name(name)
        if match := self.match(r"[A-Za-z_]\w*"):
            return self.named(match[0])
        raise self.wrong("a name, a number or '('")

    def named(self, name: str) -> Name:
        if name not in self.known:
            raise InputError(
                f"target {shown(self.text)!r}: the model has no value {shown(name)!r}{did_you_mean(name, self.known)}"
            )
        return Name(name)

    def index(self) -> int | tuple[int | None, int | None] | str:
        if self.take("..."):
            return "..."
        start = self.match(r"-?\d{1,9}")
        if not self.take(":"):
            if start is None:
                raise self.wrong("an index, ':' or '...'")
            return int(start[0])
        end = self.match(r"-?\d{1,9}")
        return (None if start is None else int(start[0]), None if end is None else int(end[0]))

    def peek(self) -> str:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def take(self, *tokens: str) -> str:
        self.peek()
        for token in tokens:
            if self.text.startswith(token, self.at):
                self.at += len(token)
                return token
        return ""

    def match(self, pattern: str) -> re.Match[str] | None:
        self.peek()
        found = re.compile(pattern).match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def wrong(self, expected: str) -> InputError:
        got = repr(shown(self.text[self.at : self.at + 12])) if self.peek() else "the end"
        return InputError(f"target {shown(self.text)!r}: at character {self.at + 1} expected {expected}, got {got}")


def quoted(name: str) -> str:
    """Return a name as an expression has to have it: in quotes where it would be read as something else (``'758'``)."""
    return name if re.fullmatch(r"[^\W\d][\w./:]*", name) else f"'{name}'"
