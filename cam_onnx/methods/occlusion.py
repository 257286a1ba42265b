"""Methods that cover parts of the picture, one after the other or at random, and see what it costs the score."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product, tee
from typing import Any

import numpy as np

from cam_onnx.errors import InputError
from cam_onnx.methods.baseline import reference
from cam_onnx.methods.perturbation import Scores
from cam_onnx.methods.table import at_least, method
from cam_onnx.render.upsample import upsample

__all__ = ["d_rise", "occlusion", "rise"]


@method(
    "occlusion", anytime=True, paper="Zeiler and Fergus 2014, arXiv:1311.2901, sec. 4.2", relu=False, at="input",
    cost="one forward run a window",
)  # fmt: skip
def occlusion(
    image: Any, forward: Scores, *, window: float = 0.15, stride: float = 0.075, baseline: str = "zero"
) -> Any:
    """Occlusion: how much of the score a window takes away when it is covered, averaged over a pixel's windows.

    ``M[p] = mean over windows w that hold p of y(x) - y(x covered by w)``.

    Parameters
    ----------
    image : array (1, C, *S)
    forward : callable
        Pictures to scores.
    window, stride : float
        In parts of each side, 0 to 1; at least one pixel.
    baseline : {"zero", "mean", "min", "blur"}
        What covers: 0 in the network's units, each channel's mean or smallest value, the picture blurred.

    Returns
    -------
    array (1, *S)
        The map itself, in units of the score.

    Notes
    -----
    Source: Zeiler and Fergus 2014, arXiv:1311.2901. The last window of a row ends at the edge, so that every pixel is
    covered. Trap: a square of one colour is something to see as well.
    """
    if not (0 < window <= 1 and 0 < stride <= 1):
        raise InputError(f"options window and stride are {window!r} and {stride!r}, expected above 0, at most 1")
    x, space = image[0], image.shape[2:]
    sides = [max(1, round(window * n)) for n in space]
    starts = [_starts(n, side, max(1, round(stride * n))) for n, side in zip(space, sides, strict=True)]
    windows = [
        (slice(None), *(slice(s, s + side) for s, side in zip(corner, sides, strict=True)))
        for corner in product(*starts)
    ]
    cover = reference(x, baseline)

    def covered() -> Iterator[Any]:
        yield x
        for at in windows:
            changed = x.copy()
            changed[at] = cover[at]
            yield changed

    scores = forward(covered(), len(windows) + 1)
    whole = next(scores)
    total, count = np.zeros(space), np.zeros(space)
    for at, score in zip(windows, scores, strict=False):
        total[at[1:]] += whole - score
        count[at[1:]] += 1
    return (total / np.maximum(count, 1)).astype(x.dtype)[None]


def _starts(size: int, side: int, stride: int) -> list[int]:
    last = size - side
    return sorted({*range(0, last, stride), last})


@method(
    "rise",
    anytime=True,
    paper="Petsiuk et al. 2018, arXiv:1806.07421, eq. 6",
    relu=False,
    at="input",
    cost="masks forward runs",
    level=True,
)
def rise(image: Any, forward: Scores, *, masks: int = 2000, grid: int = 7, keep: float = 0.5, seed: int = 0) -> Any:
    """RISE: random masks, averaged with the score of what they leave as weight.

    ``M = 1 / (n keep) sum_n y(x m_n) m_n``.

    Parameters
    ----------
    image : array (1, C, *S)
    forward : callable
        Pictures to scores.
    masks : int
        n.
    grid : int
        Cells along each side.
    keep : float
        Probability that a cell stays.
    seed : int

    Returns
    -------
    array (1, *S)
        The map itself.

    Notes
    -----
    Source: Petsiuk 2018, arXiv:1806.07421, sec. 3.2: each mask is a random grid of one cell more, enlarged bilinearly
    and cut out at a random offset. Traps: every pixel has the mean score in it, so that zero means nothing: the map is
    drawn from its smallest value on. A score that is not near 0 for an empty picture adds the masks' uneven coverage to
    the map; more masks make it even.
    """
    return _masked(image, forward, masks, grid, keep, seed)


@method(
    "d-rise",
    anytime=True,
    paper="Petsiuk et al. 2020, arXiv:2006.03204, eq. 4",
    relu=False,
    at="input",
    cost="masks forward runs",
    level=True,
    target="detection",
)
def d_rise(image: Any, forward: Scores, *, masks: int = 5000, grid: int = 16, keep: float = 0.5, seed: int = 0) -> Any:
    """D-RISE: RISE with the likeness of the detections to one as the score.

    ``y = max_j IoU(box, box_j) objectness_j cos(class, classes_j)``; `M` is RISE's.

    Parameters
    ----------
    image : array (1, C, *S)
    forward : callable
        Pictures to scores: the target is a detection.
    masks, grid, keep, seed
        As for rise.

    Returns
    -------
    array (1, *S)
        The map itself.

    Notes
    -----
    Source: Petsiuk 2020, arXiv:2006.03204, sec. 3.2. Traps: those of rise; and a box that no candidate comes near has
    the same map whatever is in it, which is that of the masks.
    """
    return _masked(image, forward, masks, grid, keep, seed)


def _masked(image: Any, forward: Scores, masks: int, grid: int, keep: float, seed: int) -> Any:
    """Return random masks averaged with the score of what they leave."""
    at_least(1, masks=masks, grid=grid)
    if not 0 < keep < 1:
        raise InputError(f"option keep is {keep!r}, expected between 0 and 1")
    x = image[0]
    drawn, again = tee(_masks(x.shape[1:], masks, grid, keep, seed))
    total, count = np.zeros(x.shape[1:]), 0
    scores = forward((x * m.astype(x.dtype) for m in drawn), masks)
    for score, mask in zip(scores, again, strict=False):  # scores first: where they end, no mask is drawn for nothing
        total += score * mask
        count += 1
    return (total / (max(count, 1) * keep)).astype(x.dtype)[None]


def _masks(space: tuple[int, ...], masks: int, grid: int, keep: float, seed: int) -> Iterator[Any]:
    rng = np.random.default_rng(seed)
    cells = [-(-n // grid) for n in space]
    size = [(grid + 1) * cell for cell in cells]
    for _ in range(masks):
        coarse = (rng.random([grid + 1] * len(space)) < keep).astype(np.float32)
        shift = [int(rng.integers(cell)) for cell in cells]
        whole = upsample(coarse, size)
        yield whole[tuple(slice(s, s + n) for s, n in zip(shift, space, strict=True))]
