"""Protobuf wire format, as much of it as a ModelProto needs: what a model file says, without parsing its weights.

`explain` on a converted file must not import onnx, and the checks of untrusted files must not trust the
reader that they protect. So the fields are walked here on a memoryview: no copies, no recursion (nested
subgraphs are a stack), no allocation that a declared size could inflate. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from cam_onnx.errors import InvalidModel, shown

__all__ = [
    "LONGEST", "Field", "Malformed", "Piece", "changed", "fields", "message", "metadata", "nodes", "tensors",
    "top_level", "written",
]  # fmt: skip

Piece = bytes | memoryview

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST = (1 << 31) - 1  # bytes of one message

# Fields of ModelProto.
IR_VERSION, GRAPH, OPSET_IMPORT, METADATA_PROPS = 1, 7, 8, 14


class Malformed(ValueError):
    """Not protobuf, or cut off. `missing` is the number of bytes that a field promised beyond the end."""

    def __init__(self, message: str, missing: int = 0) -> None:
        super().__init__(message)
        self.missing = missing


class Field(NamedTuple):
    """One field of a message: `number` is set with VARINT, `view` with the other wire types."""

    tag: int
    wire: int
    number: int
    view: memoryview


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(view):
            raise Malformed("a number is cut off", 1)
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift >= 70:
            raise Malformed("a number is longer than ten bytes")


def fields(view: memoryview) -> Iterator[Field]:
    """Yield the fields of one message, which must end exactly where its last field ends.

    Raises
    ------
    Malformed
        A ValueError; after the fields before the fault have been yielded.
    """
    at, end, empty = 0, len(view), view[:0]
    while at < end:
        key, at = _varint(view, at)
        tag, wire = key >> 3, key & 7
        if not 0 < tag < 1 << 29:
            raise Malformed(f"field number {tag} at byte {at}")
        if wire == VARINT:
            number, at = _varint(view, at)
            yield Field(tag, wire, number, empty)
            continue
        if wire == BYTES:
            size, at = _varint(view, at)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:  # groups: obsolete before ONNX began
            raise Malformed(f"wire type {wire} at byte {at}")
        if size > end - at:
            raise Malformed(f"field {tag} is cut off", size - (end - at))
        yield Field(tag, wire, 0, view[at : at + size])
        at += size


def written(field: Field) -> list[Piece]:
    """Return a field's bytes, in pieces that hold no copy of it."""
    if field.wire == BYTES:
        return message(field.tag, [field.view])
    return [_number(field.tag << 3 | field.wire), _number(field.number) if field.wire == VARINT else field.view]


def message(tag: int, content: Sequence[Piece]) -> list[Piece]:
    """Return a field of bytes, or of a message, that holds `content`."""
    return [_number(tag << 3 | BYTES), _number(sum(map(len, content))), *content]


def changed(view: memoryview, change: Callable[[Field], list[Piece] | None]) -> list[Piece]:
    """Return a message in which some fields are others: `change` returns what stands for one, or None to keep it."""
    return [piece for field in fields(view) for piece in _either(change(field), field)]


def _either(other: list[Piece] | None, field: Field) -> list[Piece]:
    return written(field) if other is None else other


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def top_level(data: bytes, where: object = "the model") -> list[Field]:
    """Return the fields of a ModelProto, of which every one is whole; nothing inside the graph is looked at.

    Raises
    ------
    InvalidModel
        Not a ModelProto: the message names what it looks like, where that is recognisable.
    """
    found: list[Field] = []
    fault: Malformed | None = None
    try:
        found.extend(fields(memoryview(data)))
    except Malformed as error:
        fault = error
    if fault is None:
        graphs = [f for f in found if f.tag == GRAPH and f.wire == BYTES]
        version = next((f.number for f in reversed(found) if f.tag == IR_VERSION and f.wire == VARINT), 0)
        imports = any(f.tag == OPSET_IMPORT and f.wire == BYTES for f in found)
        if version and len(graphs) == 1 and (imports or version < 3):
            return found
        if version and len(graphs) > 1:
            raise InvalidModel(f"{shown(where)}: the model has {len(graphs)} graphs; export it again")
        if version and graphs:
            raise InvalidModel(f"{shown(where)}: no opset import; the file was cut off, or export it again")
    raise InvalidModel(f"{shown(where)}: {looks_like(data, fault)}")


