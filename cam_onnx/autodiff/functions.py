"""Functions in a file: who calls whom, and a body with the attributes of a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

__all__ = ["Key", "calls", "domain_of", "key", "reachable", "with_attributes"]

Key = tuple[str, str, str]  # domain, operator, overload


def reachable(nodes: Iterable[onnx.NodeProto], functions: Mapping[Key, onnx.FunctionProto]) -> list[onnx.FunctionProto]:
    """Return the functions that nodes call, also through one another."""
    found: dict[Key, onnx.FunctionProto] = {}
    stack = calls(nodes)
    while stack:
        name = stack.pop()
        if name in functions and name not in found:
            found[name] = functions[name]
            stack += calls(found[name].node)
    return list(found.values())


def calls(nodes: Iterable[onnx.NodeProto]) -> list[Key]:
    found, stack = [], list(nodes)
    while stack:
        node = stack.pop()
        found.append(key(node.domain, node.op_type, node.overload))
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                stack.extend(graph.node)
    return found


def with_attributes(node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto]) -> onnx.NodeProto:
    """Put a call's attributes where a function's body refers to them; one that is not given is left out."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            source = given.get(attribute.ref_attr_name)
            if source is None:
                continue
            own = copy.attribute.add()
            own.CopyFrom(source)
            own.name = attribute.name
        else:
            own = copy.attribute.add()
            own.CopyFrom(attribute)
            for graph in (*([own.g] if own.HasField("g") else []), *own.graphs):
                nodes = [with_attributes(inner, given) for inner in graph.node]
                del graph.node[:]
                graph.node.extend(nodes)
    return copy


def key(domain: str, name: str, overload: str) -> Key:
    return domain_of(domain), name, overload


def domain_of(name: str) -> str:
    return "" if name == "ai.onnx" else name
