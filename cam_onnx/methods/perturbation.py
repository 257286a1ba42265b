"""Methods that weight or mask a layer's activations by scores. No gradient is needed.

What is changed decides what runs: only the part behind the layer for changed activations, the whole network for a
picture seen through them. Variants are handed over one by one and scores come back one by one, so that memory does not
grow with their number; where a run ends early, the map is that of the variants that came back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from cam_onnx.methods.table import at_least, method
from cam_onnx.render.upsample import upsample

__all__ = ["Scores", "ablation_cam", "is_cam", "recipro_cam", "score_cam", "ss_cam", "vit_recipro_cam"]

Scores = Callable[[Iterable[Any], int], Iterator[float]]


@method("ablation-cam", anytime=True, paper="Desai and Ramaswamy 2020, WACV, eq. 3", cost="K head runs")
def ablation_cam(activations: Any, head: Any) -> Any:
    """Ablation-CAM: channels weighted by the part of the score that is lost without them.

    ``M = sum_k a_k A_k`` with ``a_k = (y - y_k) / y``, y_k the score with A_k set to 0.

    Parameters
    ----------
    activations : array (1, K, *S)
    head : callable
        Activations to scores. Where only a global pooling and a linear layer follow, it has `closed`: y and the K
        differences y - y_k in closed form (the sum of dy/dA_k A_k over S), and nothing is run.

    Returns
    -------
    array (1, K, 1, ...)
        The weights.

    Notes
    -----
    Source: Desai and Ramaswamy 2020, WACV, eq. 3. Traps: a score near 0 or below it: the weights are divided by its
    absolute value, which is kept above 1 % of the largest difference. The value in a channel's place is 0 for all.
    """
    A = activations[0]
    if getattr(head, "closed", None) is not None:
        score, drops = head.closed
    else:
        score, *without = head((_without(A, k) for k in range(-1, len(A))), len(A) + 1)
        drops = np.zeros(len(A))
        drops[: len(without)] = score - np.array(without)
    least = 0.01 * np.abs(drops).max(initial=0)
    weights = drops / (max(abs(score), least) or 1.0)
    return weights.astype(A.dtype).reshape(1, -1, *[1] * (A.ndim - 1))


def _without(A: Any, k: int) -> Any:
    """Return `A` with channel `k` set to 0; -1: as it is."""
    changed = A.copy()
    if k >= 0:
        changed[k] = 0
    return changed


@method(
    "recipro-cam",
    anytime=True,
    paper="Byun and Lee 2022, arXiv:2209.14074, eq. 3",
    relu=False,
    cost="|S| head runs",
    level=True,
)
def recipro_cam(activations: Any, head: Scores) -> Any:
    """Recipro-CAM: every position by the score that its activations alone would have.

    ``M[p] = y(A masked to position p)``.

    Parameters
    ----------
    activations : array (1, K, *S)
    head : callable
        Activations to scores.

    Returns
    -------
    array (1, *S)
        The map itself.

    Notes
    -----
    Source: Byun and Lee 2022, arXiv:2209.14074. Trap: the score of nothing (the head's bias) is in every
    position; it stays in the signed map, and the drawn one begins at its smallest value, as eq. 3 does.
    """
    return _by_position(activations[0], head, (1.0,))


@method(
    "vit-recipro-cam",
    anytime=True,
    paper="Byun and Lee 2023, arXiv:2310.02588, sec. 3.2",
    relu=False,
    cost="|S| head runs",
    level=True,
)
def vit_recipro_cam(activations: Any, head: Scores) -> Any:
    """ViT-ReciproCAM: every token of the grid by the score that it and its neighbours would have, with the class token.

    ``M[p] = y(A G_p)``, G_p a Gaussian of 3 positions along each axis, (1, 2, 1) / 4, around p.

    Parameters
    ----------
    activations : array (1, K, *S)
    head : callable
        Activations to scores; what is no position of the grid (class token, registers) stays as it is.

    Returns
    -------
    array (1, *S)
        The map itself.

    Notes
    -----
    Source: Byun and Lee 2023, arXiv:2310.02588. Trap: as Recipro-CAM's; and what goes round the layer (a residual
    branch) is not masked.
    """
    return _by_position(activations[0], head, (0.25, 0.5, 0.25))


def _by_position(A: Any, head: Scores, kernel: tuple[float, ...]) -> Any:
    """Return the score of the activations around each position alone; `kernel` lies around it along every axis."""
    positions = list(np.ndindex(A.shape[1:]))
    found = np.zeros(A.shape[1:], A.dtype)
    for at, score in zip(positions, head((_around(A, at, kernel) for at in positions), len(positions)), strict=False):
        found[at] = score
    return found[None]


def _around(A: Any, at: tuple[int, ...], kernel: tuple[float, ...]) -> Any:
    reach, masked = len(kernel) // 2, np.zeros_like(A)
    box = tuple(slice(max(p - reach, 0), p + reach + 1) for p in at)
    share = np.ones((), A.dtype)
    for p, n in zip(at, A.shape[1:], strict=True):
        share = share[..., None] * np.asarray(
            kernel[max(reach - p, 0) : len(kernel) - max(p + reach + 1 - n, 0)], A.dtype
        )
    masked[(slice(None), *box)] = A[(slice(None), *box)] * share
    return masked


@method("score-cam", anytime=True, paper="Wang et al. 2020, arXiv:1910.01279, eq. 4 to 6", cost="K forward runs")
def score_cam(activations: Any, image: Any, forward: Scores) -> Any:
    """Score-CAM: channels weighted by the score of the picture seen through them.

    ``M = sum_k a_k A_k`` with ``a = softmax_k(y(x m_k))``, m_k = A_k upsampled and stretched to [0, 1].

    Parameters
    ----------
    activations : array (1, K, *S)
    image : array (1, C, *S)
    forward : callable
        Pictures to scores.

    Returns
    -------
    array (1, K, 1, ...)
        The weights; 0 for a constant channel, which is no mask.

    Notes
    -----
    Source: Wang 2020, arXiv:1910.01279. The baseline's score of eq. 4 is the same for all channels, and the softmax of
    eq. 6 does not see it: it is not run. Traps: 0 in the network's units stands behind the mask, which is a mean grey
    for most preprocessings. The weights are positive, so the layer should be one behind a ReLU: where activations can
    be negative (a convolution's output, a linear bottleneck) a mask is bright where the sum takes away, and the map may
    light what no channel shows.
    """
    return _scored(activations, image, forward, lambda k, masks: iter([masks(0.0)]), 1)


@method("ss-cam", anytime=True, paper="Wang et al. 2020, arXiv:2006.14255, sec. 3.1", cost="K samples forward runs")
def ss_cam(
    activations: Any, image: Any, forward: Scores, *, samples: int = 8, noise: float = 0.1, seed: int = 0
) -> Any:
    """SS-CAM: Score-CAM, its scores averaged over masks of noisy activations.

    Parameters
    ----------
    activations : array (1, K, *S)
    image : array (1, C, *S)
    forward : callable
        Pictures to scores.
    samples : int
    noise : float
        Standard deviation, in parts of the channel's range.
    seed : int

    Returns
    -------
    array (1, K, 1, ...)
        The weights.

    Notes
    -----
    Source: Wang 2020, arXiv:2006.14255, type 1. Without noise and with one sample it is Score-CAM.
    """
    at_least(1, samples=samples)
    at_least(0, noise=noise)
    rng = np.random.default_rng(seed)

    def variants(k: int, mask: Callable[[Any], Any]) -> Iterator[Any]:
        A = activations[0, k]
        for _ in range(samples):
            yield mask(noise * (A.max() - A.min()) * rng.standard_normal(A.shape).astype(A.dtype))

    return _scored(activations, image, forward, variants, samples)


@method("is-cam", anytime=True, paper="Naidu et al. 2020, arXiv:2010.03023, sec. 3", cost="K steps forward runs")
def is_cam(activations: Any, image: Any, forward: Scores, *, steps: int = 10) -> Any:
    """IS-CAM: Score-CAM, its scores averaged over the fractions 1/n, 2/n, ..., 1 of the mask.

    Parameters
    ----------
    activations : array (1, K, *S)
    image : array (1, C, *S)
    forward : callable
        Pictures to scores.
    steps : int
        n.

    Returns
    -------
    array (1, K, 1, ...)
        The weights.

    Notes
    -----
    Source: Naidu 2020, arXiv:2010.03023. With one step it is Score-CAM. Trap: fractions that are summed up as they go
    pass 1.
    """
    at_least(1, steps=steps)

    def variants(k: int, mask: Callable[[Any], Any]) -> Iterator[Any]:
        whole = mask(0.0)
        yield from (whole * whole.dtype.type(i / steps) for i in range(1, steps + 1))

    return _scored(activations, image, forward, variants, steps)


def _scored(activations: Any, image: Any, forward: Scores, variants: Any, each: int) -> Any:
    """Return the softmax over channels of the mean score of each channel's `each` masks."""
    A, x = activations[0], image[0]
    live = [k for k in range(len(A)) if A[k].max() > A[k].min()]

    def pictures() -> Iterator[Any]:
        for k in live:

            def mask(noise: Any, k: int = k) -> Any:
                raw = upsample(A[k] + noise, x.shape[1:]).astype(x.dtype)
                low, high = raw.min(), raw.max()
                return (raw - low) / (high - low) if high > low else np.zeros_like(raw)

            yield from (x * m for m in variants(k, mask))

    sums, counts = np.zeros(len(A)), np.zeros(len(A))
    for i, score in enumerate(forward(pictures(), each * len(live))):
        sums[live[i // each]] += score
        counts[live[i // each]] += 1
    seen = counts > 0
    means = sums[seen] / counts[seen]
    powers = np.exp(means - means.max(initial=-np.inf))
    weights = np.zeros(len(A))
    weights[seen] = powers / powers.sum()
    return weights.astype(A.dtype).reshape(1, -1, *[1] * (A.ndim - 1))
