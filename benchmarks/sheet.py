"""Pictures for docs/: tiles of one size in a row or a grid, each with its name above."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from cam_onnx.render import drawing, image
from cam_onnx.render.colormap import colorize

__all__ = ["TEXT", "contrast", "label", "strip", "tile"]

TEXT, GAP = 16, 4


def label(words: str, width: int) -> Any:
    """Return black words on white, `width` pixels wide; smaller where they would not fit."""
    height = 9
    while drawing.text_size(words, height)[0] > width:
        height -= 1
    drawn = np.full((TEXT, width, 3), 255, np.uint8)
    drawing.text(drawn, words, (0, TEXT - 5), height, (0, 0, 0))
    return drawn


def tile(picture: Any, side: int) -> Any:
    """Return the picture as a square: averaged where it is made smaller, interpolated where larger."""
    return image.resize(picture, (side, side), "area" if min(picture.shape[:2]) > side else "bilinear")


def strip(columns: Sequence[tuple[str, Iterable[Any]]], side: int) -> Any:
    """Return a picture of columns: a name, and below it pictures of one size."""
    drawn = []
    for words, pictures in columns:
        cells = [label(words, side)]
        for picture in pictures:
            cells += [tile(picture, side), np.full((GAP, side, 3), 255, np.uint8)]
        drawn += [np.vstack(cells[:-1]), np.full((TEXT + len(cells) // 2 * (side + GAP) - GAP, GAP, 3), 255, np.uint8)]
    return np.hstack(drawn[:-1])


def contrast(e: Any, most: float = 0.995) -> Any:
    """Return the heatmap with 1 at a quantile of the map's sizes: in an attribution few pixels are far above all."""
    values = e.saliency_map[0]
    return colorize(np.clip(values / (np.quantile(abs(values), most) or 1), -1, 1), e.colours())
