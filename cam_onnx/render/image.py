"""Picture files in and out: the only file that imports OpenCV, and only when something is called.

Bytes are read and written by `cam_onnx.files`: cv2.imread returns half of a truncated JPEG, hangs on a FIFO and
does not know every file name; cv2.imwrite reports success on a full disk. At the edge a picture is RGB u8 HWC.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx import files
from cam_onnx.errors import InputError, LimitExceeded, RunFailed, shown
from cam_onnx.limits import DEFAULTS, raise_it
from cam_onnx.render.header import Header, read_header

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "Picture",
    "as_picture",
    "describe",
    "encode",
    "grey",
    "load",
    "lut",
    "resize",
    "save",
]

MAX_PIXELS = DEFAULTS.max_pixels
"""Default limit on width * height of a picture file."""

MAX_BYTES = 1 << 30

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True, eq=False)
class Picture:
    """A loaded picture.

    Parameters
    ----------
    pixels : array (H, W, 3)
        RGB, uint8, upright.
    name : str
        As given, for messages: the path, "standard input", or "bytes".
    notes : tuple of str
        What was changed on the way: alpha, bit depth, orientation, frames.
    """

    pixels: NDArray[np.uint8]
    name: str
    notes: tuple[str, ...] = ()


def load(source: str | os.PathLike[str] | bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Load a PNG, JPEG, GIF, BMP, WebP or TIFF file.

    Parameters
    ----------
    source : path, "-" or bytes
        "-" is standard input; bytes are a file's content.
    max_pixels : int
        Limit on width * height, read from the header before anything is decoded.

    Returns
    -------
    Picture
        EXIF orientation is applied. Grey becomes RGB; transparent parts are laid over white, which is what a
        viewer shows (the colour below them is arbitrary); 16 bits become 8; of an animation the first frame.

    Raises
    ------
    InputError
        No such file, not a regular file, not a picture, cut off or damaged.
    LimitExceeded
        More than `max_pixels`.
    RunFailed
        OpenCV is not installed.
    """
    data, name = _bytes(source)
    where = shown(name)
    try:
        header = read_header(data)
    except InputError as error:
        raise InputError(f"{where} {error}") from None
    if header.width * header.height > max_pixels:
        raise LimitExceeded(
            f"{where} has {header.width} x {header.height} pixels, more than the limit of {max_pixels:,}: make it "
            f"smaller, or {raise_it('max_pixels')}"
        )
    cv2 = _cv2()
    flags = cv2.IMREAD_UNCHANGED if header.alpha else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise InputError(
            f"{where} is a {header.format} picture that is cut off, damaged, or of a kind that OpenCV cannot read"
        )
    pixels = _upright(_eight_bit_rgb(pixels), header.orientation)
    return Picture(np.ascontiguousarray(pixels), name, tuple(_notes(header)))


def as_picture(array: Any) -> NDArray[np.uint8]:
    """Return `array` as RGB u8 HWC, or say why it is none.

    Parameters
    ----------
    array : array (H, W, 3), (H, W), (H, W, 1) or (H, W, 4), uint8
        RGB, grey or RGBA; alpha is laid over white.

    Raises
    ------
    InputError
        Another shape or type, or no pixels.
    """
    if not hasattr(array, "__array__"):
        raise InputError(f"expected a picture as a uint8 array (height, width, 3), got {type(array).__name__}")
    pixels = np.asarray(array)
    if pixels.dtype != np.uint8:
        hint = ": multiply by 255 and round if it is in 0..1" if pixels.dtype.kind == "f" else ""
        raise InputError(f"expected a picture of uint8, 0 to 255, got {pixels.dtype}{hint}")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        channels_first = pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4)
        hint = ": channels stand first, use array.transpose(1, 2, 0)" if channels_first else ""
        raise InputError(f"expected a picture of shape (height, width, 3), got {pixels.shape}{hint}")
    if pixels.size == 0:
        raise InputError(f"expected a picture with pixels, got shape {pixels.shape}")
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    elif pixels.shape[2] == 4:
        pixels = _over_white(pixels)
    return np.ascontiguousarray(pixels)


def encode(picture: NDArray[np.uint8], suffix: str = ".png") -> bytes:
    """Return the bytes of a picture file; `suffix` is one of `SUFFIXES`, case does not matter.

    Raises
    ------
    InputError
        Unknown suffix, not a picture, or too large for the format.
    """
    if suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot write a picture as {suffix or 'a file without suffix'!r}: use {', '.join(SUFFIXES)}")
    cv2 = _cv2()
    bgr = as_picture(picture)[..., ::-1]
    try:
        done, encoded = cv2.imencode(suffix.lower(), np.ascontiguousarray(bgr))
    except cv2.error:
        done = False
    if not done:
        raise InputError(f"{bgr.shape[1]} x {bgr.shape[0]} pixels cannot be written as {suffix}: use .png")
    return bytes(encoded)


