"""Large weights stay in the bytes that a model came in: the message that is worked on has only their types and shapes.

So a model is in memory once while it is converted, and a copy of the message costs what its nodes cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import onnx
import onnx_ir as ir

from cam_onnx import wire
from cam_onnx.errors import LimitExceeded
from cam_onnx.wire import BYTES, GRAPH, VARINT, Field, Piece

__all__ = ["Held", "filled", "lift", "pieces", "show"]

LARGE = 4096  # bytes; what is read at conversion is smaller
# Fields of GraphProto and TensorProto.
INITIALIZER = 5
DATA_TYPE, FLOATS, NAME, RAW, DOUBLES = 2, 4, 8, 9, 10
DATA = {FLOATS, 5, 6, 7, RAW, DOUBLES, 11}
TYPED = {FLOATS: onnx.TensorProto.FLOAT, DOUBLES: onnx.TensorProto.DOUBLE}  # complex numbers stand there too


class Held(NamedTuple):
    """The data of an initializer: what stands in one field of its message."""

    tag: int
    data: memoryview


def lift(data: bytes) -> tuple[bytes, dict[str, Held]]:
    """Return a serialized model without its large weights, and these by name. `data` lives as long as they do."""
    found: dict[str, Held] = {}

    def tensor(field: Field) -> list[Piece] | None:
        if field.tag != INITIALIZER or field.wire != BYTES:
            return None
        held = _held(field.view)
        if held is None:
            return None
        name, found[name] = held
        return wire.message(INITIALIZER, wire.changed(field.view, lambda inner: [] if inner.tag in DATA else None))

    def graph(field: Field) -> list[Piece] | None:
        if field.tag != GRAPH or field.wire != BYTES:
            return None
        return wire.message(GRAPH, wire.changed(field.view, tensor))

    light = b"".join(wire.changed(memoryview(data), graph))
    return light, found


def pieces(proto: onnx.ModelProto, weights: Mapping[str, Held]) -> list[Piece]:
    """Return a model's bytes in pieces, its weights among them: those that protobuf would write.

    Raises
    ------
    LimitExceeded
        They are too many for one file.
    """

    def tensor(field: Field) -> list[Piece] | None:
        if field.tag != INITIALIZER:
            return None
        inside = list(wire.fields(field.view))
        held = weights.get(next((str(f.view, "utf-8") for f in inside if f.tag == NAME), ""))
        if held is None or any(f.tag in DATA for f in inside):
            return None
        before = [piece for f in inside if f.tag < held.tag for piece in wire.written(f)]
        behind = [piece for f in inside if f.tag > held.tag for piece in wire.written(f)]
        return wire.message(INITIALIZER, [*before, *wire.message(held.tag, [held.data]), *behind])

    def graph(field: Field) -> list[Piece] | None:
        return wire.message(GRAPH, wire.changed(field.view, tensor)) if field.tag == GRAPH else None

    light = proto.SerializeToString(deterministic=True)
    found = wire.changed(memoryview(light), graph) if weights else [light]
    count = sum(map(len, found))
    if count > wire.LONGEST:
        raise LimitExceeded(
            f"the converted model has {count:,} bytes, and no ONNX file can be larger than {wire.LONGEST:,}: export "
            "the original with external data"
        )
    return found


def filled(proto: onnx.ModelProto, weights: Mapping[str, Held]) -> onnx.ModelProto:
    """Return a copy of a model with its weights."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        if tensor.name in weights:
            _fill(tensor, weights[tensor.name])
    return copy


def show(graph: ir.Graph, weights: Mapping[str, Held]) -> None:
    """Let a view's initializers have their weights, read anew each time: few are, and a copy would stay."""
    for name, held in weights.items():
        value = graph.initializers.get(name)
        if value is not None and value.const_value is not None:
            bare = value.const_value
            read = partial(_tensor, name, int(bare.dtype), list(bare.shape.numpy()), held)
            value.const_value = ir.LazyTensor(read, bare.dtype, bare.shape, name=name)  # type: ignore[arg-type]


def _tensor(name: str, dtype: int, dims: list[int], held: Held) -> ir.TensorProtocol:
    tensor = onnx.TensorProto(name=name, data_type=dtype, dims=dims)
    _fill(tensor, held)
    return ir.serde.deserialize_tensor(tensor)


def _fill(tensor: onnx.TensorProto, held: Held) -> None:
    if not any(field.number in DATA for field, _ in tensor.ListFields()):
        tensor.MergeFromString(b"".join(wire.message(held.tag, [held.data])))


def _held(view: memoryview) -> tuple[str, Held] | None:
    """Return name and data of a tensor that has one large field of numbers, as they lie in memory."""
    name, dtype, data = "", 0, []
    for field in wire.fields(view):
        if field.tag == NAME and field.wire == BYTES:
            name = str(field.view, "utf-8", "replace")
        elif field.tag == DATA_TYPE and field.wire == VARINT:
            dtype = field.number
        elif field.tag in DATA:
            data.append(field)
    if not name or len(data) != 1 or data[0].wire != BYTES or len(data[0].view) <= LARGE:
        return None
    [field] = data
    plain = dtype != onnx.TensorProto.STRING if field.tag == RAW else dtype == TYPED.get(field.tag)
    return (name, Held(field.tag, field.view)) if plain else None
