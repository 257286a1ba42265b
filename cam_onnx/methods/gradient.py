"""Methods that weight activations by the gradient of the score.

Only methods and operators of the arrays themselves are used (array-API style): the same lines can then be
traced into a graph. `*S` is any number of axes, so signals, pictures and volumes take one path.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cam_onnx.methods.table import method

__all__ = [
    "cam",
    "element_wise_grad_cam",
    "grad_cam",
    "grad_cam_plus_plus",
    "hires_cam",
    "layer_cam",
    "namespace",
    "spatial",
    "xgrad_cam",
]


def spatial(array: Any) -> tuple[int, ...]:
    """Return the spatial axes of an (N, K, *S) array: all from the third on."""
    return tuple(range(2, array.ndim))


def namespace(array: Any) -> Any:
    """Return the array's own functions (array-API); NumPy's for arrays that do not say."""
    return array.__array_namespace__() if hasattr(array, "__array_namespace__") else np


def positive(array: Any) -> Any:
    """Return the array with 0 in the place of what is negative."""
    return (array + abs(array)) / 2


@method("cam", paper="Zhou et al. 2016, arXiv:1512.04150, eq. 2", requires_pooled_head=True)
def cam(activations: Any, gradients: Any) -> Any:
    """Class activation map: the linear layer's weights of the class, behind global pooling.

    ``M = sum_k W[c,k] A_k``. Behind average pooling dy/dA_k is ``W[c,k] / |S|`` everywhere, behind max pooling
    ``W[c,k]`` at one position, so its sum over space is ``W[c,k]`` for both and no weights need storing.

    Parameters
    ----------
    activations, gradients : array (N, K, *S)

    Returns
    -------
    array (N, K, 1, ...)
        The weights.

    Notes
    -----
    Source: Zhou 2016, arXiv:1512.04150. Trap: with any other head the sum of the gradient is not a weight of
    the network, which is why the method is refused there.
    """
    return gradients.sum(axis=spatial(gradients), keepdims=True)


@method("grad-cam", paper="Selvaraju et al. 2017, arXiv:1610.02391, eq. 1")
def grad_cam(activations: Any, gradients: Any) -> Any:
    """Grad-CAM: channels weighted by the mean gradient of the score.

    ``M = sum_k a_k A_k`` with ``a_k = mean over S of dy/dA_k``.

    Parameters
    ----------
    activations, gradients : array (N, K, *S)

    Returns
    -------
    array (N, K, 1, ...)
        The weights, in score per activation.

    Notes
    -----
    Source: Selvaraju 2017, arXiv:1610.02391, eq. 1 and 2 (the ReLU of eq. 2 comes later: the map stays signed
    here). Trap: the mean forgets where the gradient was, so a channel may light up places that the score does
    not depend on; HiResCAM does not.
    """
    return gradients.mean(axis=spatial(gradients), keepdims=True)


@method("hires-cam", paper="Draelos and Carin 2020, arXiv:2011.08891, eq. 4")
def hires_cam(activations: Any, gradients: Any) -> Any:
    """HiResCAM: every position weighted by its own gradient.

    ``M = sum_k dy/dA_k * A_k``, elementwise.

    Parameters
    ----------
    activations, gradients : array (N, K, *S)

    Returns
    -------
    array (N, K, *S)
        The weights: the gradients themselves.

    Notes
    -----
    Source: Draelos 2020, arXiv:2011.08891. For a piecewise-linear head the map's sum plus the head's bias terms
    is the score. Trap: behind global max pooling the gradient sits on one position per channel, and so does
    the map.
    """
    return gradients


@method("element-wise-grad-cam", paper="as pytorch-grad-cam names it")
def element_wise_grad_cam(activations: Any, gradients: Any) -> Any:
    """Only what speaks for the class, position by position: ``M = sum_k relu(dy/dA_k A_k)``.

    Parameters
    ----------
    activations, gradients : array (N, K, *S)

    Returns
    -------
    array (N, *S)
        The map itself, never negative.

    Notes
    -----
    No paper of its own. Trap: evidence against the class is dropped per channel and cannot cancel evidence for it.
    """
    return positive(gradients * activations).sum(axis=1)


@method("layer-cam", paper="Jiang et al. 2021, IEEE TIP 30, eq. 5 and 6")
def layer_cam(activations: Any, gradients: Any) -> Any:
    """LayerCAM: every position weighted by its own positive gradient: ``M = sum_k relu(dy/dA_k) A_k``.

    Parameters
    ----------
    activations, gradients : array (N, K, *S)

    Returns
    -------
    array (N, K, *S)
        The weights.

    Notes
    -----
    Source: Jiang 2021, IEEE Transactions on Image Processing 30, eq. 5 and 6. Useful at early layers, where a mean
    gradient says little.
    """
    return positive(gradients)


@method("xgrad-cam", paper="Fu et al. 2020, arXiv:2008.02312, eq. 8")
def xgrad_cam(activations: Any, gradients: Any) -> Any:
    """XGrad-CAM: the gradient averaged with the activation as its weight.

    ``M = sum_k a_k A_k`` with ``a_k = sum(dy/dA_k A_k) / sum(A_k)`` over S.

    Parameters
    ----------
    activations, gradients : array (N, K, *S)

    Returns
    -------
    array (N, K, 1, ...)
        The weights, in score per activation.

    Notes
    -----
    Source: Fu 2020, arXiv:2008.02312, eq. 8. Trap: behind activations that can be negative (SiLU, GELU) sum(A_k) may
    almost cancel and the weight explodes; its size is kept above 1 % of sum(abs(A_k)). A channel of zeros has weight 0.
    """
    xp = namespace(activations)
    axes = spatial(activations)
    total = activations.sum(axis=axes, keepdims=True)
    least = abs(activations).sum(axis=axes, keepdims=True) * 0.01
    size = xp.where(abs(total) > least, abs(total), least)
    signed = xp.where(total < 0, -size, size)
    empty = size == 0
    return (gradients * activations).sum(axis=axes, keepdims=True) / xp.where(empty, xp.ones_like(size), signed)


@method("grad-cam++", paper="Chattopadhay et al. 2018, arXiv:1710.11063, eq. 10 and 19")
def grad_cam_plus_plus(activations: Any, gradients: Any) -> Any:
    """Grad-CAM++: positive gradients weighted by closed-form coefficients.

    ``a = g^2 / (2 g^2 + sum(A_k) g^3)``, 0 where g = 0; ``a_k = sum(a relu(g))`` over S; ``M = sum_k a_k A_k``.

    Parameters
    ----------
    activations, gradients : array (N, K, *S)

    Returns
    -------
    array (N, K, 1, ...)
        The weights.

    Notes
    -----
    Source: Chattopadhay 2018, arXiv:1710.11063, eq. 19 (g^2 and g^3 stand for the higher derivatives of exp(score)).
    Traps: the coefficients depend on the size of g, so that doubling the last layer does not double the map; where
    2 + sum(A_k) g is 0 the coefficient is taken as 0.
    """
    xp = namespace(activations)
    total = activations.sum(axis=spatial(activations), keepdims=True)
    below = 2 + total * gradients  # g^2 cancels
    defined = (gradients != 0) & (below != 0)
    share = xp.where(defined, 1 / xp.where(defined, below, xp.ones_like(below)), xp.zeros_like(below))
    return (share * positive(gradients)).sum(axis=spatial(gradients), keepdims=True)
