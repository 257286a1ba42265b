"""Methods that weight activations by the gradient of the score.

Only methods and operators of the arrays themselves are used (array-API style): the same lines can then be
traced into a graph. `*S` is any number of axes, so signals, pictures and volumes take one path.
"""

from __future__ import annotations

from typing import Any

from cam_onnx.methods.table import method

__all__ = ["cam", "grad_cam", "hires_cam", "spatial"]


def spatial(array: Any) -> tuple[int, ...]:
    """Return the spatial axes of an (N, K, *S) array: all from the third on."""
    return tuple(range(2, array.ndim))


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
