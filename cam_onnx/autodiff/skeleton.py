"""A model without large weights: all that shape inference needs of it."""

from __future__ import annotations

import math

import onnx

from cam_onnx.autodiff.stand_ins import stand_ins

__all__ = ["MADE", "skeleton"]

MADE = "unk__"  # how inference names what it does not know
_LARGE = 256  # elements; shape inference needs no larger initializer


def skeleton(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without large weights: each becomes an input of the same type. Enough for shape inference."""
    bare = onnx.ModelProto(ir_version=proto.ir_version)
    bare.opset_import.extend(proto.opset_import)
    bare.functions.extend(proto.functions)
    graph = proto.graph
    bare.graph.name = graph.name
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
    bare.graph.node.extend(stand_ins(graph.node, opset))
    for part in ("input", "output", "value_info", "sparse_initializer"):
        getattr(bare.graph, part).extend(getattr(graph, part))
    for value in (*bare.graph.input, *bare.graph.output, *bare.graph.value_info):
        for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
            if dim.dim_value < 0:  # Paddle's and onnxsim's word for any size
                dim.Clear()
    for value in bare.graph.value_info:
        for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
            if dim.dim_param.startswith(MADE):  # where a tool inferred before, and lost the batch: it would stay lost
                dim.Clear()
    inputs = {i.name for i in graph.input}
    for tensor in graph.initializer:
        # not ByteSize(), which costs as much as serializing every weight
        if tensor.data_location == onnx.TensorProto.EXTERNAL or math.prod(tensor.dims) > _LARGE:
            if tensor.name not in inputs:
                info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                bare.graph.input.append(info)
        else:
            bare.graph.initializer.append(tensor)
    return bare
