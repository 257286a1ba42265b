"""What nodes read, also from inside their subgraphs (If, Loop, Scan, SequenceMap)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import onnx_ir as ir

__all__ = ["graphs", "needed", "reads"]


def graphs(node: ir.Node) -> list[Any]:
    """Return the graphs among the node's attributes, in the order of the attributes."""
    found: list[Any] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            found.append(attribute.value)
        elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
            found.extend(attribute.value)
    return found


def reads(node: ir.Node) -> list[ir.Value]:
    """Return the values that a node reads: its inputs, then what its subgraphs take from outside."""
    found = [x for x in node.inputs if x is not None]
    outer = graphs(node)
    if outer:
        own: set[ir.Value] = set()
        inner: list[ir.Value] = []
        for graph in _nested(outer):
            own.update(graph.inputs)
            own.update(graph.initializers.values())
            inner.extend(graph.outputs)
            for each in graph:
                own.update(each.outputs)
                inner.extend(x for x in each.inputs if x is not None)
        found += dict.fromkeys(x for x in inner if x not in own)
    return found


def needed(nodes: Sequence[ir.Node], names: set[str]) -> list[ir.Node]:
    """Return the nodes, in order, that the values called `names` depend on."""
    wanted, kept = set(names), []
    for node in reversed(nodes):
        if any(y.name in wanted for y in node.outputs):
            kept.append(node)
            wanted.update(x.name for x in reads(node) if x.name)
    return kept[::-1]


def _nested(outer: Iterable[Any]) -> Iterator[Any]:
    stack = list(outer)
    while stack:
        graph = stack.pop()
        yield graph
        stack.extend(inner for node in graph for inner in graphs(node))
