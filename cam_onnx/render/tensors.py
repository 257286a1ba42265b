"""Signals, volumes and grey planes below their maps: a curve before it, slices side by side, the plane as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx.render import drawing
from cam_onnx.render.overlay import overlay

__all__ = ["SLICES", "drawable", "laid_over", "slices", "volume"]

SLICES = 6
"""Of a volume, at most."""

CURVES = 12  # channels of a signal; more are not told apart
NARROWEST, WIDEST, HIGH = 480, 1920, 72  # pixels of a curve
TILE, GAP = 144, 4  # pixels of a slice's longer side at least, and between two
INK = (30, 30, 60)

Array = NDArray[Any]
Picture = NDArray[np.uint8]


def drawable(values: Array) -> bool:
    """Whether a map can be laid over a tensor (C, *S): a signal, a volume, a plane of one channel."""
    return values.size > 0 and (values.ndim in (2, 4) or (values.ndim == 3 and len(values) == 1))


def laid_over(values: Array, drawn: Array, alpha: float, colormap: str) -> Picture:
    """Return a map over the tensor (C, *S) that was explained, RGB u8 (H, W, 3).

    Parameters
    ----------
    values : array (C, L), (C, D, H, W) or (1, H, W)
        `drawable`.
    drawn : array (*S)
        Normalised, in [0, 1] or [-1, 1].
    alpha : float in [0, 1]
    colormap : str

    Raises
    ------
    InputError
        As `cam_onnx.render.overlay.overlay`.
    """
    if values.ndim == 2:
        return np.vstack([_curve(channel, drawn, alpha, colormap) for channel in values[:CURVES]])
    if values.ndim == 3:
        return overlay(_grey(values[0]), drawn, alpha, colormap)
    blend = volume(values, drawn, alpha, colormap)
    larger = max(1, -(-TILE // max(blend.shape[1:3])))
    tiles = [blend[i].repeat(larger, axis=0).repeat(larger, axis=1) for i in slices(drawn)]
    gap = np.full((len(tiles[0]), GAP, 3), 255, np.uint8)
    return np.hstack([part for tile in tiles for part in (tile, gap)][:-1])


def volume(values: Array, drawn: Array, alpha: float, colormap: str) -> Picture:
    """Return a map over every slice of a volume (C, D, H, W), RGB u8 (D, H, W, 3): the mean channel, grey."""
    grey = _grey(values.mean(axis=0, dtype=np.float64))
    return np.stack([overlay(plane, part, alpha, colormap) for plane, part in zip(grey, drawn, strict=True)])


def slices(drawn: Array) -> list[int]:
    """Return which slices of a map (D, H, W) are shown: the one with the peak, and others on both sides."""
    depth = len(drawn)
    peak = int(np.unravel_index(int(np.abs(drawn).argmax()), drawn.shape)[0])
    others = np.linspace(0, depth - 1, min(depth, SLICES - 1)).round().astype(int)
    return sorted({peak, *others.tolist()})


def _grey(values: Array) -> Picture:
    """Return values as grey pixels (*S, 3), the smallest black and the largest white."""
    finite = np.nan_to_num(values.astype(np.float64))
    low, high = float(finite.min()), float(finite.max())
    grey = np.rint((finite - low) * (255 / (high - low) if high > low else 0.0)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _curve(values: Array, drawn: Array, alpha: float, colormap: str) -> Picture:
    """Return a signal (L,) as a curve before its map: of a long one, the range in every column."""
    width = int(np.clip(len(values), NARROWEST, WIDEST))
    finite = np.nan_to_num(values.astype(np.float64))
    first = np.arange(width) * len(values) // width
    last = np.maximum(first + 1, np.arange(1, width + 1) * len(values) // width)
    columns = [slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
    map_ = np.array([drawn[c][np.abs(drawn[c]).argmax()] for c in columns])
    panel = overlay(np.full((HIGH, width, 3), 255, np.uint8), np.repeat(map_[None], HIGH, axis=0), alpha, colormap)
    span = float(np.ptp(finite)) or 1.0
    top, bottom = ((HIGH - 1) * (finite.max() - ends) / span for ends in _ends(finite, columns))
    points = [(x, round(y)) for x in range(width) for y in (top[x], bottom[x])]
    drawing.polygon(panel, np.array(points + points[::-1]), INK)  # there and back: an open line
    return panel


def _ends(values: Array, columns: list[slice]) -> tuple[Array, Array]:
    return np.array([values[c].max() for c in columns]), np.array([values[c].min() for c in columns])
