"""External data: the tensors of a model that live in files beside it, and which of these files it may read.

A model names such a file by a relative path, and models come from strangers. Readers differ: some follow
`..`, links and hard links out of the model's folder, some take wrong offsets and lengths as they are, and
some check nothing at all when the model was given by a bare file name. So every entry is checked here,
before any reader sees the model, and the data file is found from the absolute path. Standard library only.
"""

from __future__ import annotations

import ntpath
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cam_onnx.errors import InvalidModel, shown
from cam_onnx.wire import BYTES, VARINT, Malformed, entry, fields, tensors, top_level

__all__ = ["BITS", "RANK", "External", "check_external", "external", "packed"]

KEYS = ("location", "offset", "length", "checksum")
HUGE = 1 << 62
RANK = 64  # more is no tensor, and the product of a million dimensions takes for ever

# TensorProto.DataType -> bits an element; strings (8) have no fixed size, so they cannot be external.
BITS = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((7, 11, 13, 14), 64),
    15: 128,
    **dict.fromkeys((21, 22, 23), 4),
    **dict.fromkeys((25, 26), 2),
    **dict.fromkeys((27, 28), 6),
}


@dataclass(frozen=True)
class External:
    """One tensor whose data is in another file.

    `dtype` is the number of TensorProto.DataType; `length` is None when the model gives none. `check_external`
    fills `length` and `file`, the data file's absolute path.
    """

    name: str
    location: str
    dtype: int
    dims: tuple[int, ...]
    offset: int = 0
    length: int | None = None
    file: str = ""

    @property
    def nbytes(self) -> int:
        """What type and shape need, in bytes; elements below a byte are packed."""
        count = 1
        for dim in self.dims:
            count *= dim
        return (count * BITS[self.dtype] + 7) // 8


def external(data: bytes, where: object = "the model") -> list[External]:
    """Return every external tensor of a serialized model: initializers, attributes, subgraphs, functions.

    Raises
    ------
    InvalidModel
        Not a model; or an entry that is malformed by itself (unknown key, text where a number belongs,
        negative dimension). Files are not looked at.
    """
    top_level(data, where)
    if b"location" not in data:  # the key of every entry: most models end here, however many nodes they have
        return []
    try:
        return [found for view in tensors(data) for found in _entry(view, where)]
    except Malformed as error:
        raise InvalidModel(f"{shown(where)}: not a well-formed ONNX model ({error}); export it again") from None


def check_external(
    data: bytes, path: str | bytes | os.PathLike[str] | None, *, allow_hard_links: bool = False
) -> list[External]:
    """Return every external tensor with its data file, after checking that each may be read and is whole.

    Parameters
    ----------
    data : bytes
        The serialized model.
    path : path of the model file, or None
        Where `data` came from. Data files must lie in its folder, or in the folder of the file that it is a
        symbolic link to (caches store models so).
    allow_hard_links : bool
        A data file with a second name elsewhere may be any file of the machine: refused unless allowed.

    Raises
    ------
    InvalidModel
        Names the tensor, the reason and what to do.
    """
    where: object = "the model" if path is None else path
    entries = external(data, where)
    if not entries:
        return []
    if path is None:
        raise InvalidModel(
            f"tensor {shown(entries[0].name)!r} has its data in the file {shown(entries[0].location)!r}, and bytes "
            "alone do not say where that is: give the model's path"
        )
    absolute = os.path.abspath(os.fsdecode(path))
    folder = os.path.dirname(absolute)
    allowed = {os.path.realpath(folder), os.path.dirname(os.path.realpath(absolute))}
    return [_checked(found, where, folder, allowed, allow_hard_links) for found in entries]


