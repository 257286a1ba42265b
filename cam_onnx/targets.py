"""What a caller names as the target, as class indices: -1, an index, a class name, one or several per sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cam_onnx.contract import Contract
from cam_onnx.engine import Tensor
from cam_onnx.errors import InputError, UnknownName, did_you_mean, shown

__all__ = ["classes", "resolve"]


def resolve(target: Any, samples: int, classes: int | None, labels: Sequence[str] | None) -> list[list[int]]:
    """Return the class indices to explain, a list per sample; -1 stays for the predicted class.

    Parameters
    ----------
    target : int, str, flat sequence (length 1 or N), or nested sequence (several targets of one sample)
    samples : int
        N.
    classes : int or None
        C', or None where the model leaves it open.
    labels : sequence of str or None

    Raises
    ------
    InputError
        Out of range, of another type, or a length that is neither 1 nor N.
    UnknownName
        A class name that no label has.
    """
    if isinstance(target, np.ndarray):
        target = target.tolist()
    rows = list(target) if isinstance(target, (list, tuple, range)) else [target]
    nested = [list(row.tolist() if isinstance(row, np.ndarray) else row) for row in rows if _is_sequence(row)]
    if nested and len(nested) < len(rows):
        raise InputError(f"target {shown(target)}: either every entry is a list of targets or none is")
    groups = nested or [[row] for row in rows]
    if not all(groups):
        raise InputError(f"target {shown(target)}: no target for sample {groups.index([])}; -1 is the predicted class")
    if len(groups) not in (1, samples):
        raise InputError(
            f"target has {len(groups)} entries for {samples} sample{'s'[: samples != 1]}: one for all, or one for each"
        )
    resolved = [[_index(entry, classes, labels) for entry in group] for group in groups]
    return resolved * samples if len(resolved) < samples else resolved


def classes(outputs: Sequence[Tensor], contract: Contract) -> int | None:
    """Return how many classes the logits of a converted model have, or None where it leaves them open."""
    logits = next((t for t in outputs if t.name == contract.roles["logits"]), None)
    if logits is None or logits.shape is None:
        return None
    dims = logits.shape if contract.single else logits.shape[1:]
    return int(np.prod([d for d in dims if isinstance(d, int)])) if all(isinstance(d, int) for d in dims) else None


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple, range)) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _index(entry: Any, classes: int | None, labels: Sequence[str] | None) -> int:
    if isinstance(entry, str):
        return _named(entry, labels)
    if isinstance(entry, (bool, np.bool_)) or not isinstance(entry, (int, np.integer)):
        raise InputError(f"target {shown(entry)}: expected a class index, -1 (the predicted class) or a class name")
    index = int(entry)
    if index < -1 or (classes is not None and index >= classes):
        last = "" if classes is None else f" to {classes - 1}"
        raise InputError(f"target {index} is out of range: -1 (the predicted class), or 0{last}")
    return index


def _named(name: str, labels: Sequence[str] | None) -> int:
    if labels is None:
        raise InputError(f"target {shown(name)!r}: class names are not known here; give labels, or a class index")
    folded = name.strip().casefold()
    found = [i for i, label in enumerate(labels) if label.casefold() == folded]
    if not found:
        raise UnknownName(f"no class is called {shown(name)!r}{did_you_mean(name, labels)}")
    if len(found) > 1:
        raise InputError(f"{len(found)} classes are called {shown(name)!r} (indices {found}): give the index")
    return found[0]
