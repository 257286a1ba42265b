"""Methods of the score's derivative with respect to the picture, at one picture or averaged around it.

A map is the sum over channels: signed, at the picture's own resolution. Methods that take many derivatives hand over
one picture at a time and keep only a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from cam_onnx.methods.table import at_least, method

__all__ = ["Derivatives", "gradient", "input_x_gradient", "noisy", "smooth_grad", "smooth_grad_squared", "var_grad"]

Derivatives = Callable[[Iterable[Any], int], Iterator[Any]]


@method("gradient", paper="Simonyan et al. 2013, arXiv:1312.6034, sec. 3", relu=False, at="input")
def gradient(image_gradients: Any) -> Any:
    """Gradient: how the score changes with each pixel: ``M = sum_c dy/dx_c``.

    Parameters
    ----------
    image_gradients : array (N, C, *S)

    Returns
    -------
    array (N, *S)
        Signed, in score per unit of the network's input.

    Notes
    -----
    Source: Simonyan 2013, arXiv:1312.6034, which draws the largest absolute value over channels; here the sign stays.
    """
    return image_gradients.sum(axis=1)


@method("input-x-gradient", paper="Shrikumar et al. 2016, arXiv:1605.01713", relu=False, at="input")
def input_x_gradient(image: Any, image_gradients: Any) -> Any:
    """Input x gradient: each pixel's part of the score's linear extension: ``M = sum_c x_c dy/dx_c``.

    Parameters
    ----------
    image, image_gradients : array (N, C, *S)

    Returns
    -------
    array (N, *S)
        Signed; for a network without biases, piecewise linear, its sum is the score.

    Notes
    -----
    Source: Shrikumar 2016, arXiv:1605.01713. Trap: what is 0 in the network's units (a mean grey) gets nothing.
    """
    return (image * image_gradients).sum(axis=1)


def noisy(x: Any, samples: int, noise: float, seed: int) -> Iterator[Any]:
    """Yield `samples` copies with Gaussian noise of `noise` times the picture's range."""
    at_least(1, samples=samples)
    at_least(0, noise=noise)
    rng = np.random.default_rng(seed)
    deviation = x.dtype.type(noise * (x.max() - x.min()))
    for _ in range(samples):
        yield x + deviation * rng.standard_normal(x.shape, x.dtype)


@method(
    "smooth-grad", anytime=True, paper="Smilkov et al. 2017, arXiv:1706.03825, sec. 3", relu=False, at="input",
    cost="samples backward runs",
)  # fmt: skip
def smooth_grad(image: Any, backward: Derivatives, *, samples: int = 25, noise: float = 0.15, seed: int = 0) -> Any:
    """SmoothGrad: the gradient averaged over noisy copies of the picture.

    ``M = 1/n sum_i sum_c dy/dx_c (x + e_i)``.

    Parameters
    ----------
    image : array (1, C, *S)
    backward : callable
        Pictures to dy/dx.
    samples : int
        n.
    noise : float
        Standard deviation, in parts of the picture's range.
    seed : int

    Returns
    -------
    array (1, *S)

    Notes
    -----
    Source: Smilkov 2017, arXiv:1706.03825. Trap: noise in absolute units means something else for every preprocessing.
    Without noise it is the gradient.
    """
    found = backward(noisy(image[0], samples, noise, seed), samples)
    return _mean((g.sum(axis=0, dtype=np.float64) for g in found), image)


@method(
    "smooth-grad-squared", anytime=True, paper="Hooker et al. 2019, arXiv:1806.10758, sec. 3", relu=False, at="input",
    cost="samples backward runs",
)  # fmt: skip
def smooth_grad_squared(
    image: Any, backward: Derivatives, *, samples: int = 25, noise: float = 0.15, seed: int = 0
) -> Any:
    """SmoothGrad squared: the mean of the squared gradient over noisy copies: ``M = 1/n sum_i sum_c (dy/dx_c)^2``.

    Parameters
    ----------
    image, backward, samples, noise, seed
        As for smooth-grad.

    Returns
    -------
    array (1, *S)
        Never negative.

    Notes
    -----
    Source: Hooker 2019, arXiv:1806.10758. It says how strongly, not in which direction.
    """
    found = backward(noisy(image[0], samples, noise, seed), samples)
    return _mean((np.square(g, dtype=np.float64).sum(axis=0) for g in found), image)


@method(
    "var-grad", anytime=True, paper="Adebayo et al. 2018, arXiv:1810.03307, sec. 2", relu=False, at="input",
    cost="samples backward runs",
)  # fmt: skip
def var_grad(image: Any, backward: Derivatives, *, samples: int = 25, noise: float = 0.15, seed: int = 0) -> Any:
    """VarGrad: the variance of the gradient over noisy copies: ``M = sum_c var_i dy/dx_c (x + e_i)``.

    Parameters
    ----------
    image, backward, samples, noise, seed
        As for smooth-grad.

    Returns
    -------
    array (1, *S)
        Never negative.

    Notes
    -----
    Source: Adebayo 2018, arXiv:1810.03307. Trap: mean of squares minus square of the mean cancels; the variance is
    summed up as deviations from the running mean.
    """
    mean, spread, count = np.zeros(image.shape[1:]), np.zeros(image.shape[1:]), 0
    for g in backward(noisy(image[0], samples, noise, seed), samples):  # Welford
        count += 1
        step = g - mean
        mean += step / count
        spread += step * (g - mean)
    return (spread.sum(axis=0) / max(count, 1)).astype(image.dtype)[None]


def _mean(maps: Iterable[Any], image: Any) -> Any:
    """Return the mean of the maps of one picture, of as many as there come, as a batch of one."""
    total, count = np.zeros(image.shape[2:]), 0
    for found in maps:
        count += 1
        total += found
    return (total / max(count, 1)).astype(image.dtype)[None]
