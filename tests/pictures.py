"""Picture files written by hand, byte by byte: what no encoder here makes."""

from __future__ import annotations

import struct
import zlib

__all__ = ["bomb", "chunk", "cmyk_jpeg", "exif", "gif", "png", "turned"]


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return one chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, colour: int = 2, bits: int = 8, raw: bytes = b"", extra: bytes = b"") -> bytes:
    """Return a PNG whose rows, each behind a filter byte, are `raw`."""
    return _png(width, height, colour, bits, zlib.compress(raw), extra)


def _png(width: int, height: int, colour: int, bits: int, data: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb(side: int = 20_000) -> bytes:
    """Return a whole RGB picture of `side` times `side` black pixels: of 20,000 it is 1.2 MB, and 1.2 GB unpacked."""
    count = side * (3 * side + 1)
    pack = zlib.compressobj()
    start = pack.compress(bytes(1 << 20)) + pack.flush(zlib.Z_FULL_FLUSH)
    again = pack.compress(bytes(1 << 20)) + pack.flush(zlib.Z_FULL_FLUSH)  # stands for itself, as often as one likes
    whole, rest = divmod(count, 1 << 20)
    end = pack.compress(bytes(rest)) + pack.flush()
    checksum = struct.pack(">I", count % 65521 << 16 | 1)  # Adler-32 of zeros
    return _png(side, side, 2, 8, start + again * (whole - 1) + end[:-4] + checksum)


def exif(orientation: int, order: str = ">") -> bytes:
    """Return EXIF data that says nothing but the orientation."""
    mark = {">": b"MM", "<": b"II"}[order]
    return mark + struct.pack(order + "HIHHHIHHI", 42, 8, 1, 274, 3, 1, orientation, 0, 0)


def turned(jpeg: bytes, orientation: int, order: str = ">") -> bytes:
    """Return a JPEG with an orientation in its EXIF data."""
    body = b"Exif\0\0" + exif(orientation, order)
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def cmyk_jpeg() -> bytes:
    """Return 8 x 8 pixels, each of the four channels 128: one block each, all coefficients zero."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    codes = bytes([1] + [0] * 15 + [0])  # one code of one bit: "zero", and in the other table "end of block"
    return (
        b"\xff\xd8"
        + segment(0xDB, b"\0" + bytes([1] * 64))
        + segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 4) + b"".join(bytes([i, 0x11, 0]) for i in (1, 2, 3, 4)))
        + segment(0xC4, b"\x00" + codes)
        + segment(0xC4, b"\x10" + codes)
        + segment(0xDA, b"\x04" + b"".join(bytes([i, 0]) for i in (1, 2, 3, 4)) + b"\0\x3f\0")
        + b"\0\xff\xd9"
    )


def gif(*frames: int) -> bytes:
    """Return a GIF of 1 x 1 pixel, a frame for each number: 0 and 3 black, 1 red, 2 blue."""
    table = bytes([0, 0, 0, 255, 0, 0, 0, 0, 255, 0, 0, 0])
    data = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x81, 0, 0) + table
    for value in frames:
        codes = 4 | value << 3 | 5 << 6  # LZW codes of 3 bits: clear (4), the pixel, end (5)
        data += b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02" + struct.pack("<H", codes) + b"\0"
    return data + b";"
