"""What a picture file says about itself, read before any decoder allocates.

A decoder asked to open a 1 MB file may take gigabytes; the size stands in the first bytes. Formats that are
not read here are not decoded either. PNG's checksums are verified, since libpng would complain on stderr.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from cam_onnx.errors import InputError

__all__ = ["Header", "looks_like", "read_header"]


@dataclass(frozen=True)
class Header:
    """`orientation` is EXIF's: 1 upright, 2 to 8 turned or mirrored. `bits` is per channel."""

    format: str
    width: int
    height: int
    bits: int = 8
    alpha: bool = False
    animated: bool = False
    channels: int = 3
    orientation: int = 1


def read_header(data: bytes) -> Header:
    """Read a PNG, JPEG, GIF, BMP, WebP or TIFF header.

    Raises
    ------
    InputError
        Another format, or a header that is cut off or broken: the text is to stand behind a file's name.
    """
    name = looks_like(data)
    reader = _READERS.get(name)
    if reader is None:
        what = "is empty" if not data else f"is not a picture that can be read: it looks like {name}"
        raise InputError(f"{what}; expected PNG, JPEG, GIF, BMP, WebP or TIFF")
    try:
        header = reader(data)
    except (struct.error, IndexError, KeyError, ValueError, OverflowError):
        raise InputError(f"is a broken {name} picture: it is cut off or damaged; get it again") from None
    if not (0 < header.width < 2**31 - 1 and 0 < header.height < 2**31 - 1):
        size = f"{header.width} x {header.height} pixels"
        raise InputError(f"is a broken {name} picture: its header says {size}; get it again")
    return header


def looks_like(data: bytes) -> str:
    """Name the format of some bytes as a person would, from their first few."""
    for start, name in _MAGIC:
        if data.startswith(start):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        return "HEIC or AVIF" if data[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis") else "video (MP4)"
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<svg", b"<?xml")) and b"<svg" in data[:4096].lower():
        return "SVG"
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if head and all(byte >= 32 or byte in b"\t\r\n\x0c" for byte in head):
        return "text"
    return "binary data"


def _png(data: bytes) -> Header:
    at, width, height, bits, alpha, animated, channels, orientation = 8, 0, 0, 8, False, False, 3, 1
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        body = memoryview(data)[at + 8 : at + 8 + length]
        (crc,) = struct.unpack_from(">I", data, at + 8 + length)  # past the end: cut off
        if zlib.crc32(body, zlib.crc32(kind)) != crc:
            raise ValueError("bad checksum")
        if at == 8:
            if kind != b"IHDR":
                raise ValueError("no IHDR")
            width, height, bits, colour = struct.unpack_from(">IIBB", body)
            alpha, channels = colour in (4, 6), 1 if colour in (0, 4) else 3
        alpha |= kind == b"tRNS"
        animated |= kind == b"acTL"
        if kind == b"eXIf":
            orientation = _orientation(bytes(body))
        if kind == b"IEND":
            return Header("PNG", width, height, bits, alpha, animated, channels, orientation)
        at += 12 + length


def _jpeg(data: bytes) -> Header:
    at, orientation = 2, 1
    while True:
        while data[at] != 0xFF:  # libjpeg skips stray bytes, too
            at += 1
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 2)
            return Header("JPEG", width, height, bits, channels=channels, orientation=orientation)
        if marker == 0xE1 and data[at + 2 : at + 8] == b"Exif\0\0":
            orientation = _orientation(data[at + 8 : at + length])
        if marker in (0xD9, 0xDA) or length < 2:
            raise ValueError("no frame header")
        at += length


def _gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, frames, alpha = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0), 0, False
    while at < len(data) and frames < 2:
        if data[at] == 0x2C:
            frames += 1
            local = data[at + 9]
            at += 11 + (3 << (local & 7) + 1 if local & 0x80 else 0)
        elif data[at] == 0x21:
            alpha |= data[at + 1] == 0xF9 and bool(data[at + 3] & 1)
            at += 2
        else:
            break
        while data[at]:  # sub-blocks; past the end: cut off
            at += data[at] + 1
        at += 1
    return Header("GIF", width, height, alpha=alpha, animated=frames > 1)


def _bmp(data: bytes) -> Header:
    (kind,) = struct.unpack_from("<I", data, 14)
    if kind == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return Header("BMP", width, abs(height))  # a fourth byte a pixel is padding as often as alpha: dropped


def _webp(data: bytes) -> Header:
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data):
        raise ValueError("cut off")
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return Header("WebP", (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, alpha=bool(packed >> 28 & 1))
    if kind != b"VP8X":
        raise ValueError("unknown chunk")
    flags = data[20]
    width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    orientation, at = 1, 12
    while flags & 0x08 and at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        if name == b"EXIF":
            orientation = _orientation(data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"))
        at += 8 + length + length % 2
    return Header("WebP", width, height, alpha=bool(flags & 0x10), animated=bool(flags & 2), orientation=orientation)


def _tiff(data: bytes) -> Header:
    tags = _tags(data)
    # TIFF's own orientation is applied by its decoder
    return Header(
        "TIFF", tags[256], tags[257], tags.get(258, 1), 338 in tags and tags[338] in (1, 2), channels=tags.get(277, 1)
    )


def _orientation(exif: bytes) -> int:
    try:
        found = _tags(exif).get(274, 1)
    except (struct.error, KeyError, IndexError, ValueError):
        return 1  # damaged metadata does not make the picture unreadable
    return found if 1 <= found <= 8 else 1


def _tags(data: bytes) -> dict[int, int]:
    """Return the first value of every integer tag in the first directory of TIFF or EXIF data."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("no byte order")
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    at, step, inline = (at + 8, 20, 8) if big else (at + 2, 12, 4)
    tags: dict[int, int] = {}
    for entry in range(at, at + step * min(count, 1000), step):
        tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, entry)
        code = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
        if code is None or number == 0:
            continue
        where = entry + step - inline
        if number * struct.calcsize(code) > inline:
            (where,) = struct.unpack_from(order + ("Q" if big else "I"), data, where)
        tags[tag] = struct.unpack_from(order + code, data, where)[0]
    return tags


_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"%PDF", "PDF"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"PK\x03\x04", "a ZIP archive (.npz, .zip)"),
    (b"version https://git-lfs", "a Git LFS pointer: run git lfs pull"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\1\0", "ICO"),
    (b"8BPS", "Photoshop"),
)

_READERS = {"PNG": _png, "JPEG": _jpeg, "GIF": _gif, "BMP": _bmp, "WebP": _webp, "TIFF": _tiff}
