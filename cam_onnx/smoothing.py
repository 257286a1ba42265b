"""Smoothing of any method's map: over flipped and scaled pictures, over noisy ones, or by its first component.

What is averaged are the signed maps on the layer's grid, so that the mean is rectified and stretched once, like any
other map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np

from cam_onnx.contract import Contract
from cam_onnx.engine import Array
from cam_onnx.engine.layout import picture_axes
from cam_onnx.engine.samples import Samples
from cam_onnx.errors import InputError
from cam_onnx.methods.activation import first_component
from cam_onnx.methods.attribution import noisy
from cam_onnx.methods.saliency import Result

__all__ = ["SMOOTHINGS", "Variant", "check", "eigen", "variants"]

SMOOTHINGS = ("aug", "eigen", "noise")
FACTORS = (1.0, 0.9, 1.1)
SAMPLES, NOISE, SEED = 8, 0.15, 0

Turn = Callable[[Array], Array]


class Variant(NamedTuple):
    """Changed samples, and the way of their maps (N, *S) back to the unchanged picture's places."""

    samples: Samples
    back: Turn


def check(smooth: str | None) -> None:
    """Refuse (InputError) a word that is none of `SMOOTHINGS`."""
    if smooth is not None and smooth not in SMOOTHINGS:
        raise InputError(f"smooth is {smooth!r}, expected one of {', '.join(SMOOTHINGS)}")


def variants(smooth: str, samples: Samples, contract: Contract) -> tuple[int, Iterator[Variant]]:
    """Return how many variants there are, and them: the mean of their maps is the smoothed one.

    "aug": flipped along the last axis or not, times 1, 0.9 and 1.1 in the network's units. "noise": eight with Gaussian
    noise of 0.15 of the picture's range, seeded.

    Raises
    ------
    InputError
        None of the model's inputs is known to be a picture.
    """
    name = contract.roles.get("image", "")
    if name not in samples.feeds:
        raise InputError(f"smooth={smooth} changes the picture, and none of the model's inputs is known to be one")
    picture = samples.feeds[name]
    last = picture_axes(contract, picture.shape).spatial[-1]

    def changed(value: Array) -> Samples:
        if picture.dtype.kind in "iu":
            bounds = np.iinfo(picture.dtype)
            value = np.clip(np.rint(value), bounds.min, bounds.max)
        return replace(samples, feeds={**samples.feeds, name: np.ascontiguousarray(value, picture.dtype)})

    def flipped() -> Iterator[Variant]:
        for flip, factor in product((False, True), FACTORS):
            turned = np.flip(picture, last) if flip else picture
            yield Variant(changed(turned * factor), (lambda m: np.flip(m, -1)) if flip else (lambda m: m))

    def with_noise() -> Iterator[Variant]:
        wide = picture if picture.dtype == np.float64 else picture.astype(np.float32)
        draws = [noisy(each, SAMPLES, NOISE, SEED) for each in wide]
        for _ in range(SAMPLES):
            yield Variant(changed(np.stack([next(draw) for draw in draws])), lambda m: m)

    return (2 * len(FACTORS), flipped()) if smooth == "aug" else (SAMPLES, with_noise())


def eigen(method: str, layer: str, result: Result, activations: Array) -> Result:
    """Return the first component of a layer's weighted activations in the place of their sum.

    Raises
    ------
    InputError
        The method has no weights.
    """
    if result.weights is None:
        raise InputError(f"smooth=eigen takes the weighted activations apart, and {method} has no weights at {layer!r}")
    return Result(first_component(result.weights * activations), result.weights, result.notes)
