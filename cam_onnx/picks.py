"""Which boxes or letters are explained: chosen in the rows of a file's values, when the picture has been seen.

An entry of the values is a row and a class: ``row * C + class``. Boxes are suppressed as detectors do, so that each
thing has one; letters are read along CTC's greedy path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx.contract import Contract
from cam_onnx.engine.evidence import Evidence
from cam_onnx.engine.layout import picture_size
from cam_onnx.errors import InputError
from cam_onnx.kinds import Boxes, Kind

__all__ = ["boxes", "letters", "picked", "placed"]

Array = NDArray[Any]
Placed = tuple[float, float, float, float]

OVERLAP = 0.5  # boxes of one class that overlap by more are one thing
SURE = 0.25  # of boxes behind the first
LOOKED_AT = 1000  # entries, best first


def picked(kind: Kind | None, contract: Contract, found: Evidence, wanted: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the entries of every sample: `wanted` are its classes, -1 for any.

    Raises
    ------
    InputError
        The class that stands for nothing.
    """
    chosen: list[list[int]] = []
    for i, classes in enumerate(wanted):
        values, group = found.logits[i], []
        for cls in classes:
            if cls == contract.nothing != -1:
                raise InputError(
                    f"target: class {cls} of this detector stands for nothing, and no box has a score of it: give "
                    "another class, or none for any (boxes)"
                )
            if contract.target.get("kind") == "letters":
                group += letters(values, contract.each, cls)
            else:
                count = kind.count if isinstance(kind, Boxes) else 1
                scores = shares(values, contract.activation)
                group += boxes(scores, found.boxes[i], contract.each, count, cls)
        chosen.append(group)
    return chosen


def shares(values: Array, activation: str) -> Array:
    """Return numbers within 0 and 1 that order as the values do."""
    if activation == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))
    if values.size and values.max() <= 0 and values.min() < 0:  # logarithms of probabilities
        return np.asarray(np.exp(values))
    return values


def boxes(scores: Array, corners: Array, each: int, count: int, cls: int = -1) -> list[int]:
    """Return the entries of the best boxes, best first, at least one.

    Parameters
    ----------
    scores : array (A * C,)
    corners : array (A, 4), (A * C, 4) where each class has a box of its own, or (0, 4) where they are not known: then
        each row counts as a place of its own.
    each : int
        C.
    count : int
        At most.
    cls : int
        -1: any.
    """
    entries = np.arange(len(scores)) if cls < 0 else np.arange(cls, len(scores), each)
    best = entries[np.argsort(-scores[entries], kind="stable")[:LOOKED_AT]]
    kept: list[int] = []
    for entry in map(int, best):
        row, own = divmod(entry, each)
        if len(kept) == count or (kept and scores[entry] < SURE):
            break
        if any(row == other // each for other in kept):
            continue
        near = [other for other in kept if own == other % each] if len(corners) else []
        if not near:
            kept.append(entry)
            continue
        here, *others = (_corner(corners, len(scores), other, each) for other in (entry, *near))
        if all(_iou(here, other) <= OVERLAP for other in others):
            kept.append(entry)
    return kept


def _corner(corners: Array, entries: int, entry: int, each: int) -> Array:
    """Return the box of an entry: its own, or its row's."""
    found: Array = corners[entry if len(corners) == entries else entry // each]
    return found


def letters(values: Array, each: int, cls: int = -1) -> list[int]:
    """Return the entries of the letters that are read, in order: blanks skipped, repeats one letter.

    The blank is the first class or the last, whichever is read at more positions. Where nothing is read, the entry of
    the likeliest letter.

    Parameters
    ----------
    values : array (T * C,)
    each : int
        C.
    cls : int
        -1: every letter.
    """
    table = values.reshape(-1, each)
    read = table.argmax(axis=1)
    blank = 0 if (read == 0).sum() >= (read == each - 1).sum() else each - 1
    powers = np.exp(table - table.max(axis=1, keepdims=True))
    sure = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)
    found, start = [], 0
    for t in range(1, len(read) + 1):
        if t == len(read) or read[t] != read[start]:
            if read[start] != blank and cls in (-1, read[start]):
                at = start + int(sure[start:t].argmax())
                found.append(at * each + int(read[start]))
            start = t
    if not found:
        free = np.delete(table, blank, axis=1) if cls < 0 else table[:, [cls]]
        at, which = divmod(int(free.argmax()), free.shape[1])
        own = cls if cls >= 0 else which + (blank == 0)
        found = [at * each + own]
    return found


def placed(
    found: Evidence, contract: Contract, feeds: Mapping[str, Array], rectangles: Sequence[Any], owner: Sequence[int],
    targets: Sequence[int],
) -> list[Placed | None]:  # fmt: skip
    """Return the box of every entry, (x0, y0, x1, y1) in pixels of the picture; of tensors, of the network's input.

    Parameters
    ----------
    found : Evidence
        With the boxes of every sample.
    feeds : dict of arrays
    rectangles : list of (y0, x0, y1, x1) or None
        What the network sees of every sample's picture.
    owner, targets : sequence of int
        The sample and the entry of every explanation.
    """
    size = picture_size(contract, feeds)
    if not contract.each or size is None or len(size) != 2 or not found.boxes.shape[1]:
        return [None] * len(targets)
    height, width = size
    result: list[Placed | None] = []
    for i, target in zip(owner, targets, strict=True):
        corners = found.boxes[i]
        x0, y0, x1, y1 = map(float, _corner(corners, found.logits.shape[1], target, contract.each))
        if np.abs(corners).max() > 2:  # else in parts of the picture already
            x0, y0, x1, y1 = x0 / width, y0 / height, x1 / width, y1 / height
        top, left, bottom, right = (0.0, 0.0, height, width) if rectangles[i] is None else rectangles[i]
        down, across = bottom - top, right - left
        result.append((left + x0 * across, top + y0 * down, left + x1 * across, top + y1 * down))
    return result


def _iou(a: Array, b: Array) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return float(both / union) if union > 0 else 1.0
