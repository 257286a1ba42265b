"""Nodes with subgraphs, emitted: what is read inside of values outside, and what a subgraph gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from cam_onnx.autodiff import spelling
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.path import Path
from cam_onnx.autodiff.subgraphs import needed, reads
from cam_onnx.autodiff.val import Val, cotangent_type

__all__ = ["attach", "bound", "closed", "ordered", "unsure", "zeros_of"]


def closed(op: Emitter, inputs: Sequence[ir.Value], results: Sequence[Val], name: str) -> ir.GraphView:
    """Return what was emitted as a graph: each result by a node of its own, and nothing that none needs."""
    own = {y.name for node in op.nodes for y in node.outputs}
    outputs: list[ir.Value] = []
    for val in results:
        value = op.resolve(val.value)
        if value.name not in own or any(value.name == other.name for other in outputs):
            value = op.output(val, op.fresh(f"{op.scope}/output")).value
        outputs.append(value)
    nodes = needed(op.nodes, {value.name for value in outputs if value.name})
    return ir.GraphView(inputs, outputs, nodes=nodes, name=name)


def attach(
    op: Emitter,
    op_type: str,
    inputs: Sequence[Val | None],
    graphs: Mapping[str, ir.GraphView],
    types: Sequence[ir.DataType | None],
    **attributes: Any,
) -> tuple[Val, ...]:
    """Emit a node with subgraphs; `types` are those of its outputs."""
    spelling.write(op_type, len(inputs), [*graphs, *attributes], op.opset)
    read = [None if v is None else op.resolve(v.value) for v in inputs]
    own = [ir.Attr(name, ir.AttributeType.GRAPH, graph) for name, graph in graphs.items()]
    own += ir.convenience.convert_attributes(attributes)
    node = ir.Node("", op_type, read, own, num_outputs=len(types), name=op.fresh(f"{op.scope}/{op_type}"))
    op.nodes.append(node)
    for value, dtype in zip(node.outputs, types, strict=True):
        value.name = op.fresh(f"{node.name}/output")
        value.type = None if dtype is None else ir.TensorType(dtype)
    return tuple(unsure(op, value) for value in node.outputs)


def bound(op: Emitter, val: Val) -> Val:
    """Return a value of a graph around as one that is read in a subgraph."""
    found = Val(op, val.value, val.known, val.primal)
    found.finite, found.constant = val.finite, val.constant
    return found


def unsure(op: Emitter, value: ir.Value) -> Val:
    """Return a value of which nothing is known: it may be infinite."""
    found = Val(op, value)
    found.finite = False
    return found


def zeros_of(op: Emitter, value: ir.Value) -> Val:
    """Return zeros of the shape and the cotangent's type of a value."""
    return op.Expand(op.constant(0.0, cotangent_type(value.dtype)), op.shape(op.primal(value)))


def ordered(path: Path) -> list[ir.Value]:
    """Return the values that a path's nodes read and that carry a derivative, in a fixed order."""
    found: list[ir.Value] = []
    for node in path.nodes:
        found += reads(node)
        for _, inner in path.inside.get(node, ()):  # also what came in through a sequence
            found += ordered(inner)
    return [x for x in found if x in path.values]
