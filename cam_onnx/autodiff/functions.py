"""Functions in a file: who calls whom, and a body with the attributes of a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx

from cam_onnx.autodiff.raising import respelled

__all__ = [
    "Key",
    "all_names",
    "calls",
    "domain_of",
    "inside",
    "key",
    "raised",
    "reachable",
    "scans_whole_batches",
    "with_attributes",
]

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


def all_names(proto: onnx.ModelProto) -> set[str]:
    """Return every name of a value or node, inside subgraphs and functions too: an added one must not hide it."""
    found: set[str] = set()
    parts: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while parts:
        part = parts.pop()
        if isinstance(part, onnx.GraphProto):
            for values in (part.input, part.output, part.initializer):
                found.update(value.name for value in values)
        else:
            found.update(part.input, part.output)
        for node in part.node:
            found.add(node.name)
            found.update(node.input)
            found.update(node.output)
            for attribute in node.attribute:
                parts.extend(attribute.graphs)
                if attribute.HasField("g"):
                    parts.append(attribute.g)
    found.discard("")
    return found


def raised(proto: onnx.ModelProto, opset: int, taken: set[str]) -> list[onnx.FunctionProto]:
    """Return a model's functions at another opset.

    Raises
    ------
    Unraisable
    """

    def fresh(name: str) -> str:
        count, unique = 1, f"{name}_raised"
        while unique in taken:
            count += 1
            unique = f"{name}_raised_{count}"
        taken.add(unique)
        return unique

    found = []
    for function in proto.functions:
        copy = onnx.FunctionProto()
        copy.CopyFrom(function)
        for entry in copy.opset_import:
            if domain_of(entry.domain) == "" and entry.version < opset:
                nodes = respelled(function.node, entry.version, opset, fresh)
                del copy.node[:]
                copy.node.extend(nodes)
                entry.version = opset
        found.append(copy)
    return found


def scans_whole_batches(nodes: Sequence[onnx.NodeProto]) -> bool:
    """Whether no Scan of opset 8 has sequence lengths or stands in a subgraph: only such a one can be raised."""
    scans = [node for node in nodes if node.op_type == "Scan"]
    return len(scans) == sum(name[1] == "Scan" for name in calls(nodes)) and not any(node.input[0] for node in scans)


def inside(proto: onnx.ModelProto, name: str) -> str:
    """Return in which function or subgraph a value or node called `name` lies, or ""."""
    parts = [(f"function {function.name!r}", function.node) for function in proto.functions]
    parts.append(("", proto.graph.node))
    while parts:
        where, nodes = parts.pop()
        for node in nodes:
            if where and (name == node.name or name in node.output):
                return where
            for attribute in node.attribute:
                for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                    parts.append((f"{attribute.name} of {node.op_type} {node.name or node.output[0]!r}", graph.node))
    return ""
