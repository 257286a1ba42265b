"""Seeded pictures for the small trained networks: what is in them, and where, is known to the pixel.

Two kinds. `textured`: one object or more, each an ellipse or a rectangle of one of four textures on a blurred ground;
the class is the texture. A texture's contrast fades across its object, so that one spot shows it best. `sized`: one red
disc among shapes of other colours; the value is the disc's size. Only NumPy is needed: tests and documentation draw the
pictures that the networks were trained on (other seeds), without a training framework.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SIDE", "TEXTURES", "Scene", "sized", "textured"]

Array = npt.NDArray[Any]

SIDE = 96
TEXTURES = ("bars", "columns", "checks", "dots")
"""The classes, in class order."""

RED = np.array([225.0, 40.0, 35.0])
OTHERS = np.array([[40, 90, 220], [45, 170, 70], [235, 200, 50], [150, 60, 190], [240, 240, 240]], float)

_Y, _X = np.mgrid[:SIDE, :SIDE].astype(float)


@dataclass(frozen=True)
class Scene:
    """A picture and what is in it.

    Attributes
    ----------
    pixels : u8 array (96, 96, 3), RGB
    masks : dict of bool array (96, 96)
        Where an object lies, by its texture's name, or "disc".
    value : float
        Of a `sized` picture: the disc's share of the picture, in percent.
    """

    pixels: Array
    masks: dict[str, Array] = field(repr=False)
    value: float = 0.0


def textured(seed: int, *textures: str) -> Scene:
    """Return a picture with one object for each of `textures`, side by side where there are two.

    Parameters
    ----------
    seed : int
    *textures : str
        One or two of `TEXTURES`.
    """
    rng = np.random.default_rng([1, seed])
    picture = _ground(rng)
    masks: dict[str, Array] = {}
    turned = rng.random() < 0.5
    for i, texture in enumerate(textures):
        half = rng.uniform(12, 19, 2)
        centre = rng.uniform(half + 2, SIDE - half - 2)
        if len(textures) > 1:
            middle = (i + 0.5) * SIDE / len(textures)
            centre[int(turned)] = np.clip(middle + rng.uniform(-5, 5), half.max() + 1, SIDE - half.max() - 1)
        mask = _blob(rng, centre, half) & ~np.any(list(masks.values()), axis=0)
        light, dark = _two_colours(rng)
        at = (_pattern(rng, texture) - 0.5) * _fade(rng, centre, half.max()) + 0.5
        picture = np.where(mask[..., None], dark + (light - dark) * at[..., None], picture)
        masks[texture] = mask
    return Scene(_finished(rng, picture), masks)


def sized(seed: int) -> Scene:
    """Return a picture of a red disc and of two to four shapes that do not matter, which it may cover in part."""
    rng = np.random.default_rng([2, seed])
    picture = _ground(rng)
    for _ in range(rng.integers(2, 5)):
        half = rng.uniform(5, 13, 2)
        mask = _blob(rng, rng.uniform(half, SIDE - half), half)
        picture = np.where(mask[..., None], OTHERS[rng.integers(len(OTHERS))] + rng.uniform(-15, 15, 3), picture)
    radius = rng.uniform(5, 14)
    y, x = rng.uniform(radius + 1, SIDE - radius - 1, 2)
    disc = (_Y - y) ** 2 + (_X - x) ** 2 <= radius**2
    picture = np.where(disc[..., None], RED + rng.uniform(-15, 15, 3), picture)
    return Scene(_finished(rng, picture), {"disc": disc}, 100 * float(disc.mean()))


def _ground(rng: np.random.Generator) -> Array:
    """Colours that change slowly: a 6 x 6 grid between grey and itself, bilinear."""
    coarse = 128 + rng.uniform(-55, 55, (7, 7, 3))
    at = np.linspace(0, 6, SIDE, endpoint=False)
    low, part = at.astype(int), at % 1
    rows = coarse[low] + (coarse[low + 1] - coarse[low]) * part[:, None, None]
    ground: Array = rows[:, low] + (rows[:, low + 1] - rows[:, low]) * part[None, :, None]
    return ground


def _blob(rng: np.random.Generator, centre: Array, half: Array) -> Array:
    dy, dx = abs(_Y - centre[0]) / half[0], abs(_X - centre[1]) / half[1]
    mask: Array = dy**2 + dx**2 <= 1 if rng.random() < 0.5 else np.maximum(dy, dx) <= 0.85
    return mask


def _two_colours(rng: np.random.Generator) -> tuple[Array, Array]:
    middle, apart = rng.uniform(90, 165, 3), rng.uniform(45, 85) * rng.choice([-1, 1])
    return middle + apart, middle - apart


def _pattern(rng: np.random.Generator, texture: str) -> Array:
    """0 or 1 everywhere, a period of 7 to 9 pixels."""
    period, (down, right) = rng.uniform(7, 9), rng.uniform(0, 9, 2)
    y, x = (_Y + down) / period % 1, (_X + right) / period % 1
    found: Array = {
        "bars": y < 0.5,
        "columns": x < 0.5,
        "checks": (y < 0.5) ^ (x < 0.5),
        "dots": (y - 0.5) ** 2 + (x - 0.5) ** 2 < 0.1,
    }[texture]
    return found.astype(float)


def _fade(rng: np.random.Generator, centre: Array, half: float) -> Array:
    """From 1 on one side of the object to 0.5 on the other."""
    angle = rng.uniform(0, 2 * np.pi)
    along = ((_Y - centre[0]) * np.sin(angle) + (_X - centre[1]) * np.cos(angle)) / half
    return np.asarray(0.75 + 0.25 * np.clip(along, -1, 1))


def _finished(rng: np.random.Generator, picture: Array) -> Array:
    return np.clip(np.rint(picture + rng.normal(0, 5, picture.shape)), 0, 255).astype(np.uint8)
