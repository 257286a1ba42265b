"""To which order an operator can be differentiated, read from what the rules emit.

A rule is a function that calls ``op.Conv(...)`` and multiplies; which operators it may emit is in its code. Where each
of them has a rule in turn, and each that those emit, a gradient can be differentiated again, any number of times.
"""

from __future__ import annotations

import dis
import types
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any

import onnx
import onnx.defs

from cam_onnx.autodiff import spelling
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import RULES, Rule, Table, Vjp, missing

__all__ = ["emitted", "order"]

_SIGNS = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div"}


def order(operators: Iterable[tuple[str, str]], opset: int | None = None, table: Table = RULES) -> int | None:
    """Return how often one can differentiate through all of `operators`, (domain, name) each; None: without end."""
    version = spelling.newest() if opset is None else opset
    now = {("" if domain == "ai.onnx" else domain, name) for domain, name in operators}
    seen: set[tuple[str, str]] = set()
    depth = 0
    while now:
        if any(_incomplete(table.find(name, version, domain), name, depth) for domain, name in now):
            return depth
        now = {("", name) for domain, each in now for name in _needs(table, each, version, domain)} - seen
        seen |= now
        depth += 1
    return None


def _incomplete(rule: Rule | None, name: str, depth: int) -> bool:
    """Whether an operator cannot be differentiated: at all, or, where a rule emits it, by one of its inputs."""
    if rule is None:
        return not _body(name)
    return depth > 0 and any(isinstance(entry, missing) for entry in rule.entries)


def _needs(table: Table, name: str, opset: int, domain: str) -> set[str]:
    rule = table.find(name, opset, domain)
    if rule is None:
        return set() if domain else _body(name)
    functions = [entry.function for entry in rule.entries if isinstance(entry, Vjp)]
    functions += [f for f in (rule.lowering, rule.inside, rule.flow.vjp if rule.flow else None) if f is not None]
    return {found for function in functions for found in emitted(function)}


@cache
def _body(name: str) -> set[str]:
    """Return the operators of the body that the standard gives to an operator; itself where only a call tells it."""
    schema: Any = spelling.schema(name, spelling.newest())
    if schema is None:
        return set()
    if schema.has_function:
        return {node.op_type for node in schema.function_body.node}
    return {name} if schema.has_context_dependent_function else set()


@cache
def emitted(function: Callable[..., Any]) -> frozenset[str]:
    """Return the operators that a rule may emit, itself or through the functions that it calls."""
    found: set[str] = set()
    seen: set[types.CodeType] = set()
    stack: list[tuple[types.CodeType, dict[str, Any]]] = list(_codes(function))
    while stack:
        code, names = stack.pop()
        if code in seen:
            continue
        seen.add(code)
        stack += [(inner, names) for inner in code.co_consts if isinstance(inner, types.CodeType)]
        for step in dis.get_instructions(code):
            if step.opname == "BINARY_OP" and step.argrepr.rstrip("=") in _SIGNS:
                found.add(_SIGNS[step.argrepr.rstrip("=")])
            elif step.opname == "UNARY_NEGATIVE":
                found.add("Neg")
        words = {word for word in (*code.co_names, *code.co_freevars, *code.co_consts) if isinstance(word, str)}
        found |= {word for word in words if onnx.defs.has(word) and word not in names}  # a class may be called so too
        for word in words:
            if getattr(names.get(word), "__module__", "").startswith("cam_onnx.autodiff"):
                stack += _codes(names[word])
            stack += _codes(vars(Emitter).get(word)) if not word.startswith("_") else ()
    return frozenset(found)


def _codes(value: Any) -> Iterator[tuple[types.CodeType, dict[str, Any]]]:
    """Yield the code of a function of the rules, with what its names mean; of a class, of its methods."""
    if isinstance(value, partial):
        for part in (value.func, *value.args):
            yield from _codes(part)
    elif isinstance(value, (classmethod, staticmethod)):
        yield from _codes(value.__func__)
    elif isinstance(value, property):
        yield from _codes(value.fget)
    elif isinstance(value, type) and value.__module__.startswith("cam_onnx.autodiff.rules"):
        for member in vars(value).values():
            yield from _codes(member)
    elif isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        yield value.__code__, {**value.__globals__, **{name: cell.cell_contents for name, cell in cells}}