def _checked(found: External, where: object, folder: str, allowed: set[str], allow_hard_links: bool) -> External:
    def refuse(why: str) -> InvalidModel:
        return _refusal(where, found.name, f"its data file {shown(found.location)!r} {why}")

    location = found.location
    # Both separators everywhere: a file is safe on all systems or on none.
    names = location.replace("\\", "/").split("/")
    if not location or any(c < " " or "\x7f" <= c <= "\x9f" for c in location):
        raise refuse("has no usable name; export the model again")
    if "_ORT_MEM_ADDR_" in location:
        raise refuse("is an address in memory; save the model with its data")
    if location.startswith(("/", "\\")) or ntpath.splitdrive(location)[0]:
        raise refuse("is an absolute path; put the file beside the model and export it again")
    if ".." in names:
        raise refuse("leads out of the model's folder; put the file beside the model and export it again")
    file = os.path.join(folder, location)
    try:
        real = os.path.realpath(file)
        if not any(os.path.commonpath((real, root)) == root for root in allowed):
            raise refuse("is a link out of the model's folder; put the file itself beside the model")
        status = os.stat(real)
    except FileNotFoundError:
        raise refuse(f"is missing; put it into {shown(folder)}") from None
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(status.st_mode):
        raise refuse("is not a regular file; put the data file there")
    if status.st_nlink > 1 and not allow_hard_links:
        raise refuse("is a hard link, which may be any file of this machine; put a copy of it there")
    if not os.access(real, os.R_OK):
        raise refuse("cannot be read (permission denied); ask its owner")
    need = found.nbytes
    length = need if found.length is None else found.length
    if length != need:
        raise refuse(f"is said to hold {length} bytes of it, but its shape needs {need}; export the model again")
    if found.offset + length > status.st_size:
        raise refuse(f"ends at {status.st_size}, before byte {found.offset + length}; get the file again")
    return replace(found, length=length, file=file)


def _entry(view: memoryview, where: object) -> Iterator[External]:
    """Yield the tensor if any part of it says external: readers differ in which part they believe."""
    name, dtype, location_kind = "", 0, 0
    dims: list[int] = []
    entries: list[tuple[bytes, bytes]] = []
    for field in fields(view):
        if field.tag == 1 and field.wire == VARINT:
            dims.append(field.number)
        elif field.tag == 1 and field.wire == BYTES:
            dims.extend(packed(field.view))
        elif field.tag == 2 and field.wire == VARINT:
            dtype = field.number & 0xFFFF_FFFF  # enums are 32 bits wide to protobuf
        elif field.tag == 8 and field.wire == BYTES:
            name = bytes(field.view[:4096]).decode("utf-8", "replace")
        elif field.tag == 13 and field.wire == BYTES:
            entries.append(entry(field.view))
        elif field.tag == 14 and field.wire == VARINT:
            location_kind = field.number & 0xFFFF_FFFF
    if not entries and location_kind != 1:
        return
    if len(dims) > RANK:
        raise Malformed(f"a tensor has more than {RANK} dimensions")
    if dtype not in BITS:
        raise _refusal(where, name, f"external data of element type {dtype} has no fixed size")
    signed = tuple(dim - (1 << 64) if dim >> 63 else dim for dim in dims)
    if any(dim < 0 for dim in signed):
        raise _refusal(where, name, f"its shape {list(signed)} has a negative dimension; export the model again")
    values: dict[str, str] = {}
    for raw, value in entries:
        try:
            key, text = raw.decode(), value.decode()
        except UnicodeDecodeError:
            raise _refusal(where, name, "an external data entry is not UTF-8; export the model again") from None
        if key not in KEYS or key in values:
            why = "twice" if key in values else f"(known: {', '.join(KEYS)})"
            raise _refusal(where, name, f"external data entry {shown(key)!r} {why}; export the model again")
        values[key] = text
    if "location" not in values:
        raise _refusal(where, name, "its data is external, but no location says where; export the model again")
    length = _number(values["length"], "length", where, name) if "length" in values else None
    offset = _number(values.get("offset", "0"), "offset", where, name)
    yield External(name, values["location"], dtype, signed, offset, length)


def packed(view: memoryview) -> Iterator[int]:
    """Yield the dimensions in a packed field, of which there may be no more than `RANK` (Malformed)."""
    if len(view) > 10 * RANK:
        raise Malformed(f"a tensor has more than {RANK} dimensions")
    value = shift = 0
    for byte in view:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value & 0xFFFF_FFFF_FFFF_FFFF
            value = shift = 0
    if shift:
        raise Malformed("a dimension is cut off")


def _number(text: str, key: str, where: object, name: str) -> int:
    # ASCII digits only: int() would take "-1", " 1", "1_0" and other scripts' digits.
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > HUGE:
        why = f"its external {key} is {shown(text)!r}, expected a number of bytes; export the model again"
        raise _refusal(where, name, why)
    return int(text)


def _refusal(where: object, name: str, why: str) -> InvalidModel:
    return InvalidModel(f"{shown(where)}: tensor {shown(name)!r}: {why}")
