"""Methods of transformers' attention: how the tokens that the score is read from mix those of the picture.

Attention comes as probabilities P (N, heads, T, T) of every layer, first to last: row i says of which tokens token i is
made. The T tokens are those that stand for nothing in the picture first (class, registers), then the grid's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cam_onnx.errors import InputError
from cam_onnx.methods.table import method

__all__ = ["ROWS", "attention_rollout", "grad_rollout", "legrad"]

ROWS = ("auto", "class", "mean")


@method("attention-rollout", paper="Abnar and Zuidema 2020, arXiv:2005.00928, sec. 3", choices={"row": ROWS})
def attention_rollout(activations: Any, attention: Any, *, row: str = "auto") -> Any:
    """Attention rollout: attention multiplied through the layers: ``prod_l (mean_h P_l + I) / 2``, a row of it.

    Parameters
    ----------
    activations : array (N, K, *S)
        Of a list of tokens; its grid is the map's.
    attention : list of array (N, heads, T, T)
    row : {"auto", "class", "mean"}
        Of the class token, or the mean of all rows; "auto": of the class token where there is one.

    Returns
    -------
    array (N, *S)
        In [0, 1].

    Notes
    -----
    Source: Abnar 2020, arXiv:2005.00928. Trap: it does not depend on the class, and
    hardly on the picture in deep models.
    """
    mixed = [P.mean(axis=1) for P in _checked(attention, activations)]
    eye = np.eye(mixed[0].shape[-1], dtype=mixed[0].dtype)
    total = eye
    for P in mixed:
        total = (P + eye) / 2 @ total
    return _row(total, activations, row)


@method("grad-rollout", paper="Chefer et al. 2021, arXiv:2012.09838, eq. 13 and 14; arXiv:2103.15679, eq. 5 and 6",
        choices={"row": ROWS})  # fmt: skip
def grad_rollout(activations: Any, attention: Any, attention_gradients: Any, *, row: str = "auto") -> Any:
    """Gradient rollout: the same of what speaks for the class: ``prod_l (mean_h relu(dy/dP_l P_l) + I)``, a row of it.

    Parameters
    ----------
    activations : array (N, K, *S)
        Of a list of tokens; its grid is the map's.
    attention, attention_gradients : list of array (N, heads, T, T)
    row : {"auto", "class", "mean"}
        As for attention-rollout.

    Returns
    -------
    array (N, *S)
        Never negative.

    Notes
    -----
    Source: Chefer 2021, arXiv:2012.09838 with attention in the place of its relevance, which is arXiv:2103.15679 for
    self-attention. Trap: with the mean of rows the identity adds the same everywhere.
    """
    found = [_checked(given, activations) for given in (attention, attention_gradients)]
    eye = np.eye(found[0][0].shape[-1], dtype=found[0][0].dtype)
    total = eye
    for P, g in zip(*found, strict=True):
        total = (np.maximum(g * P, 0).mean(axis=1) + eye) @ total
    return _row(total, activations, row)


@method("legrad", paper="Bousselham et al. 2024, arXiv:2404.03214, sec. 3", choices={"row": ROWS})
def legrad(activations: Any, early_gradients: Any, *, row: str = "auto") -> Any:
    """LeGrad: where more attention would raise the score as each layer alone would give it.

    ``M = mean over l and heads of relu(dy_l/dP_l)``, a row of it; y_l is the score read behind layer l.

    Parameters
    ----------
    activations : array (N, K, *S)
        Of a list of tokens; its grid is the map's.
    early_gradients : list of array (N, heads, T, T)
    row : {"auto", "class", "mean"}
        As for attention-rollout.

    Returns
    -------
    array (N, *S)
        Never negative.

    Notes
    -----
    Source: Bousselham 2024, arXiv:2404.03214. Where the class token alone is read, the other rows have no derivative,
    and the mean of rows is the class token's divided by their number. Trap: attention that falls to zero everywhere may
    still have a derivative.
    """
    found = _checked(early_gradients, activations)
    return _row(sum(np.maximum(g, 0).mean(axis=1) for g in found) / len(found), activations, row)


def _checked(given: Any, activations: Any) -> list[Any]:
    """Return (N, heads, T, T) of every layer.

    Raises
    ------
    InputError
        None, or over other tokens than the layer's list.
    """
    found = [P[:, None] if P.ndim == 3 else P for P in given]
    grid, count = math.prod(activations.shape[2:]), len(activations)
    sizes = {P.shape[2:] for P in found}
    if len(sizes) != 1 or any(P.ndim != 4 or len(P) != count or P.shape[-1] != P.shape[-2] for P in found):
        shapes = ", ".join(str(P.shape) for P in found[:4]) or "none"
        raise InputError(f"expected attention (N, heads, T, T) of one T in every layer and N = {count}, got {shapes}: "
                         "attention within windows or between lists of other lengths cannot be rolled out")  # fmt: skip
    [(tokens, _)] = sizes
    if tokens < grid:
        raise InputError(
            f"the layer has {grid} positions, and attention is over {tokens} tokens: name a layer that is a list of "
            "these tokens (cam-onnx inspect lists them)"
        )
    return found


def _row(total: Any, activations: Any, row: str) -> Any:
    grid = activations.shape[2:]
    others = total.shape[-1] - math.prod(grid)
    if row == "class" and not others:
        raise InputError("option row is 'class', and all tokens are positions of the picture: take mean")
    one = total.mean(axis=1) if row == "mean" or not others else total[:, 0]
    return one[:, others:].reshape(len(total), *grid)
