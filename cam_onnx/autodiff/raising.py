"""Nodes of a function's body at another opset than its own: onnx's version converter leaves functions out.

The standard lets a function import another version than the model, as long as every operator in it is the same in
both. Where one is not, it is converted here, node by node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx
import onnx.version_converter

from cam_onnx.autodiff import spelling

__all__ = ["Unraisable", "respelled", "same_meaning"]


class Unraisable(Exception):
    """A node cannot be written at the opset; the message says which and why."""


def respelled(
    nodes: Iterable[onnx.NodeProto], own: int, opset: int, fresh: Callable[[str], str]
) -> list[onnx.NodeProto]:
    """Return `nodes` of opset `own` as they are written at `opset`.

    Raises
    ------
    NeedsOpset
        `own` is the newer one, and an operator changed between them: the model has to be raised.
    Unraisable
        The version converter cannot, or an attribute refers to the function's.
    """
    result: list[onnx.NodeProto] = []
    for node in nodes:
        if same_meaning(node, own, opset):
            result.append(node)
        elif own > opset:
            raise spelling.NeedsOpset(own, f"{node.op_type} inside a function of opset {own}")
        else:
            result += _converted(node, own, opset, fresh)
    return result


def same_meaning(node: onnx.NodeProto, own: int, opset: int) -> bool:
    """Whether a node, subgraphs included, means the same at both opsets."""
    if own == opset:
        return True
    stack = [node]
    while stack:
        each = stack.pop()
        if each.domain in ("", "ai.onnx"):
            here, there = (spelling.schema(each.op_type, version) for version in (own, opset))
            changed = here is not None and (there is None or here.since_version != there.since_version)
            if changed and not _only_wider(each, own, opset):
                return False
        for attribute in each.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                stack.extend(graph.node)
    return True


def _only_wider(node: onnx.NodeProto, own: int, opset: int) -> bool:
    """Whether the operator only takes more types at the newer version: same inputs, same attributes and defaults."""
    here, there = spelling.schema(node.op_type, own), spelling.schema(node.op_type, opset)
    assert here is not None
    if there is None or node.op_type in _CHANGED:
        return False
    inputs = [[i.name for i in schema.inputs] for schema in (here, there)]
    return inputs[0] == inputs[1] and spelling.defaults(node.op_type, own) == spelling.defaults(node.op_type, opset)


# Same inputs, attributes and defaults, and yet another meaning.
_CHANGED = {"Softmax", "LogSoftmax", "Hardmax", "BatchNormalization", "GroupNormalization", "Resize", "Upsample"}


def _converted(node: onnx.NodeProto, own: int, opset: int, fresh: Callable[[str], str]) -> list[onnx.NodeProto]:
    if any(attribute.ref_attr_name for attribute in node.attribute):
        raise Unraisable(f"{node.op_type} of opset {own} with an attribute of the function must be raised to {opset}")
    model = onnx.ModelProto(ir_version=8)
    model.opset_import.add(domain="", version=own)
    graph = model.graph
    graph.name = "alone"
    graph.node.append(node)
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(node.input) if name)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    try:
        raised = onnx.version_converter.convert_version(model, opset)
    except Exception as error:  # RuntimeError, ConvertError, ...
        reason = str(error).strip().splitlines()[-1]
        raise Unraisable(f"{node.op_type} cannot be raised from opset {own} to {opset} ({reason})") from error
    names = {name: name for name in (*node.input, *node.output)}
    found = []
    for tensor in raised.graph.initializer:
        constant = onnx.helper.make_node("Constant", [], [names.setdefault(tensor.name, fresh(tensor.name))])
        constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor)
        found.append(constant)
    for each in raised.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(each)
        copy.input[:] = [names.get(x, x) for x in each.input]
        copy.output[:] = [names.setdefault(y, fresh(y)) if y else "" for y in each.output]
        found.append(copy)
    return found
