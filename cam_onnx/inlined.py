"""How many nodes a model has once every call of a local function is written out.

Readers and runtimes write functions out before they count anything: thirty functions that call each other twice are
two kilobytes of file and a billion nodes. So they are counted here, on the file's bytes and before any reader sees
them: each function once, its size by memo. No recursion: neither calls nor subgraphs can exhaust the stack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from cam_onnx.errors import InvalidModel, shown
from cam_onnx.limits import DEFAULTS, Limits
from cam_onnx.wire import BYTES, GRAPH, Malformed, fields, top_level

__all__ = ["check_size", "inlined_size"]

Name = tuple[bytes, bytes, bytes]  # domain, operator, overload

HUGE = 1 << 62  # large enough; a number of thousands of digits cannot be printed
FUNCTIONS = 25  # of ModelProto
# FunctionProto and GraphProto keep their nodes in different fields
NODES = {"function": 7, "graph": 1}


@dataclass
class _Body:
    """Nodes of one graph or function, subgraphs included, and which functions these may call, how often."""

    nodes: int = 0
    calls: Counter[Name] = field(default_factory=Counter)


def inlined_size(data: bytes, where: object = "the model", stop: int = HUGE) -> int:
    """Return the number of nodes of a serialized model, functions written out and subgraphs included.

    Nodes beyond `stop` are not looked at: whoever has a limit need not wait for the rest.

    Raises
    ------
    InvalidModel
        Not a model, or a function that calls itself, directly or through others.
    """
    bodies: dict[Name, _Body] = {}
    main = _Body()
    parts = [part for part in top_level(data, where) if part.wire == BYTES]
    try:
        for part in parts:
            if part.tag == FUNCTIONS:
                bodies[_name(part.view, 1, 10, 13)] = _body(part.view, "function", stop)
        for part in parts:
            if part.tag == GRAPH:
                main = _body(part.view, "graph", stop, calls=bool(bodies))
    except Malformed as error:
        raise InvalidModel(f"{shown(where)}: not a well-formed ONNX model ({error}); export it again") from None
    sizes: dict[Name, int] = {}
    for name in bodies:
        _measure(name, bodies, sizes, where)
    return _total(main, sizes)


def check_size(data: bytes, limits: Limits = DEFAULTS, where: object = "the model") -> None:
    """Refuse a model with more nodes than `limits.max_nodes` (LimitExceeded), or with a recursive function."""
    found = inlined_size(data, where, limits.max_nodes)
    limits.check("max_nodes", found, f"{shown(where)}: with its functions written out", "nodes")


def _body(view: memoryview, kind: str, stop: int, calls: bool = True) -> _Body:
    found = _Body()
    stack = [(NODES[kind], fields(view))]
    while stack and found.nodes <= stop:
        tag, rest = stack[-1]
        for part in rest:
            if part.tag != tag or part.wire != BYTES:
                continue
            found.nodes += 1
            if calls:
                found.calls[_name(part.view, 4, 7, 8)] += 1
            inner = [(NODES["graph"], fields(graph)) for graph in _subgraphs(part.view)]
            stack += inner
            if inner or found.nodes > stop:
                break
        else:
            stack.pop()
    return found


def _subgraphs(node: memoryview) -> Iterator[memoryview]:
    for attribute in fields(node):
        if attribute.tag == 5 and attribute.wire == BYTES:
            for part in fields(attribute.view):
                if part.tag in (6, 11) and part.wire == BYTES:
                    yield part.view


def _name(view: memoryview, operator: int, domain: int, overload: int) -> Name:
    """Return which function a node calls, or which one a function is; "" and "ai.onnx" are one domain."""
    found = {operator: b"", domain: b"", overload: b""}
    for part in fields(view):
        if part.tag in found and part.wire == BYTES:
            found[part.tag] = bytes(part.view[:1024])
    return b"" if found[domain] == b"ai.onnx" else found[domain], found[operator], found[overload]


def _measure(name: Name, bodies: dict[Name, _Body], sizes: dict[Name, int], where: object) -> None:
    """Fill in the sizes of a function and of all that it calls, callees first."""
    path: list[Name] = [name]
    open_: set[Name] = set()
    while path:
        at = path[-1]
        if at in sizes or at not in bodies:  # an operator, not a function
            path.pop()
            continue
        open_.add(at)
        waiting = [callee for callee in bodies[at].calls if callee in bodies and callee not in sizes]
        if loop := [callee for callee in waiting if callee in open_]:
            raise InvalidModel(
                f"{shown(where)}: function {shown(loop[0][1].decode('utf-8', 'replace'))!r} calls itself: ONNX has no "
                "recursion; export the model again"
            )
        if waiting:
            path += waiting
            continue
        sizes[at] = _total(bodies[at], sizes)
        open_.discard(at)
        path.pop()


def _total(body: _Body, sizes: dict[Name, int]) -> int:
    total = body.nodes + sum(count * sizes[name] for name, count in body.calls.items() if name in sizes)
    return min(total, HUGE)
