"""What onnx's checker would say of a graph, without copying its weights: names given once, and before they are read.

ONNX Runtime sorts nodes and `onnx_ir` only logs a missing value; a gradient of such a graph would be one of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import onnx

from cam_onnx.autodiff.schema import Schemas
from cam_onnx.errors import InvalidModel, UnsupportedOpset, shown

__all__ = ["check"]

AGAIN = "export the model again"
Names = set[str]


def check(proto: onnx.ModelProto, name: str) -> None:
    """Refuse versions that the installed onnx does not know, and graphs that are not well-formed.

    Raises
    ------
    InvalidModel, UnsupportedOpset
    """
    where = shown(name)
    if proto.ir_version > onnx.IR_VERSION:
        raise InvalidModel(
            f"{where}: IR version {proto.ir_version}, the installed onnx reads up to {onnx.IR_VERSION}: upgrade onnx"
        )
    if not proto.opset_import:
        raise InvalidModel(f"{where}: no opset import, so that the meaning of its operators is not defined; {AGAIN}")
    newest = onnx.defs.onnx_opset_version()
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > newest:
            raise UnsupportedOpset(
                f"{where}: opset {entry.version}, the installed onnx knows up to {newest}: upgrade onnx, or export at "
                f"opset {newest} or below"
            )
    _graph(proto.graph, [], where, Schemas(proto.opset_import))
    for function in proto.functions:
        known = {"", *function.input}
        inside = f"{where}: function {shown(function.name)!r}"
        _nodes(function.node, [known], inside, Schemas(function.opset_import))
        _given(function.output, [known], inside)


def _graph(graph: onnx.GraphProto, outer: list[Names], where: str, schemas: Schemas) -> None:
    inputs = [i.name for i in graph.input]
    weights = [i.name for i in graph.initializer] + [i.values.name for i in graph.sparse_initializer]
    for names, what in ((inputs, "inputs"), (weights, "initializers")):
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise InvalidModel(f"{where}: two {what} are called {shown(twice)!r}; {AGAIN}")
    _text(where, *inputs, *weights)
    scopes = [*outer, {"", *inputs, *weights}]
    _nodes(graph.node, scopes, where, schemas)
    _given([o.name for o in graph.output], scopes, where)


def _nodes(nodes: Sequence[onnx.NodeProto], scopes: list[Names], where: str, schemas: Schemas) -> None:
    """Walk the nodes of one graph or function; the innermost of `scopes` grows by what they give."""
    own = scopes[-1]
    for index, node in enumerate(nodes):
        attributes = [attribute.name for attribute in node.attribute]
        _text(where, node.op_type, node.domain, node.name, *node.input, *node.output, *attributes)
        if fault := schemas.fault(node):
            raise InvalidModel(f"{where}: {_named(node, index)} {fault}; {AGAIN}")
        for x in node.input:
            if not any(x in scope for scope in scopes):
                raise InvalidModel(
                    f"{where}: {_named(node, index)} reads {shown(x)!r}, which nothing before it gives: "
                    f"{_why(nodes, index, x)}"
                )
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _graph(graph, scopes, where, schemas)
        for y in node.output:
            if y and y in own:
                raise InvalidModel(
                    f"{where}: value {shown(y)!r} is given twice (second by {_named(node, index)}); {AGAIN}"
                )
            own.add(y)


def _text(where: str, *names: Any) -> None:
    """Refuse names that are not UTF-8: protobuf gives these as bytes."""
    for name in names:
        if not isinstance(name, str):
            raise InvalidModel(f"{where}: the name {shown(name)!r} is not UTF-8; {AGAIN}")


def _given(outputs: Iterable[str], scopes: list[Names], where: str) -> None:
    for name in outputs:
        if not any(name in scope for scope in scopes):
            raise InvalidModel(f"{where}: output {shown(name)!r} is given by no node; {AGAIN}")


def _named(node: onnx.NodeProto, index: int) -> str:
    return f"node {shown(node.name or next(filter(None, node.output), index))!r} ({shown(node.op_type)})"


def _why(nodes: Sequence[Any], index: int, missing: str) -> str:
    """Say why a value is not there yet: given later, given by what needs this very node, or by nothing."""
    givers = {y: node for node in nodes[index:] for y in node.output if y}
    if missing not in givers:
        return f"no node, input or initializer has that name; {AGAIN}"
    own, seen, waiting = set(nodes[index].output), set[str](), [missing]
    while waiting:
        value = waiting.pop()
        if value in own:
            return f"the nodes form a circle; {AGAIN}"
        if value not in seen and value in givers:
            seen.add(value)
            waiting += givers[value].input
    return f"the nodes are not sorted; {AGAIN}, or sort them (onnx_ir.passes.common.TopologicalSortPass)"