def metadata(data: bytes, where: object = "the model") -> dict[str, str]:
    """Return `metadata_props` of a serialized ModelProto, without touching its weights.

    Raises
    ------
    InvalidModel
        `data` is not a ModelProto.
    """
    found = {}
    try:
        for field in top_level(data, where):
            if field.tag == METADATA_PROPS and field.wire == BYTES:
                key, value = entry(field.view)
                found[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    except Malformed as error:
        raise InvalidModel(f"{shown(where)}: its metadata is damaged ({error}); get the file again") from None
    return found


def entry(view: memoryview) -> tuple[bytes, bytes]:
    """Return key and value of a StringStringEntryProto."""
    pair = {1: b"", 2: b""}
    for field in fields(view):
        if field.tag in pair and field.wire == BYTES:
            pair[field.tag] = bytes(field.view)
    return pair[1], pair[2]


# message -> field number -> (message inside it, whether it is repeated). Only ways that lead to tensors.
TENSOR_WAYS: dict[str, dict[int, tuple[str, bool]]] = {
    "model": {7: ("graph", False), 20: ("training", True), 25: ("function", True)},
    "training": {1: ("graph", False), 2: ("graph", False)},
    "function": {7: ("node", True), 11: ("attribute", True)},
    "graph": {1: ("node", True), 5: ("tensor", True), 15: ("sparse", True)},
    "node": {5: ("attribute", True)},
    "attribute": {
        5: ("tensor", False),
        6: ("graph", False),
        10: ("tensor", True),
        11: ("graph", True),
        22: ("sparse", False),
        23: ("sparse", True),
    },
    "sparse": {1: ("tensor", False), 2: ("tensor", False)},
}


def tensors(data: bytes) -> Iterator[memoryview]:
    """Yield every TensorProto of a model in file order: initializers, attributes, subgraphs, functions.

    Raises
    ------
    Malformed
        Also where a field that can be there once is there twice: parsers would merge the two into one message
        that no part of the file shows.
    """
    return _each(data, "tensor")


def nodes(data: bytes) -> Iterator[memoryview]:
    """Yield every NodeProto of a model, a node before those of its subgraphs (Malformed as for `tensors`)."""
    return _each(data, "node")


def _each(data: bytes, wanted: str) -> Iterator[memoryview]:
    stack = [("model", fields(memoryview(data)), set[int]())]
    while stack:
        kind, rest, seen = stack[-1]
        for field in rest:
            if field.wire != BYTES or field.tag not in TENSOR_WAYS[kind]:
                continue
            child, repeated = TENSOR_WAYS[kind][field.tag]
            if not repeated and field.tag in seen:
                raise Malformed(f"{kind} has field {field.tag} twice")
            seen.add(field.tag)
            if child == wanted:
                yield field.view
            if child != "tensor":
                stack.append((child, fields(field.view), set()))
                break
        else:
            stack.pop()


AGAIN = "get the file again"
EXPORT = "export it to ONNX"

# (how the file starts, at which byte, what it is and what to do)
SIGNATURES = (
    (b"version https://git-lfs", 0, "a Git LFS pointer, not the file itself: run git lfs pull"),
    (b"ORTM", 4, "a model in ONNX Runtime's own format (.ort): use the .onnx file that it was made from"),
    (b"TFL3", 4, f"a TensorFlow Lite model (.tflite), not ONNX: {EXPORT} (tf2onnx)"),
    (b"\x89HDF\r\n\x1a\n", 0, f"an HDF5 file (.h5, Keras weights), not ONNX: {EXPORT} (tf2onnx)"),
    (b"\x80\x02\x8a\x0a", 0, f"a PyTorch file (.pt, .pth), not ONNX: {EXPORT} (torch.onnx.export)"),
    (b"\x80", 0, f"a Python pickle, not ONNX: {EXPORT}"),
    (b"GGUF", 0, "a GGUF file, not ONNX"),
    (b"\x93NUMPY", 0, "a NumPy array (.npy), not a model"),
    (b"\x89PNG", 0, "a PNG picture, not a model"),
    (b"\xff\xd8\xff", 0, "a JPEG picture, not a model"),
    (b"\x1f\x8b", 0, "a gzip archive: unpack it first"),
    (b"7z\xbc\xaf", 0, "a 7z archive: unpack it first"),
)


def looks_like(data: bytes, fault: Malformed | None = None) -> str:
    """Return one line on what a file is that is no ModelProto, and what to do about it."""
    if not data:
        return f"the file is empty; {AGAIN}"
    for start, at, what in SIGNATURES:
        if data.startswith(start, at):
            return what
    if data.startswith(b"PK"):
        return _archive(data)
    if data[8:10] == b'{"' and int.from_bytes(data[:8], "little") < 1 << 27:
        return "a safetensors file, weights without a graph: export the model to ONNX"
    start_of_text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start_of_text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head", b"<!--")):
        return f"an HTML or XML page, not a model: the download went wrong; {AGAIN}"
    # An intact model begins with its IR version; what does so and promises more than there is was cut off.
    if data[0] == IR_VERSION << 3 and fault is not None and fault.missing:
        return f"the model is cut off (after {len(data):,} bytes at least {fault.missing:,} more are missing); {AGAIN}"
    if _is_text(data[:1024]):
        return "a text file, not a model; give a .onnx file"
    if fault is None:
        return "a protobuf file, but not an ONNX model (no IR version or no graph); give a .onnx file"
    return f"not an ONNX model ({fault}); give a .onnx file"


def _archive(data: bytes) -> str:
    if b"data.pkl" in data[:4096] or b"/version" in data[:4096]:
        return f"a PyTorch file (.pt, .pth), not ONNX: {EXPORT} (torch.onnx.export)"
    if b"model.weights.h5" in data[-65536:] or b"model.weights.h5" in data[:65536]:
        return f"a Keras file (.keras), not ONNX: {EXPORT} (model.export or tf2onnx)"
    return "a zip archive (.zip, .pt, .keras, .npz), not ONNX: unpack it, or export the model to ONNX"


def _is_text(start: bytes) -> bool:
    text = start.decode("utf-8", "ignore")  # the cut may go through a character
    return len(text.encode()) >= len(start) - 3 and all(c.isprintable() or c in "\r\n\t\f" for c in text)