def save(path: str | os.PathLike[str], picture: NDArray[np.uint8]) -> None:
    """Encode in memory by the path's suffix, then write atomically (InputError, WriteFailed)."""
    files.write(path, encode(picture, Path(path).suffix))


def resize(picture: NDArray[np.uint8], size: tuple[int, int], interpolation: str = "bilinear") -> NDArray[np.uint8]:
    """Resize (H, W) or (H, W, C) to ``size = (height, width)``.

    As OpenCV does it: only "area" averages when a picture is made smaller (and only where both axes shrink); the
    others sample their neighbours, without antialiasing. "nearest" has half-pixel centres, as in Pillow.
    """
    if picture.shape[:2] == tuple(size):
        return picture
    cv2 = _cv2()
    how = {
        "nearest": cv2.INTER_NEAREST_EXACT,
        "bilinear": cv2.INTER_LINEAR,
        "bicubic": cv2.INTER_CUBIC,
        "area": cv2.INTER_AREA,
        "lanczos": cv2.INTER_LANCZOS4,
    }
    if interpolation not in how:
        raise InputError(f"interpolation is {interpolation!r}, expected one of {', '.join(how)}")
    try:
        resized: NDArray[np.uint8] = cv2.resize(picture, (size[1], size[0]), interpolation=how[interpolation])
    except cv2.error as error:
        raise RunFailed(f"cannot resize a picture of {picture.shape[:2]} to {tuple(size)}: {error}") from None
    return resized


def grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the (H, W) luminance of an RGB picture (0.299 R + 0.587 G + 0.114 B)."""
    cv2 = _cv2()
    luminance: NDArray[np.uint8] = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return luminance


def describe() -> dict[str, Any]:
    """Return what this OpenCV is: its version, and the window system that it is built for, or ``"NONE"``."""
    cv2 = _cv2()
    windows = re.search(r"^ *GUI: *(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    return {"version": cv2.__version__, "windows": windows[1] if windows else "NONE"}


def lut(name: str) -> NDArray[np.uint8]:
    """Return the (256, 3) RGB table of one of OpenCV's colour maps, by its lower-case name."""
    cv2 = _cv2()
    number = getattr(cv2, f"COLORMAP_{name.upper()}", None)
    if number is None:
        raise RunFailed(f"this OpenCV ({cv2.__version__}) has no colour map {name!r}: upgrade opencv-python")
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], number)
    return np.ascontiguousarray(table[:, 0, ::-1])


@lru_cache(maxsize=1)
def _cv2() -> Any:
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise RunFailed(
            "OpenCV is needed for pictures and is not installed: pip install opencv-python, or opencv-python-headless "
            f"on a server ({shown(error)}); if pip says that it is, cam-onnx doctor"
        ) from None
    except ImportError as error:
        raise RunFailed(
            f"OpenCV does not load ({shown(error)}): apt-get install libgl1 libglib2.0-0, or put "
            "opencv-python-headless in the place of opencv-python"
        ) from None
    if not hasattr(cv2, "imdecode"):  # what is left after one of two distributions was removed
        raise RunFailed(
            "OpenCV is broken: uninstall opencv-python and opencv-python-headless, which share a folder, then install "
            "one (cam-onnx doctor)"
        )
    if "OPENCV_LOG_LEVEL" not in os.environ:  # what it would print becomes our error
        logging = getattr(getattr(cv2, "utils", None), "logging", None)
        if logging is not None:
            logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    return cv2


def _bytes(source: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, "bytes"
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(f"expected a picture's path or its bytes, got {type(source).__name__}")
    if os.fspath(source) == "-":
        if sys.stdin is None:
            raise InputError("there is no standard input to read a picture from")
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise LimitExceeded(f"standard input has more than {MAX_BYTES} bytes: no picture is that large")
        return data, "standard input"
    return files.read(source, what="picture", limit=MAX_BYTES), os.fspath(source)


def _eight_bit_rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype != np.uint8:  # uint16; IMREAD_COLOR has done the same to pictures without alpha
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        order = [2, 1, 0, 3][: pixels.shape[2]]
        pixels = pixels[..., order]
    return as_picture(pixels)


def _over_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1]
    quarter_turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)  # counterclockwise
    return np.rot90(pixels, quarter_turns)


def _notes(header: Header) -> list[str]:
    notes = []
    if header.alpha:
        notes.append("transparent parts are laid over white")
    if header.bits > 8:
        notes.append(f"{header.bits} bits per channel reduced to 8")
    if header.channels == 4 and header.format == "JPEG":
        notes.append("CMYK converted to RGB without its colour profile")
    if header.animated:
        notes.append("an animation: its first frame is used")
    if header.orientation != 1:
        notes.append(f"turned upright (EXIF orientation {header.orientation})")
    return notes
