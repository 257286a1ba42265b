"""Methods of the activations' own structure: means, outliers, principal components.

Without gradients they do not depend on the class at all: they show what the layer responds to. The sign of a
principal component is arbitrary, and a ReLU behind it would invert the map at random: it is fixed here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cam_onnx.methods.gradient import spatial
from cam_onnx.methods.table import method

__all__ = [
    "activation_map", "eigen_cam", "eigen_grad_cam", "fem", "first_component", "kpca_cam", "random_cam",
    "seg_eigen_cam",
]  # fmt: skip


@method("activation-map", paper="baseline")
def activation_map(activations: Any) -> Any:
    """Mean of the channels: what any class-aware map should improve on.

    Parameters
    ----------
    activations : array (N, K, *S)

    Returns
    -------
    array (N, *S)
    """
    return activations.mean(axis=1)


@method("random-cam", paper="baseline")
def random_cam(activations: Any, seed: int = 0) -> Any:
    """Channels weighted at random, uniform in [-1, 1]: the sanity floor.

    Parameters
    ----------
    activations : array (N, K, *S)
    seed : int
        The same seed gives the same bits; every sample has the same weights.

    Returns
    -------
    array (N, K, 1, ...)
        The weights.
    """
    weights = np.random.default_rng(seed).uniform(-1, 1, activations.shape[1]).astype(activations.dtype)
    shape = (1, -1) + (1,) * (activations.ndim - 2)
    return np.broadcast_to(weights.reshape(shape), (len(activations), *weights.reshape(shape).shape[1:]))


@method("fem", paper="Fuad et al. 2020, Feature explanation method")
def fem(activations: Any) -> Any:
    """FEM: channels weighted by how often they are strongly active.

    ``M = sum_k a_k A_k``, a_k the fraction of positions where A_k exceeds its mean by two standard deviations.

    Parameters
    ----------
    activations : array (N, K, *S)

    Returns
    -------
    array (N, K, 1, ...)
        The weights, in [0, 1].
    """
    axes = spatial(activations)
    mean, deviation = activations.mean(axis=axes, keepdims=True), activations.std(axis=axes, keepdims=True)
    return (activations > mean + 2 * deviation).mean(axis=axes, keepdims=True).astype(activations.dtype)


@method("eigen-cam", paper="Muhammad and Yeasin 2020, arXiv:2008.00299")
def eigen_cam(activations: Any) -> Any:
    """EigenCAM: projection of the activations on their first principal direction, not centred.

    Parameters
    ----------
    activations : array (N, K, *S)

    Returns
    -------
    array (N, *S)
        Signed; it agrees with the mean activation.

    Notes
    -----
    Source: Muhammad 2020, arXiv:2008.00299, eq. 3. pytorch-grad-cam centres the channels, so its map differs.
    """
    return first_component(activations)


@method("eigen-grad-cam", paper="as pytorch-grad-cam names it")
def eigen_grad_cam(activations: Any, gradients: Any) -> Any:
    """EigenCAM of gradients times activations, which makes it depend on the class.

    Parameters
    ----------
    activations, gradients : array (N, K, *S)

    Returns
    -------
    array (N, *S)
        Signed; it agrees with the mean of the products.
    """
    return first_component(gradients * activations)


@method("seg-eigen-cam", paper="Chung and Ying 2025, Appl. Sci. 15(13) 7562")
def seg_eigen_cam(activations: Any, gradients: Any) -> Any:
    """Seg-Eigen-CAM: EigenCAM of abs(gradients) times activations, with a sign rule of its own.

    Parameters
    ----------
    activations, gradients : array (N, K, *S)

    Returns
    -------
    array (N, *S)
        Signed; turned round where its minimum is larger in size than its maximum.
    """
    found = first_component(abs(gradients) * activations)
    axes = tuple(range(1, found.ndim))
    turn = abs(found.min(axis=axes, keepdims=True)) > abs(found.max(axis=axes, keepdims=True))
    return np.where(turn, -found, found)


@method("kpca-cam", paper="Karmani et al. 2024, arXiv:2410.00267")
def kpca_cam(activations: Any) -> Any:
    """KPCA-CAM: first kernel principal component of the positions, sigmoid kernel.

    ``k(x, y) = tanh(<x, y> / K + 1)`` between positions, channels centred, the kernel matrix centred.

    Parameters
    ----------
    activations : array (N, K, *S)

    Returns
    -------
    array (N, *S)
        Signed; it agrees with the mean activation.

    Notes
    -----
    Source: Karmani 2024, arXiv:2410.00267. The kernel matrix has positions squared entries: use it at late layers.
    """
    maps = []
    for sample in activations:
        rows = sample.reshape(len(sample), -1).T  # (positions, K)
        centred = rows - rows.mean(axis=0)
        kernel = np.tanh(centred @ centred.T / centred.shape[1] + 1)
        kernel = kernel - kernel.mean(axis=0) - kernel.mean(axis=1, keepdims=True) + kernel.mean()
        values, vectors = np.linalg.eigh(kernel)
        component = vectors[:, -1] * np.sqrt(max(float(values[-1]), 0.0))
        maps.append(_agreeing(component, rows.mean(axis=1)).reshape(sample.shape[1:]))
    return np.stack(maps).astype(activations.dtype)


def first_component(products: Any) -> Any:
    """Return each sample's positions projected on the first right singular vector of (positions, K)."""
    maps = []
    for sample in products:
        if not np.isfinite(sample).all():
            maps.append(np.full(sample.shape[1:], np.nan, products.dtype))
            continue
        rows = sample.reshape(len(sample), -1).T
        if rows.shape[0] <= rows.shape[1]:  # the smaller Gram matrix
            values, vectors = np.linalg.eigh(rows @ rows.T)
            component = vectors[:, -1] * np.sqrt(max(float(values[-1]), 0.0))
        else:
            component = rows @ np.linalg.eigh(rows.T @ rows)[1][:, -1]
        maps.append(_agreeing(component, rows.mean(axis=1)).reshape(sample.shape[1:]))
    return np.stack(maps).astype(products.dtype)


def _agreeing(component: Any, mean: Any) -> Any:
    """Fix the arbitrary sign: the component and the mean point the same way."""
    return -component if component @ mean < 0 else component
