"""How a rule is called: inputs and attributes of a node in the newest spelling."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from cam_onnx.autodiff import spelling
from cam_onnx.autodiff.bodies import Bodies, Body
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.subgraphs import reads
from cam_onnx.autodiff.val import Refused, Val

__all__ = ["arguments", "lower"]


def arguments(op: Emitter, node: ir.Node, parameters: Sequence[str]) -> tuple[list[Val | None], dict[str, Any]]:
    """Return inputs and attributes for a function with `parameters`: defaults filled in, absent inputs as None."""
    primals = [None if x is None else op.primal(x) for x in node.inputs]
    attributes = dict(spelling.defaults(node.op_type, op.opset, node.domain))
    for name, attribute in node.attributes.items():
        attributes[name] = attribute.as_string() if attribute.type == ir.AttributeType.STRING else attribute.value
    was = spelling.moved(node.op_type, op.opset)
    if was is not None:
        axes = attributes.pop(was[0], None)
        if axes is not None:
            primals.append(op.constant(np.array(axes, np.int64)))
    later = spelling.defaults(node.op_type, spelling.newest(node.domain), node.domain)
    names = [name for name in parameters if name not in attributes]
    attributes |= {name: later[name] for name in names if name in later}
    inputs = sum(name not in later for name in names)
    return primals + [None] * max(0, inputs - len(primals)), attributes


def lower(bodies: Bodies, node: ir.Node, lowering: Callable[..., Any]) -> Body | None:
    """Return a node's body as a lowering gives it; None, with the fault noted, where it declines."""
    known = bodies.known(node)
    if known is not None or node in bodies.faults:
        return known
    op = Emitter(bodies.opset, bodies.taken)
    op.scope = node.op_type
    found = inspect.signature(lowering).parameters.values()
    parameters = tuple(p.name for p in found if p.kind not in (p.VAR_KEYWORD, p.KEYWORD_ONLY))[1:]
    try:
        primals, attributes = arguments(op, node, parameters)
        results = lowering(op, *primals, **attributes)
    except Refused as error:
        bodies.faults[node] = str(error)
        return None
    bodies.taken |= op.names()
    own = {y for each in op.nodes for y in each.outputs} | {constant.value for constant in op.constants.values()}
    given = [x for each in op.nodes for x in reads(each)] + [op.resolve(val.value) for val in results]
    read = [x for x in dict.fromkeys((*node.inputs, *given)) if x is not None and (x not in own or x in node.inputs)]
    tensors = []
    for constant in op.constants.values():
        if constant.value not in read and constant.value.const_value is not None:
            tensors.append(ir.serde.serialize_tensor(constant.value.const_value))
            tensors[-1].name = constant.name
    nodes = [ir.serde.serialize_node(each) for each in op.nodes]
    outputs = [op.resolve(val.value).name or "" for val in results[: len(node.outputs)]]
    return bodies.lowered(node, nodes, outputs, tensors, read)
