"""Additions to a copy of the original ModelProto: the user's nodes, weights, inputs and outputs keep every byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
import onnx_ir as ir

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.skeleton import MADE
from cam_onnx.autodiff.subgraphs import needed, reads
from cam_onnx.autodiff.typed import inferred
from cam_onnx.autodiff.val import Val

__all__ = ["append", "info", "needed"]


def append(
    proto: onnx.ModelProto,
    op: Emitter,
    outputs: Sequence[onnx.ValueInfoProto],
    inputs: Sequence[onnx.ValueInfoProto] = (),
    initializers: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """Return a copy of `proto` with what `op` emitted and the `outputs` need.

    Emitted nodes that no output needs are left out. Added inner values get their inferred shapes.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    nodes = needed(op.nodes, {o.name for o in outputs})
    read = {x.name for node in nodes for x in reads(node)}
    graph.node.extend(ir.serde.serialize_node(node) for node in nodes)
    constants = [c for c in op.constants.values() if c.name in read]
    graph.initializer.extend(_tensor(c) for c in constants)
    graph.initializer.extend(initializers)
    graph.input.extend(inputs)
    graph.output.extend(outputs)
    if not any(o.domain in ("", "ai.onnx") for o in result.opset_import):
        result.opset_import.add(domain="", version=op.opset)
    shown = {o.name for o in outputs}
    added = [y for node in nodes for y in node.outputs if y.name and y.name not in shown]
    for y in added:
        if y.shape is not None and isinstance(y.type, ir.TensorType) and y.name:
            graph.value_info.append(info(y.name, y.type.dtype, _sizes(y.shape)))
    types = inferred(result, "the converted model")
    for y in added:
        if y.shape is None and y.name in types:
            graph.value_info.append(_told(y.name, types[y.name]))
    for output in graph.output[len(proto.graph.output) :]:
        if not output.type.tensor_type.HasField("shape") and output.name in types:
            output.CopyFrom(_told(output.name, types[output.name]))
    return result


def _told(name: str, kind: onnx.TypeProto) -> onnx.ValueInfoProto:
    """Return an inferred type without the names that this inference made up: in the file they may mean other sizes."""
    value = onnx.ValueInfoProto(name=name, type=kind)
    for dim in value.type.tensor_type.shape.dim if kind.HasField("tensor_type") else ():
        if dim.dim_param.startswith(MADE):
            dim.Clear()
    return value


def info(name: str, dtype: ir.DataType, dims: Iterable[int | str | None] | None = None) -> onnx.ValueInfoProto:
    """Return the type of an added input or output; without `dims` its shape is inferred."""
    value = onnx.ValueInfoProto(name=name)
    value.type.tensor_type.elem_type = int(dtype)
    if dims is not None:
        shape = value.type.tensor_type.shape
        shape.SetInParent()  # a scalar has a shape too
        for d in dims:
            if isinstance(d, int):
                shape.dim.add(dim_value=d)
            elif d:
                shape.dim.add(dim_param=d)
            else:
                shape.dim.add()
    return value


def _sizes(shape: ir.Shape) -> list[int | str | None]:
    """Return the sizes of a shape; a name that was made up, by inference or inside a body, says nothing in the file."""
    names = [d if isinstance(d, int) else d.value for d in shape]
    return [None if isinstance(d, str) and ("/" in d or d.startswith(MADE)) else d for d in names]


def _tensor(constant: Val) -> onnx.TensorProto:
    if constant.primal:  # of a body: as it is there
        assert constant.value.const_value is not None
        tensor = ir.serde.serialize_tensor(constant.value.const_value)
        tensor.name = constant.name
        return tensor
    assert constant.known is not None
    return onnx.numpy_helper.from_array(constant.known, constant.name)
