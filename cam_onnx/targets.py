"""What a caller names as the target: a kind of score, and class indices in it: -1, an index, a class name, one or
several per sample, ``top:K``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from cam_onnx.contract import Contract
from cam_onnx.engine import Tensor
from cam_onnx.errors import InputError, UnknownName, did_you_mean, shown
from cam_onnx.kinds import Kind
from cam_onnx.words import from_word

__all__ = ["OF_VALUES", "classes", "count", "ranks", "resolve", "saturated", "split", "spoken", "with_ranks"]


OF_VALUES = ("value", "unit", "similarity", "mask", "peak", "pixel", "box", "detection", "position", "expression",
             "boxes", "letters")  # fmt: skip
"""Kinds whose score is an entry of values that the file computes; those of the others are made of the class's logit."""

NEAR_ONE = 0.99


def saturated(contract: Contract, score: Any) -> list[str]:
    """Say where a probability is so near to 1 (or 0) that its derivative vanishes."""
    if contract.target.get("kind") != "probability":
        return []
    return [
        f"the probability is {p:.4g}: its derivative nearly vanishes, and the map may be rounding: explain the logit"
        for p in map(float, score)
        if not 1 - NEAR_ONE < p < NEAR_ONE
    ]


def spoken(contract: Contract, index: int, name: str, outputs: int) -> str:
    """Return what was explained, in words: where there is no class to choose, not class 0.

    Parameters
    ----------
    contract : Contract
    index : int
        Of the class.
    name : str
        Its name, or its number where no name is known.
    outputs : int
        From how many it was chosen.
    """
    kind = contract.target
    if kind.get("kind") == "unit":
        return f"{'not ' if kind.get('absent') else ''}unit {kind.get('index')}"
    if kind.get("kind") == "expression":
        return str(kind.get("text"))
    if kind.get("kind") == "similarity":
        return "similarity to the reference"
    known = name != str(index)
    if outputs != 1:
        return name if known else f"class {index}"
    said = name if known else "the model's value" if kind.get("kind") == "value" else "the model's output"
    return f"{said}, what lowers it" if kind.get("lower") else said


def split(target: Any, labels: Sequence[str] | None) -> tuple[Kind | None, Any]:
    """Return the kind of a target (None: that of the file) and the class or classes in it.

    A class's name wins over a kind's word. A list may hold several of one kind.

    Raises
    ------
    InputError
        Different kinds in one call; a word with an argument that does not fit.
    """
    if isinstance(target, (list, tuple)):
        parts = [split(entry, labels) for entry in target]
        found = {None if kind is None else str(kind.to_dict()) for kind, _ in parts}
        if len(found) > 1:
            raise InputError("target: several kinds in one call; explain them one after the other")
        return (parts[0][0] if parts else None), [of for _, of in parts]
    if isinstance(target, str) and not (labels is not None and target.strip().casefold() in map(str.casefold, labels)):
        target = from_word(target) or target
    return (target, target.of) if isinstance(target, Kind) else (None, target)


def count(word: Any) -> int:
    """Return how many classes a word stands for: K for ``top:K``, also behind a kind's word, else 1.

    Raises
    ------
    InputError
        What follows ``top:`` is no number above 0.
    """
    text = word.strip().casefold() if isinstance(word, str) else ""
    if found := re.fullmatch(r"(?:.+:)?top:([1-9]\d{0,5})", text):
        return int(found[1])
    if text.startswith("top:"):
        raise InputError(f"target {shown(word)!r}: expected top:K, K the number of classes")
    return 1


def ranks(target: Any, contract: Contract) -> bool:
    """Return whether the classes depend on the scores: ``top:K``, which is no class's name.

    Raises
    ------
    InputError
        The kind of target leaves no class to choose by its logit; see also `count`.
    """
    if isinstance(target, (list, tuple)):
        return any(ranks(entry, contract) for entry in target)
    names = [label.casefold() for label in contract.labels or ()]
    if not isinstance(target, str) or not target.casefold().startswith("top:") or target.casefold() in names:
        return False
    if (kind := contract.target.get("kind")) in OF_VALUES and kind != "peak":
        raise InputError(f"target {shown(target)!r}: of kind {kind} the classes have no order of their own, name them")
    return count(target) > 0


def with_ranks(target: Any, logits: Any, contract: Contract) -> list[list[Any]]:
    """Return the classes of every sample, those of the highest logits in the place of ``top:K``.

    Raises
    ------
    InputError
        There are fewer classes.
    """
    rows = list(target) if isinstance(target, (list, tuple)) else [target]
    groups = [list(row) if isinstance(row, (list, tuple)) else [row] for row in rows]
    groups = groups * len(logits) if len(groups) == 1 else groups
    found = []
    for row, group in zip(logits, groups, strict=False):
        order = np.argsort(-row, kind="stable").tolist()
        chosen: list[Any] = []
        for entry in group:
            if ranks(entry, contract):
                if count(entry) > len(order):
                    raise InputError(f"target {shown(entry)!r}: the model has {len(order)} classes")
                chosen += order[: count(entry)]
            else:
                chosen.append(entry)
        found.append(chosen)
    return found + groups[len(found) :]


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
    exact = [i for i, label in enumerate(labels) if label == name]  # of letters, o is not O
    found = exact or [i for i, label in enumerate(labels) if label.casefold() == folded]
    if not found:
        raise UnknownName(f"no class is called {shown(name)!r}{did_you_mean(name, labels)}")
    if len(found) > 1:
        raise InputError(f"{len(found)} classes are called {shown(name)!r} (indices {found}): give the index")
    return found[0]
