"""Marks on pictures, and areas of masks, by OpenCV: what a picture file needs beside its pixels.

Pictures are RGB u8 HWC and drawn on in place. Texts are printable ASCII: OpenCV's built-in font has no more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx.render.image import _cv2

__all__ = ["areas", "polygon", "rectangle", "text", "text_size", "trace"]

Colour = tuple[int, int, int]


def areas(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], list[tuple[int, int, int, int]]]:
    """Return the connected areas of `mask`, corners touching: labels (H, W) from 1, 0 outside, and their boxes.

    A box is (x0, y0, x1, y1), the ends excluded, in the order of the labels.
    """
    _, labels, found, _ = _cv2().connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    boxes = [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, _ in found[1:]]  # the first is the background
    return labels, boxes


def trace(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the outer border of the one area of `mask` as a polygon of its pixels (P, 2), (x, y), in order.

    Of a few corners all are there; of more, those that keep the polygon within a pixel of the border.
    """
    cv2 = _cv2()
    # a margin, because some releases of OpenCV do not follow an area along the edge of the picture
    contours, _ = cv2.findContours(np.pad(mask, 1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    border = contours[0] if len(contours[0]) <= 8 else cv2.approxPolyDP(contours[0], 1.0, True)
    points: NDArray[np.int32] = border.reshape(-1, 2).astype(np.int32) - 1
    return points


def polygon(picture: NDArray[np.uint8], points: NDArray[Any], colour: Colour, thickness: int = 1) -> None:
    """Draw the closed line through `points` (P, 2), as (x, y)."""
    cv2 = _cv2()
    cv2.polylines(picture, [np.asarray(points, np.int32).reshape(-1, 1, 2)], True, colour, thickness, cv2.LINE_AA)


def rectangle(picture: NDArray[np.uint8], box: tuple[int, int, int, int], colour: Colour, thickness: int = 1) -> None:
    """Draw the border of `box` (x0, y0, x1, y1, ends excluded); a negative thickness fills it."""
    x0, y0, x1, y1 = box
    _cv2().rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), colour, thickness)


def text(
    picture: NDArray[np.uint8], words: str, at: tuple[int, int], height: int, colour: Colour, thickness: int = 1
) -> None:
    """Write `words` with the lower left corner `at` (x, y) and capitals `height` pixels high."""
    cv2 = _cv2()
    cv2.putText(picture, words, at, cv2.FONT_HERSHEY_SIMPLEX, _scale(height), colour, thickness, cv2.LINE_AA)


def text_size(words: str, height: int, thickness: int = 1) -> tuple[int, int]:
    """Return width and height in pixels of what `text` would write."""
    cv2 = _cv2()
    (width, high), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, _scale(height), thickness)
    return int(width), int(high)


def _scale(height: int) -> float:
    return height / 22  # FONT_HERSHEY_SIMPLEX's capitals are 22 pixels high at scale 1
