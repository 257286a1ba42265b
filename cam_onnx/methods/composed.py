"""Methods made of others: a CAM with noise, with second derivatives, with another score, or beside a sharper map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from cam_onnx.errors import InputError
from cam_onnx.methods.attribution import noisy
from cam_onnx.methods.gradient import positive, spatial
from cam_onnx.methods.needs import ARRAYS
from cam_onnx.methods.saliency import apply
from cam_onnx.methods.table import find, method
from cam_onnx.render.upsample import upsample

__all__ = ["deconvnet", "finer_cam", "guided_backprop", "guided_grad_cam", "shapley_cam", "smooth_grad_cam_plus_plus"]


@method(
    "smooth-grad-cam++", anytime=True, paper="Omeiza et al. 2019, arXiv:1908.01224, eq. 9", cost="samples backward runs"
)  # fmt: skip
def smooth_grad_cam_plus_plus(
    activations: Any, image: Any, probe: Callable[[Iterable[Any], int], Iterator[tuple[Any, Any]]], *,
    samples: int = 8, noise: float = 0.15, seed: int = 0,
) -> Any:  # fmt: skip
    """Smooth Grad-CAM++: Grad-CAM++ with its powers of the gradient averaged over noisy pictures.

    ``a = mean(g^2) / (2 mean(g^2) + sum(mean A) mean(g^3))``, 0 where mean(g^2) = 0; ``a_k = sum(a relu(mean g))``;
    ``M = sum_k a_k A_k`` with the clean A.

    Parameters
    ----------
    activations : array (1, K, *S)
    image : array (1, C, *S)
    probe : callable
        Pictures to activations and gradients.
    samples : int
    noise : float
        Standard deviation, in parts of the picture's range.
    seed : int

    Returns
    -------
    array (1, K, 1, ...)
        The weights.

    Notes
    -----
    Source: Omeiza 2019, arXiv:1908.01224. Without noise it is Grad-CAM++. Trap: the last noisy gradient or
    activation in the place of the mean.
    """
    sums, count = [np.zeros(activations.shape[1:]) for _ in range(4)], 0
    for A, g in probe(noisy(image[0], samples, noise, seed), samples):
        wide = g.astype(np.float64)
        for total, part in zip(sums, (wide, wide**2, wide**3, A), strict=True):
            total += part
        count += 1
    g1, g2, g3, mean = (total[None] / max(count, 1) for total in sums)
    below = 2 * g2 + mean.sum(axis=spatial(mean), keepdims=True) * g3
    share = np.divide(g2, below, out=np.zeros_like(g2), where=(g2 != 0) & (below != 0))
    weights = (share * positive(g1)).sum(axis=spatial(g1), keepdims=True)
    return weights.astype(activations.dtype)


@method(
    "shapley-cam", paper="Cai 2025, arXiv:2501.06261, eq. 13", target="residual-softmax", cost="one second derivative"
)
def shapley_cam(activations: Any, gradients: Any, curvature: Callable[[Any], Any]) -> Any:
    """ShapleyCAM: Grad-CAM with half of the second derivative along the activations taken off.

    ``a_k = mean(g - H A / 2)``, H the Hessian of the score with respect to A; the score is y + log p unless another
    is asked for.

    Parameters
    ----------
    activations, gradients : array (1, K, *S)
    curvature : callable
        A direction (1, K, *S) to H times it.

    Returns
    -------
    array (1, K, 1, ...)
        The weights.

    Notes
    -----
    Source: Cai 2025, arXiv:2501.06261. With a logit and a piecewise-linear head H is 0 and it is Grad-CAM.
    """
    weights = gradients - curvature(activations) / 2
    return weights.mean(axis=spatial(gradients), keepdims=True)


@method("finer-cam", paper="Zhang et al. 2025, arXiv:2501.11309, eq. 4", target="finer")
def finer_cam(activations: Any, gradients: Any, *, base: str = "grad-cam") -> Any:
    """Finer-CAM: a gradient method on what sets the class apart from the nearest ones.

    The score is ``sum_d p_d (y_c - y_d) / sum_d p_d`` over the three classes d whose logits are nearest to y_c.

    Parameters
    ----------
    activations, gradients : array (N, K, *S)
        Of that score.
    base : str
        A method of activations and gradients.

    Returns
    -------
    array
        The base's weights, or its map.

    Notes
    -----
    Source: Zhang 2025, arXiv:2501.11309; the probabilities p are differentiated as well, as in the published code.
    """
    return _base(base, activations, gradients)


@method("guided-backprop", paper="Springenberg et al. 2014, arXiv:1412.6806, sec. 3.4", relu=False, at="input",
        table="guided-backprop")  # fmt: skip
def guided_backprop(image_gradients: Any) -> Any:
    """Guided backpropagation: at every ReLU only what is positive goes back, and only where the ReLU was open.

    Parameters
    ----------
    image_gradients : array (N, C, *S)
        By the rule ``g (x > 0) (g > 0)`` in the place of the ReLU's derivative.

    Returns
    -------
    array (N, *S)
        Their sum over channels.

    Notes
    -----
    Source: Springenberg 2014, arXiv:1412.6806. Clip from 0 (ReLU6) counts as a ReLU. Trap: it restores the picture's
    edges rather than the network's reasons, and hardly changes when the last layers are made random.
    """
    return image_gradients.sum(axis=1)


@method("deconvnet", paper="Zeiler and Fergus 2014, arXiv:1311.2901, sec. 2.1", relu=False, at="input",
        table="deconvnet")  # fmt: skip
def deconvnet(image_gradients: Any) -> Any:
    """Deconvnet: at every ReLU only what is positive goes back, whether the ReLU was open or not.

    Parameters
    ----------
    image_gradients : array (N, C, *S)
        By the rule ``relu(g)`` in the place of the ReLU's derivative.

    Returns
    -------
    array (N, *S)
        Their sum over channels.

    Notes
    -----
    Source: Zeiler and Fergus 2014, arXiv:1311.2901. Trap: as guided backpropagation, and noisier without max pooling.
    """
    return image_gradients.sum(axis=1)


@method("guided-grad-cam", paper="Selvaraju et al. 2017, arXiv:1610.02391, sec. 3.2", relu=False,
        cost="one backward run")  # fmt: skip
def guided_grad_cam(activations: Any, gradients: Any, guided: Any, *, base: str = "grad-cam") -> Any:
    """Guided Grad-CAM: guided backpropagation where a CAM is warm: ``M = sum_c guided_c U(relu(CAM))``.

    Parameters
    ----------
    activations, gradients : array (N, K, *S)
    guided : array (N, C, *image)
        dy/dx by guided backpropagation.
    base : str
        A method of activations and gradients.

    Returns
    -------
    array (N, *image)
        At the picture's resolution.

    Notes
    -----
    Source: Selvaraju 2017, arXiv:1610.02391, sec. 3.2. Trap: its edges are guided backpropagation's, see there.
    """
    _plain(base)
    coarse = apply(find(base), activations=activations, gradients=gradients)
    fine = guided.sum(axis=1)
    return fine * upsample(np.maximum(coarse.saliency, 0), fine.shape[1:])


def _plain(base: str) -> tuple[str, ...]:
    """Return the needs of a base method, which must be arrays of the layer."""
    chosen = find(base)
    if not set(chosen.needs) <= set(ARRAYS) - {"image", "image_gradients", "guided"} or chosen.target:
        raise InputError(f"option base is {chosen.name!r}, expected a method of activations and gradients alone")
    return chosen.needs


def _base(base: str, activations: Any, gradients: Any) -> Any:
    given = {"activations": activations, "gradients": gradients}
    return find(base).function(**{need: given[need] for need in _plain(base)})
