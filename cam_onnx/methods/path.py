"""Methods that sum the derivative along a path from a picture that stands for nothing: what they sum to is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import tee
from typing import Any

import numpy as np

from cam_onnx.errors import InputError
from cam_onnx.methods.attribution import Derivatives
from cam_onnx.methods.baseline import blurred, reference
from cam_onnx.methods.perturbation import Scores
from cam_onnx.methods.table import Noted, at_least, method

__all__ = [
    "blur_integrated_gradients",
    "expected_gradients",
    "guided_integrated_gradients",
    "integrated_gradients",
]


@method(
    "integrated-gradients", paper="Sundararajan et al. 2017, arXiv:1703.01365, eq. 1", relu=False, at="input",
    cost="steps backward runs",
)  # fmt: skip
def integrated_gradients(
    image: Any, backward: Derivatives, forward: Scores, *, steps: int = 32, baseline: str = "zero"
) -> Any:
    """Integrated gradients: the gradient averaged along the straight path from a baseline.

    ``M = sum_c (x_c - x0_c) integral_0^1 dy/dx_c (x0 + t (x - x0)) dt``, by Gauss-Legendre nodes.

    Parameters
    ----------
    image : array (1, C, *S)
    backward, forward : callable
        Pictures to dy/dx, and to scores.
    steps : int
        Nodes.
    baseline : {"zero", "mean", "min", "blur"}
        See occlusion.

    Returns
    -------
    array (1, *S)
        Its sum is y(x) - y(x0) up to the completeness gap, which is noted.

    Notes
    -----
    Source: Sundararajan 2017, arXiv:1703.01365. Trap: a sum of rectangles wants hundreds of steps where 32 nodes serve.
    """
    at_least(1, steps=steps)
    x = image[0]
    start = reference(x, baseline)
    nodes, shares = np.polynomial.legendre.leggauss(steps)
    points = (start + x.dtype.type((t + 1) / 2) * (x - start) for t in nodes)
    total = np.zeros(x.shape)
    for share, g in zip(shares, backward(points, steps), strict=True):
        total += share / 2 * g
    found = ((x - start) * total).sum(axis=0)
    return Noted(found.astype(x.dtype)[None], (_gap(found, forward, x, start),))


def _gap(found: Any, forward: Scores, x: Any, start: Any) -> str:
    end, begin = forward([x, start], 2)
    wanted, summed = end - begin, float(found.sum())
    return (
        f"completeness: the map sums to {summed:.5g}, y(x) - y(baseline) is {wanted:.5g}, gap {summed - wanted:.2g}; "
        "more steps make it smaller"
    )


@method(
    "expected-gradients", anytime=True, paper="Erion et al. 2019, arXiv:1906.10670, eq. 3", relu=False, at="input",
    cost="samples backward runs",
)  # fmt: skip
def expected_gradients(
    image: Any, backward: Derivatives, *, references: Any = None, samples: int = 100, seed: int = 0
) -> Any:
    """Expected gradients: integrated gradients averaged over baselines that are drawn from a set.

    ``M = mean over x0 of the set and t in [0, 1] of sum_c (x_c - x0_c) dy/dx_c (x0 + t (x - x0))``.

    Parameters
    ----------
    image : array (1, C, *S)
    backward : callable
        Pictures to dy/dx.
    references : array (R, C, *S) or path of a .npy file
        The set, as the network takes it.
    samples : int
    seed : int

    Returns
    -------
    array (1, *S)
        Its sum approaches y(x) - mean of y over the set.

    Notes
    -----
    Source: Erion 2019, arXiv:1906.10670. One draw of baseline and position a sample; positions are stratified, one in
    each n-th of the path, which only lowers the variance.
    """
    at_least(1, samples=samples)
    x = image[0]
    known = _references(references, x)
    rng = np.random.default_rng(seed)
    which = rng.integers(len(known), size=samples)
    where = ((rng.permutation(samples) + rng.random(samples)) / samples).astype(x.dtype)
    points = (known[i] + t * (x - known[i]) for i, t in zip(which, where, strict=True))
    total, count = np.zeros(x.shape), 0
    for i, g in zip(which, backward(points, samples), strict=False):
        total += (x - known[i]) * g
        count += 1
    return (total / max(count, 1)).sum(axis=0).astype(x.dtype)[None]


def _references(references: Any, x: Any) -> Any:
    if references is None:
        raise InputError("expected-gradients needs references: an array (R, C, *S) of network inputs, or a .npy file")
    if isinstance(references, str):
        try:
            references = np.load(references, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"references: cannot read {references!r} as a .npy file ({error})") from None
    known = np.asarray(references, x.dtype)
    if known.ndim != x.ndim + 1 or known.shape[1:] != x.shape or not len(known):
        raise InputError(f"references have shape {known.shape}, expected (R, {', '.join(map(str, x.shape))})")
    return known


@method(
    "blur-integrated-gradients", paper="Xu et al. 2020, arXiv:2004.03383, eq. 6", relu=False, at="input",
    cost="steps backward runs",
)  # fmt: skip
def blur_integrated_gradients(
    image: Any, backward: Derivatives, forward: Scores, *, steps: int = 32, blur: float = 0.15
) -> Any:
    """Blur integrated gradients: the path goes from the blurred picture to the sharp one.

    ``M = sum_i sum_c (x_{i+1} - x_i)_c dy/dx_c`` halfway between x_i and x_{i+1}, whose blur falls to 0 in n steps.

    Parameters
    ----------
    image : array (1, C, *S)
    backward, forward : callable
        Pictures to dy/dx, and to scores.
    steps : int
        n.
    blur : float
        Standard deviation at the start, in parts of the longest side.

    Returns
    -------
    array (1, *S)
        Its sum is y(x) - y(x blurred) up to the completeness gap, which is noted.

    Notes
    -----
    Source: Xu 2020, arXiv:2004.03383. No baseline colour; the blur falls with the square of the step, since little
    blur changes much.
    """
    at_least(1, steps=steps)
    at_least(0, blur=blur)
    x = image[0]
    sigmas = [blur * max(x.shape[1:]) * (1 - i / steps) ** 2 for i in range(steps + 1)]
    halfway, again = tee(_pairs(blurred(x, sigma) for sigma in sigmas))
    total = np.zeros(x.shape)
    for g, (a, b) in zip(backward(((a + b) / 2 for a, b in halfway), steps), again, strict=True):
        total += (b - a) * g
    found = total.sum(axis=0)
    return Noted(found.astype(x.dtype)[None], (_gap(found, forward, x, blurred(x, sigmas[0])),))


def _pairs(items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    before = None
    for item in items:
        if before is not None:
            yield before, item
        before = item


@method(
    "guided-integrated-gradients", paper="Kapishnikov et al. 2021, arXiv:2106.09788, alg. 1", relu=False, at="input",
    cost="steps backward runs, one after the other",
)  # fmt: skip
def guided_integrated_gradients(
    image: Any, backward: Derivatives, forward: Scores, *, steps: int = 50, share: float = 0.1, anchors: float = 0.02,
    baseline: str = "zero",
) -> Any:  # fmt: skip
    """Guided integrated gradients: the path moves first where the gradient is smallest.

    Parameters
    ----------
    image : array (1, C, *S)
    backward, forward : callable
        Pictures to dy/dx, and to scores.
    steps : int
        Each brings the path 1/n of the way (in the sum of absolute differences) nearer to the picture.
    share : float
        Of the entries that can still move, the part with the smallest gradient that moves at once.
    anchors : float
        How far an entry may be from its place on the straight path, in parts of the path.
    baseline : {"zero", "mean", "min", "blur"}

    Returns
    -------
    array (1, *S)
        Its sum is y(x) - y(x0) up to the completeness gap, which is noted.

    Notes
    -----
    Source: Kapishnikov 2021, arXiv:2106.09788, algorithm 1 with its bounds around the straight path. With ``share=1``
    all entries move together: the straight path, by left rectangles.
    """
    at_least(1, steps=steps)
    if not (0 < share <= 1 and 0 < anchors <= 1):
        raise InputError(f"options share and anchors are {share!r} and {anchors!r}, expected above 0, at most 1")
    target = image[0].astype(np.float64)
    start = reference(target, baseline)
    way = target - start
    length = np.abs(way).sum()
    at, total = start.copy(), np.zeros(target.shape)
    for step in range(1, steps + 1):
        [g] = backward([at.astype(image.dtype)], 1)
        before = at.copy()
        low, high = max(step / steps - anchors, 0.0), min(step / steps + anchors, 1.0)
        at = _moved(at, start, way, np.abs(g), low, high, length * (1 - step / steps), share)
        total += (at - before) * g
    found = total.sum(axis=0)
    return Noted(found.astype(image.dtype)[None], (_gap(found, forward, image[0], start.astype(image.dtype)),))


def _moved(at: Any, start: Any, way: Any, size: Any, low: float, high: float, left: float, share: float) -> Any:
    """Return the path's next point, `left` away from the target: entries of small gradient move first."""
    progress = np.divide(at - start, way, out=np.full(at.shape, high), where=way != 0)
    progress = np.maximum(progress, low)
    size = np.where(way == 0, np.inf, size).astype(np.float64)
    while True:
        current = (np.abs(way) * (1 - progress)).sum()
        free = np.isfinite(size) & (progress < high)
        if current <= left or not free.any():
            return start + progress * way
        threshold = np.quantile(size[free], share, method="higher")
        chosen = free & (size <= threshold)
        room = (np.abs(way) * (high - progress))[chosen].sum()
        needed = current - left
        if room > needed:
            progress = np.where(chosen, progress + (high - progress) * (needed / room), progress)
            return start + progress * way
        progress = np.where(chosen, high, progress)
