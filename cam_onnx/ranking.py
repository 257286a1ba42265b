"""What the network says of every class, as it is shown beside a map."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx.contract import Contract
from cam_onnx.picks import shares

__all__ = ["of_classes", "of_entries"]

Array = NDArray[Any]


def of_entries(logits: Array, contract: Contract) -> Array | None:
    """Return the probability of every entry of the logits, (N, C'): None for a single output.

    Of a segmentation's areas, the areas; of letters, the softmax at each position. Peaks are values of maps, which a
    softmax over the classes would not make probabilities.
    """
    values = logits.astype(np.float64)
    kind = contract.target.get("kind")
    if kind == "area":
        return values if values.shape[1] > 1 else None
    if kind == "boxes":
        return np.stack([shares(row, contract.activation) for row in values])
    if contract.activation == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))
    if values.shape[1] < 2 or kind == "peak":
        return None
    table = values.reshape(len(values), -1, contract.each) if contract.each else values
    with np.errstate(invalid="ignore"):  # NaN logits give NaN probabilities
        powers = np.exp(table - table.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True)).reshape(values.shape)


def of_classes(logits: Array, contract: Contract) -> Array:
    """Return the best of every class, (N, C), of all boxes or letters; of a single output, its value."""
    found = of_entries(logits, contract)
    entries = logits if found is None else found
    return entries.reshape(len(entries), -1, contract.each).max(axis=1) if contract.each else entries
