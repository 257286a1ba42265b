"""Seeded signals and volumes for two small trained networks: what is in them, and where, is known to the sample.

`pulsed`: a signal with one pulse or two, each of one of three shapes that repeat, on a slow wave with noise.
`filled`: a volume with one ball or two, each filled in one of three ways. NumPy alone, as in `synthetic.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BALLS", "LENGTH", "PULSES", "SIDE", "Trace", "filled", "pulsed"]

Array = npt.NDArray[Any]

LENGTH, SIDE = 512, 24
PULSES = ("nothing", "waves", "teeth", "clicks")
BALLS = ("nothing", "layers", "sheets", "grains")
"""The classes, in class order; *nothing*, so that none of the others is what is left where the rest is not seen."""


@dataclass(frozen=True)
class Trace:
    """A signal or a volume and what is in it.

    Attributes
    ----------
    values : f32 array (1, 1, 512) or (1, 1, 24, 24, 24)
        As the networks take it.
    masks : dict of bool array (512,) or (24, 24, 24)
        Where a thing lies, by its name.
    """

    values: Array
    masks: dict[str, Array] = field(repr=False)


def pulsed(seed: int, *shapes: str) -> Trace:
    """Return a signal with a pulse for each of `shapes`, up to two of `PULSES`, one behind the other."""
    rng = np.random.default_rng([3, seed])
    at = np.arange(LENGTH)
    signal = rng.uniform(0.2, 0.5) * np.sin(2 * np.pi * (at / rng.uniform(200, 500) + rng.random()))
    masks: dict[str, Array] = {}
    for i, shape in enumerate(shapes):
        length, part = int(rng.integers(50, 84)), LENGTH // len(shapes)
        first = i * part + int(rng.integers(4, part - length - 4))
        phase = (np.arange(length) / rng.uniform(11, 13) + rng.random()) % 1
        form = {"waves": np.sin(2 * np.pi * phase), "teeth": 2 * phase - 1, "clicks": 2.0 * (phase < 0.15)}[shape]
        signal[first : first + length] += rng.uniform(0.8, 1.3) * form
        masks[shape] = (at >= first) & (at < first + length)
    signal += rng.normal(0, 0.12, LENGTH)
    return Trace(signal.astype(np.float32)[None, None], masks)


def filled(seed: int, *kinds: str) -> Trace:
    """Return a volume with a ball for each of `kinds`, up to two of `BALLS`, at opposite ends of a diagonal."""
    rng = np.random.default_rng([4, seed])
    places = np.stack(np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij")).astype(float)
    volume = rng.normal(0, 0.15, (SIDE,) * 3)
    masks: dict[str, Array] = {}
    end = rng.integers(0, 2, 3)
    for i, kind in enumerate(kinds):
        radius = rng.uniform(4, 5.5)
        low, high = radius, SIDE - 1 - radius
        corner = (end + i) % 2
        centre = rng.uniform(low, high, 3) if len(kinds) == 1 else np.where(corner, high - 0.5, low + 0.5)
        away = np.sqrt(((places - centre[:, None, None, None]) ** 2).sum(0))
        inside = away <= radius
        z, y, x = (places + rng.integers(0, 4, 3)[:, None, None, None]) % 4 < 2
        form = inside * ({"layers": z, "sheets": y, "grains": z ^ y ^ x}[kind] - 0.3)
        volume += rng.uniform(0.8, 1.3) * form
        masks[kind] = inside
    return Trace(volume.astype(np.float32)[None, None], masks)
