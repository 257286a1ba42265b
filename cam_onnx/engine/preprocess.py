"""From a picture to the network's input, and the rectangle of the picture that the network then sees.

The rectangle (the box) lets a map be laid back onto the original picture, exactly, after any fit. It is in
pixels of the picture as (y0, x0, y1, x1), real numbers, and may reach beyond the picture (letterbox).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx.contract import DTYPES, Preprocess
from cam_onnx.errors import InputError
from cam_onnx.render import image

__all__ = ["Box", "apply", "guess", "resolve", "settle"]

Box = tuple[float, float, float, float]
Shape = Sequence[int | str | None]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def apply(preprocess: Preprocess, picture: NDArray[np.uint8]) -> tuple[NDArray[Any], Box]:
    """Turn one picture into a batch of one.

    Parameters
    ----------
    preprocess : Preprocess
        Where `size` is None the picture keeps its own, whatever `fit` says.
    picture : array (H, W, 3)
        RGB, uint8.

    Returns
    -------
    tensor : array (1, C, h, w) or (1, h, w, C)
        ``(pixel * scale - mean) / std`` in float32, then cast to `preprocess.dtype` (uint8: rounded, clipped).
    box : (y0, x0, y1, x1)
        What the network sees, in pixels of the picture.

    Raises
    ------
    InputError
        Not a picture.
    """
    picture = image.as_picture(picture)
    size = preprocess.size or (picture.shape[0], picture.shape[1])
    fit = _FITS[preprocess.fit] if preprocess.size else _stretch  # at its own size nothing is cut or filled
    seen, (top, left), box = fit(picture, size, preprocess)
    if preprocess.channels == "GRAY":
        seen = image.grey(seen)[..., None]
    elif preprocess.channels == "BGR":
        seen = seen[..., ::-1]
    count = seen.shape[2]
    std = np.array(preprocess.std)
    factor = np.broadcast_to(preprocess.scale / std, count).astype(np.float32)[:, None, None]
    offset = np.broadcast_to(-np.array(preprocess.mean) / std, count).astype(np.float32)[:, None, None]

    nchw = preprocess.layout == "NCHW"
    tensor = np.empty((1, count, *size) if nchw else (1, *size, count), np.float32)
    planes = tensor[0] if nchw else tensor[0].transpose(2, 0, 1)
    height, width = seen.shape[:2]
    if (height, width) != size:  # letterbox
        planes.T[:] = (preprocess.fill * preprocess.scale - np.array(preprocess.mean)) / std
    inner = planes[:, top : top + height, left : left + width]
    np.multiply(seen.transpose(2, 0, 1), factor, out=inner)
    inner += offset
    if preprocess.dtype == "uint8":
        np.rint(np.clip(tensor, 0, 255, out=tensor), out=tensor)
    return tensor.astype(preprocess.dtype, copy=False), box


def guess(shape: Shape, dtype: str) -> tuple[Preprocess, str]:
    """Guess the preprocessing from the shape and type of a model's input.

    Parameters
    ----------
    shape : sequence of (int, str or None)
        Of the input; a name or None is a dimension that is not fixed.
    dtype : str
        "float32", "float16", "float64" or "uint8".

    Returns
    -------
    preprocess : Preprocess
        Floats: pixels / 255 with ImageNet's mean and standard deviation (grey: 0..1); uint8: raw pixels.
    text : str
        One line that says that this is a guess, what it is, and how to say what is right.

    Raises
    ------
    InputError
        The input is no picture: not of rank 4, or no axis of 1 or 3 channels, or another type.
    """
    layout, channels, size = _picture_axes(shape, dtype)
    base = Preprocess(size=size, layout=layout or "NCHW", channels="GRAY" if channels == 1 else "RGB", dtype=dtype)
    if dtype == "uint8":
        what, guessed = "raw pixels 0..255", base
    elif channels == 1:
        what, guessed = "pixels / 255", replace(base, scale=1 / 255)
    else:
        what = "pixels / 255 with ImageNet's mean and std"
        guessed = replace(base, scale=1 / 255, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    extent = "its own size" if size is None else f"{size[0]}x{size[1]}"
    text = (
        f"preprocessing is a guess from the input {_text(shape, dtype)}: {guessed.channels}, {extent}, {what}, "
        f"{guessed.layout}; say what the model was trained with by preprocess= (--preprocess)"
    )
    return guessed, text


def resolve(preprocess: Preprocess, tensor_shape: Shape, dtype: str) -> Preprocess:
    """Fill in what the model's input fixes: size, layout, dtype.

    Parameters
    ----------
    preprocess : Preprocess
    tensor_shape, dtype
        Of the model's input, as for `guess`.

    Raises
    ------
    InputError
        `size` or `channels` contradict a fixed dimension, or values that were made for floats go into uint8.
    """
    layout, channels, fixed = _picture_axes(tensor_shape, dtype, preprocess.layout)
    where = f"the model's input is {_text(tensor_shape, dtype)}"
    wanted = 1 if preprocess.channels == "GRAY" else 3
    if channels is not None and channels != wanted:
        other = "GRAY" if channels == 1 else "RGB or BGR"
        raise InputError(f"preprocess: channels {preprocess.channels} makes {wanted}, but {where}: set {other}")
    known = _extents(tensor_shape, layout or preprocess.layout)
    if preprocess.size is not None and any(
        k is not None and k != s for k, s in zip(known, preprocess.size, strict=True)
    ):
        raise InputError(f"preprocess: size {preprocess.size} (height, width), but {where}")
    if preprocess.size is None and fixed is None and known != (None, None):
        raise InputError(f"preprocess: set size (height, width), since {where}: only one of the two is fixed")
    neutral = preprocess.scale == 1 and set(preprocess.mean) == {0} and set(preprocess.std) == {1}
    if dtype == "uint8" and not neutral:
        raise InputError(f"preprocess: scale, mean and std make floats, but {where}: leave them at 1, 0 and 1")
    return replace(preprocess, size=preprocess.size or fixed, layout=layout or preprocess.layout, dtype=dtype)


def settle(given: Preprocess | None, tensor_shape: Shape | None, dtype: str) -> tuple[Preprocess | None, str | None]:
    """Return the preprocessing in force, and the text of the guess where nobody said it.

    What is no picture's input has none, and can still be explained by its tensors.

    Raises
    ------
    InputError
        See `resolve`.
    """
    if tensor_shape is None:
        return given, None
    if given is not None:
        return resolve(given, tensor_shape, dtype), None
    try:
        return guess(tensor_shape, dtype)
    except InputError:
        return None, None


def _picture_axes(
    shape: Shape, dtype: str, preferred: str = "NCHW"
) -> tuple[str | None, int | None, tuple[int, int] | None]:
    """Return layout (None: the shape does not say), number of channels and size, as far as they are fixed."""
    if dtype not in DTYPES:
        raise InputError(f"a picture cannot be fed to an input of {dtype} (expected {', '.join(DTYPES)}): give tensors")
    where = f"a picture cannot be fed to the input {_text(shape, dtype)}"
    if len(shape) != 4:
        raise InputError(f"{where}: it has {len(shape)} axes instead of 4 (NCHW or NHWC): give tensors")
    possible = [
        layout
        for layout, axis in (("NCHW", 1), ("NHWC", 3))
        if shape[axis] in (1, 3) or not isinstance(shape[axis], int)
    ]
    if not possible:
        raise InputError(f"{where}: neither axis 1 nor axis 3 has 1 or 3 channels: give tensors")
    certain = [layout for layout in possible if isinstance(shape[1 if layout == "NCHW" else 3], int)] or possible
    layout = preferred if preferred in certain else certain[0]
    channels = shape[1 if layout == "NCHW" else 3]
    height, width = _extents(shape, layout)
    return (
        layout if isinstance(channels, int) else None if len(possible) == 2 else layout,
        channels if isinstance(channels, int) else None,
        None if height is None or width is None else (height, width),
    )


def _extents(shape: Shape, layout: str) -> tuple[int | None, int | None]:
    pair = shape[2:4] if layout == "NCHW" else shape[1:3]
    height, width = (n if isinstance(n, int) and n > 0 else None for n in pair)
    return height, width


def _text(shape: Shape, dtype: str) -> str:
    return f"({', '.join('?' if n is None else str(n) for n in shape)}) {dtype}"


Fitted = tuple[NDArray[np.uint8], tuple[int, int], Box]  # resized pixels, where they go, the box


def _stretch(picture: NDArray[np.uint8], size: tuple[int, int], preprocess: Preprocess) -> Fitted:
    height, width = picture.shape[:2]
    return image.resize(picture, size, preprocess.interpolation), (0, 0), (0.0, 0.0, float(height), float(width))


def _letterbox(picture: NDArray[np.uint8], size: tuple[int, int], preprocess: Preprocess) -> Fitted:
    height, width = picture.shape[:2]
    ratio = min(size[0] / height, size[1] / width)
    inner = tuple(min(full, max(1, round(n * ratio))) for n, full in zip((height, width), size, strict=True))
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    down, across = height / inner[0], width / inner[1]  # picture pixels per input pixel
    box = (-top * down, -left * across, (size[0] - top) * down, (size[1] - left) * across)
    return image.resize(picture, (inner[0], inner[1]), preprocess.interpolation), (top, left), box


def _crop(picture: NDArray[np.uint8], size: tuple[int, int], preprocess: Preprocess) -> Fitted:
    # as torchvision's Resize(size / crop_pct) and CenterCrop(size) for square inputs
    cover = [math.floor(n / preprocess.crop_pct + 1e-6) for n in size]
    start = [0, 0]
    for axis in (0, 1):  # a strip of 1 x 10,000 pixels resized as a whole would take gigabytes
        other = 1 - axis
        keep = 4 * math.ceil(cover[axis] * picture.shape[other] / cover[other])
        if picture.shape[axis] > keep:
            start[axis] = (picture.shape[axis] - keep) // 2
            picture = picture.take(range(start[axis], start[axis] + keep), axis=axis)
    height, width = picture.shape[:2]
    if height * cover[1] <= width * cover[0]:
        resized = (cover[0], max(cover[1], int(cover[0] * width / height)))
    else:
        resized = (max(cover[0], int(cover[1] * height / width)), cover[1])
    top, left = (round((n - full) / 2) for n, full in zip(resized, size, strict=True))
    down, across = height / resized[0], width / resized[1]
    box = (
        start[0] + top * down,
        start[1] + left * across,
        start[0] + (top + size[0]) * down,
        start[1] + (left + size[1]) * across,
    )
    pixels = image.resize(np.ascontiguousarray(picture), resized, preprocess.interpolation)
    return pixels[top : top + size[0], left : left + size[1]], (0, 0), box


_FITS = {"stretch": _stretch, "crop": _crop, "letterbox": _letterbox}
