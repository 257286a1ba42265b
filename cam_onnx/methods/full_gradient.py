"""FullGrad: the score as the picture's share and the shares of all that the network adds."""

from __future__ import annotations

from typing import Any

import numpy as np

from cam_onnx.methods.gradient import spatial
from cam_onnx.methods.table import method
from cam_onnx.render.upsample import upsample

__all__ = ["full_grad", "whole"]


@method("full-grad", paper="Srinivas and Fleuret 2019, arXiv:1905.00780, eq. 8", at="input")
def full_grad(image: Any, image_gradients: Any, biases: Any) -> Any:
    """FullGrad: picture times gradient, and every layer's biases times theirs: ``M = psi(x g) + sum_l psi(b_l g_l)``.

    ``psi`` sums over channels what is left of ``abs(.)``, stretched to [0, 1] over a layer, at the picture's size.

    Parameters
    ----------
    image, image_gradients : array (N, C, *S)
    biases : list of array (N, K, *S_l), or (N, M)
        Bias times gradient of every layer that adds something; what has no place is left out of the map.

    Returns
    -------
    array (N, *S)
        Never negative.

    Notes
    -----
    Source: Srinivas 2019, arXiv:1905.00780; batch normalisation counts with its ``beta - mu gamma / sigma``. Trap: the
    map is not complete; the raw terms are: for a piecewise-linear network they sum to the score.
    """
    total = _psi(image * image_gradients, image.shape[2:])
    for part in biases:
        if part.ndim == image.ndim:
            total = total + _psi(part, image.shape[2:])
    return total


def whole(image: Any, image_gradients: Any, biases: Any) -> Any:
    """Return the sum of all raw terms, (N,): the score, for a piecewise-linear network."""
    return sum(term.reshape(len(term), -1).sum(axis=1, dtype=np.float64) for term in (image * image_gradients, *biases))


def _psi(part: Any, size: tuple[int, ...]) -> Any:
    sizes, axes = abs(part), (1, *spatial(part))
    low, high = sizes.min(axis=axes, keepdims=True), sizes.max(axis=axes, keepdims=True)
    span = high - low
    return upsample(((sizes - low) / (span + (span == 0))).sum(axis=1), size)
