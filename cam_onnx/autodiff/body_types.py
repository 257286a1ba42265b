"""Types of what enters and leaves the body of a node, as far as the node tells them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir

__all__ = [
    "SAME",
    "entering",
    "origin",
    "put_behind",
    "ranked",
    "ranks",
    "tells",
    "type_of",
    "widened",
    "without_symbols",
]

INSERT = "SequenceInsert"
SAME = ("Identity", "Optional", "OptionalGetElement")  # operators that give the sequence that they read


def is_sequence(value: ir.Value) -> bool:
    return isinstance(value.type, ir.SequenceType)


def origin(sequence: ir.Value) -> ir.Value:
    """Return a sequence under its first name."""
    while (maker := sequence.producer()) is not None and maker.op_type in SAME and maker.inputs[0] is not None:
        sequence = maker.inputs[0]
    return sequence


def put_behind(before: ir.Value, after: ir.Value) -> ir.Value | None:
    """Return the one tensor that stands in `after` behind what is in the sequence `before`; None if it is otherwise."""
    insert = origin(after).producer()
    if insert is None or insert.op_type != INSERT or len(insert.inputs) > 2 or insert.inputs[0] is None:
        return None
    return insert.inputs[1] if origin(insert.inputs[0]) is before else None


def type_of(value: ir.Value, without: int | None = None) -> onnx.TypeProto:
    proto = ir.serde.serialize_value(value).type
    if without is not None and ranked(proto):
        dims = proto.tensor_type.shape.dim
        del dims[without % len(dims)]
    return proto


def ranked(type_: onnx.TypeProto) -> bool:
    return bool(type_.HasField("tensor_type") and type_.tensor_type.HasField("shape"))


def without_symbols(type_: onnx.TypeProto) -> onnx.TypeProto:
    """Return a declared type without the names of its sizes: a body's "N" need not be the "N" outside."""
    copy = onnx.TypeProto()
    copy.CopyFrom(type_)
    for dim in copy.tensor_type.shape.dim if ranked(copy) else ():
        if dim.dim_param:
            dim.Clear()
    return copy


def entering(node: ir.Node, count: int) -> list[onnx.TypeProto | None]:
    """Return the types of a body's inputs as the node tells them."""
    given: list[onnx.TypeProto | None] = [None] * count
    if node.op_type == "Loop":
        kinds = (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
        given[:2] = [onnx.helper.make_tensor_type_proto(kind, []) for kind in kinds][:count]
        for i, x in enumerate(node.inputs[2:count], start=2):
            given[i] = None if x is None else type_of(x)
    elif node.op_type == "Scan":
        sequences = node.attributes["num_scan_inputs"].as_int()
        first = len(node.inputs) - sequences
        axes = node.attributes.get("scan_input_axes")
        along = [0] * sequences if axes is None else list(axes.as_ints())
        for i, x in enumerate(node.inputs[:count]):
            if x is not None:
                given[i] = type_of(x) if i < first else type_of(x, without=along[i - first])
    return given


def widened(infos: Sequence[onnx.ValueInfoProto], inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> bool:
    """Forget the sizes of a Loop's states that an iteration changes; return whether there were any."""
    changed = False
    for info, before, after in zip(infos, inputs, outputs, strict=False):
        if before.shape is None or is_sequence(before):
            continue
        if after.shape is None or len(after.shape) != len(before.shape):
            info.type.tensor_type.ClearField("shape")
            changed = True
            continue
        for dim, old, new in zip(info.type.tensor_type.shape.dim, before.shape, after.shape, strict=True):
            if old != new and (isinstance(old, int) or old.value is not None):
                dim.Clear()
                changed = True
    return changed


def ranks(node: ir.Node) -> dict[str, onnx.TypeProto]:
    """Return the types of what has its input's rank, where inference leaves it open: sizes or axes are computed."""
    keeps = node.attributes.get("keepdims")
    reduces = node.op_type.startswith("Reduce") and (keeps is None or bool(keeps.as_int()))
    x = node.inputs[0] if node.inputs else None
    if not (reduces or node.op_type == "Split") or x is None or x.shape is None or x.dtype is None:
        return {}
    type_ = onnx.helper.make_tensor_type_proto(int(x.dtype), [None] * len(x.shape))
    return {y.name: type_ for y in node.outputs if y.name and y.shape is None}


def tells(outer: ir.Shape | None, inner: ir.Shape | None) -> bool:
    """Whether the outer shape says as much as the inner one."""
    if inner is None:
        return True
    if outer is None or len(outer) != len(inner):
        return False
    return all(a == b or (not isinstance(b, int) and b.value is None) for a, b in zip(outer, inner, strict=True))
