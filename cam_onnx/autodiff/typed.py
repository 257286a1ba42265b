"""What a file is read into: a view that onnx_ir can make, with every type that onnx's shape inference finds."""

from __future__ import annotations

import onnx
import onnx.shape_inference
import onnx_ir as ir

from cam_onnx.autodiff import sizes
from cam_onnx.autodiff.skeleton import skeleton
from cam_onnx.autodiff.writing import constant_of
from cam_onnx.errors import InvalidModel

__all__ = ["inferred", "readable", "retype", "values_of"]


def inferred(
    proto: onnx.ModelProto, name: str, hints: dict[str, onnx.TypeProto] | None = None
) -> dict[str, onnx.TypeProto]:
    """Return the type of every value that onnx's shape inference finds; `hints` tell types of some."""
    bare = skeleton(proto)
    outputs = {output.name: output for output in bare.graph.output}
    for key, hint in (hints or {}).items():
        (outputs.get(key) or bare.graph.value_info.add(name=key)).type.CopyFrom(hint)
    try:
        result = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except Exception as error:  # InferenceError, or protobuf trouble
        raise InvalidModel(f"{name}: shape inference fails: {str(error).strip().splitlines()[-1]}") from error
    graph = result.graph
    return {v.name: v.type for v in (*graph.input, *graph.value_info, *graph.output) if v.HasField("type")}


def readable(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, set[str]]:
    """Return a copy that the view can be made of, and the names of sparse initializers, which are inputs in it.

    Of dropped initializers the view would know nothing; a map (what ZipMap gives) is a type that it has no word for.
    """
    names = {sparse.values.name for sparse in proto.graph.sparse_initializer}
    shown_as = (proto.graph.input, proto.graph.output, proto.graph.value_info)
    if not names and not any(_of_maps(value.type) for part in shown_as for value in part):
        return proto, names
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for value in (*copy.graph.input, *copy.graph.output, *copy.graph.value_info):
        if _of_maps(value.type):
            value.ClearField("type")
    del copy.graph.sparse_initializer[:]
    given = {i.name for i in proto.graph.input}
    for sparse in proto.graph.sparse_initializer:
        if sparse.values.name not in given:
            kind = sparse.values.data_type
            copy.graph.input.append(onnx.helper.make_tensor_value_info(sparse.values.name, kind, list(sparse.dims)))
    return copy, names


def retype(values: list[ir.Value], types: dict[str, onnx.TypeProto]) -> None:
    """Give values the types that inference found, and the tensors of constants."""
    for value in values:
        if value.name in types and types[value.name].HasField("tensor_type"):
            found = ir.serde.deserialize_type_proto_for_type(types[value.name])
            shape = ir.serde.deserialize_type_proto_for_shape(types[value.name])
            value.type = found if found is not None else value.type
            value.shape = shape if shape is not None else value.shape
        elif value.name in types and not _of_maps(types[value.name]):  # a sequence: the shape is that of its tensors
            value.type = ir.serde.deserialize_type_proto_for_type(types[value.name])
            value.shape = ir.serde.deserialize_type_proto_for_shape(types[value.name])
        node = value.producer()
        if node is not None and (tensor := constant_of(node)) is not None:
            value.const_value = tensor
    for value in values:
        if value.is_graph_output() and sizes.belied(value):
            value.shape = None


def values_of(graph: ir.Graph) -> list[ir.Value]:
    """Return every named value of a graph, in its order."""
    found = [*graph.inputs, *graph.initializers.values()]
    return found + [y for node in graph for y in node.outputs if y.name]


def _of_maps(kind: onnx.TypeProto) -> bool:
    match kind.WhichOneof("value"):
        case "map_type":
            return True
        case "sequence_type":
            return _of_maps(kind.sequence_type.elem_type)
        case "optional_type":
            return _of_maps(kind.optional_type.elem_type)
    return False
