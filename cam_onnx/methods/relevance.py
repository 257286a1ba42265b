"""Layer-wise relevance propagation: the network is run back by rules that hand on shares of the score.

The rules are tables of the way back, laid over the derivative's; what arrives at the picture is relevance already.
"""

from __future__ import annotations

from typing import Any

from cam_onnx.methods.table import method

__all__ = ["COMPOSITES", "lrp"]

COMPOSITES = (
    "epsilon-plus", "epsilon-plus-flat", "epsilon-gamma-box", "epsilon-alpha2-beta1", "epsilon-alpha2-beta1-flat",
    "epsilon",
)  # fmt: skip


@method("lrp", paper="Bach et al. 2015, PLOS ONE 10(7) e0130140; Montavon et al. 2019, LNCS 11700, ch. 10",
        relu=False, at="input", table="lrp-{composite}", choices={"composite": COMPOSITES})  # fmt: skip
def lrp(image_gradients: Any, *, composite: str = "epsilon-plus", epsilon: float = 1e-6, gamma: float = 0.25) -> Any:
    """LRP: the score is shared out from layer to layer until it lies on the pixels: ``M = sum_c R_c``.

    ``R_i = sum_j x_i w_ij / z_j R_j`` (epsilon), with the parts of one sign alone or with more weight elsewhere.

    Parameters
    ----------
    image_gradients : array (N, C, *S)
        The relevance R of every entry of the picture, as the file's rules give it.
    composite : str
        Rules: epsilon for dense layers; for convolutions z+, gamma (the first one zB, between the smallest and the
        largest value of each of the picture's channels), alpha-beta (2, 1), or epsilon as well. With "-flat" the first
        convolution shares evenly among all that it sees.
    epsilon : float
        Of the epsilon rule, above 0: the larger, the more is taken by small sums.
    gamma : float
        Of the gamma rule: how much more counts what agrees in sign with the output.

    Returns
    -------
    array (N, *S)
        Signed, in units of the score. For a network without biases its sum is the score.

    Notes
    -----
    Source: Bach 2015; composites as Montavon 2019 and zennit. Batch normalisation is merged into the layer before it;
    other normalisations have a constant deviation, products of two values share evenly and softmax keeps its
    derivative, as AttnLRP (arXiv:2402.05602). Traps: biases keep their share; alpha-beta hardly changes when the last
    layers are made random.
    """
    return image_gradients.sum(axis=1)
