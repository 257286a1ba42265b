"""From a picture to the network's input, and the rectangle of the picture that the network then sees.

The rectangle (the box) lets a map be laid back onto the original picture, exactly, after any fit. It is in
pixels of the picture as (y0, x0, y1, x1), real numbers, and may reach beyond the picture (letterbox).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx.contract import Preprocess
from cam_onnx.render import image

__all__ = ["Box", "apply"]

Box = tuple[float, float, float, float]


def apply(preprocess: Preprocess, picture: NDArray[np.uint8]) -> tuple[NDArray[Any], Box]:
    """Turn one picture into a batch of one.

    Parameters
    ----------
    preprocess : Preprocess
        What `size` leaves to the picture is not cut: there "crop" is "stretch".
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
    size = preprocess.extent(picture.shape[0], picture.shape[1])
    fit = _stretch if preprocess.fit == "crop" and preprocess.size != size else _FITS[preprocess.fit]
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


def _corner(picture: NDArray[np.uint8], size: tuple[int, int], preprocess: Preprocess) -> Fitted:
    pixels, (top, left), (y0, x0, y1, x1) = _letterbox(picture, size, preprocess)
    down, across = (y1 - y0) / size[0], (x1 - x0) / size[1]
    return pixels, (0, 0), (y0 + top * down, x0 + left * across, y1 + top * down, x1 + left * across)


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


_FITS = {"stretch": _stretch, "crop": _crop, "letterbox": _letterbox, "corner": _corner}
