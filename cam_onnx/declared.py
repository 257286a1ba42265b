"""What a model's tensors declare against what they hold, and operators that reach out of the file.

Readers believe a shape and allocate for it, or read another one out of the data: dims of 2^40 ask for terabytes, and
a negative one comes back as a shape. So sizes are compared on the file's bytes, without unpacking a tensor. And two
operators of ONNX Runtime load a compiled program or run Python: no file may ask for these. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator

from cam_onnx.errors import InvalidModel, UnsupportedOperators, shown
from cam_onnx.external import BITS, RANK, packed
from cam_onnx.wire import BYTES, FIXED32, FIXED64, VARINT, Malformed, fields, nodes, tensors, top_level

__all__ = ["check_operators", "check_tensors"]

AGAIN = "export the model again"
STRING = 8  # of TensorProto.DataType
# Fields of TensorProto: packed numbers of fixed size (bytes each), and those of varying size.
FIXED = {4: 4, 10: 8}
VARYING = (5, 7, 11)
RAW, STRINGS = 9, 6
CONTINUED = bytes(range(0x80, 0x100))
COMPLEX = (14, 15)  # of TensorProto.DataType: two numbers an element

OUTSIDE = {
    b"EPContext": "loads a program that was compiled for one device",
    b"PyOp": "runs Python code",
}


def check_tensors(data: bytes, where: object = "the model") -> None:
    """Refuse (InvalidModel) a tensor whose shape, type and data do not belong together; nothing is allocated for it.

    External data is `check_external`'s.
    """
    top_level(data, where)
    try:
        for view in tensors(data):
            name, why = _fault(view)
            if why:
                raise InvalidModel(f"{shown(where)}: tensor {shown(name)!r} {why}; {AGAIN}")
    except Malformed as error:
        raise InvalidModel(f"{shown(where)}: not a well-formed ONNX model ({error}); {AGAIN}") from None


def check_operators(data: bytes, where: object = "the model") -> None:
    """Refuse (UnsupportedOperators) operators that load or run what is not in the file."""
    if not any(name in data for name in OUTSIDE):  # nearly every model: no walk over its nodes
        return
    found: dict[str, list[str]] = {}
    reasons = []
    try:
        for view in nodes(data):
            named = {1: b"", 3: b"", 4: b"", 7: b""}
            for field in fields(view):
                if field.tag in named and field.wire == BYTES:
                    named[field.tag] = bytes(field.view[:4096])
            if named[4] in OUTSIDE:
                domain, operator, node = (named[tag].decode("utf-8", "replace") for tag in (7, 4, 3))
                found.setdefault(f"{domain}::{operator}" if domain else operator, []).append(node)
                reasons.append(OUTSIDE[named[4]])
    except Malformed as error:
        raise InvalidModel(f"{shown(where)}: not a well-formed ONNX model ({error}); {AGAIN}") from None
    if found:
        listed = ", ".join(f"{shown(name)} ({len(at)} node{'s'[: len(at) > 1]})" for name, at in found.items())
        raise UnsupportedOperators(
            f"{shown(where)}: {listed} {' and '.join(dict.fromkeys(reasons))}, which a model file must not; "
            "export the model without it",
            found,
        )


def _fault(view: memoryview) -> tuple[str, str]:
    """Return a tensor's name, and what is wrong with it or ""."""
    dims: list[int] = []
    name, dtype, raw, numbers, external = "", 0, None, 0, False
    for field in fields(view):
        tag, wire = field.tag, field.wire
        if tag == 1 and wire in (VARINT, BYTES):
            dims += [field.number] if wire == VARINT else packed(field.view)
        elif tag == 2 and wire == VARINT:
            dtype = field.number & 0xFFFF_FFFF
        elif tag == 8 and wire == BYTES:
            name = bytes(field.view[:4096]).decode("utf-8", "replace")
        elif tag == RAW and wire == BYTES:
            raw = len(field.view)
        elif tag == STRINGS and wire == BYTES:
            numbers += 1
        elif tag in FIXED:
            numbers += len(field.view) // FIXED[tag] if wire == BYTES else wire in (FIXED32, FIXED64)
        elif tag in VARYING:
            numbers += sum(_ends(field.view)) if wire == BYTES else wire == VARINT
        elif tag == 13 or (tag == 14 and wire == VARINT and field.number & 0xFFFF_FFFF == 1):
            external = True
    signed = [dim - (1 << 64) if dim >> 63 else dim for dim in dims]
    if any(dim < 0 for dim in signed):
        return name, f"has the shape {signed}, with a negative dimension"
    if len(signed) > RANK:
        return name, f"has {len(signed)} dimensions"
    if external or (dtype != STRING and dtype not in BITS):
        return name, "" if external or not (dims or raw) else f"has the unknown element type {dtype}"
    count = 1
    for dim in signed:
        count *= dim
    if raw is not None and dtype != STRING:
        need = (count * BITS[dtype] + 7) // 8
        return name, "" if raw == need else f"of shape {signed} needs {need:,} bytes and has {raw:,}"
    if dtype != STRING and BITS[dtype] in (2, 4):  # a number holds a byte of them
        need = (count * BITS[dtype] + 7) // 8
    else:
        need = 2 * count if dtype in COMPLEX else count
    return name, "" if numbers == need else f"of shape {signed} needs {need:,} numbers and has {numbers:,}"


def _ends(packed: memoryview) -> Iterator[int]:
    """Yield how many numbers end in each piece: bytes below 0x80 do. In pieces, so that no copy is large."""
    for start in range(0, len(packed), 1 << 20):
        yield len(bytes(packed[start : start + (1 << 20)]).translate(None, CONTINUED))
