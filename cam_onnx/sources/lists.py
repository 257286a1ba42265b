"""Plain lists of class names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cam_onnx.sources.table import Said, Subject

__all__ = ["beside", "lines"]

NAMES = ("labels.txt", "classes.txt")


def beside(subject: Subject) -> Iterator[Said]:
    """labels.txt, classes.txt or ``<model>.txt`` beside the model: one name a line."""
    for name in (*NAMES, f"{subject.beside.stem}.txt"):
        text = subject.beside.text(name)
        if text is not None and (found := lines(text)):
            yield Said(name, labels=found)


def lines(text: str) -> tuple[str, ...] | None:
    """Return one name a line; an index before every name (``0 tench``, ``1: goldfish``) is left out."""
    found = [line.strip() for line in text.replace("\r\n", "\n").split("\n")]
    while found and not found[-1]:
        found.pop()
    numbered = [re.fullmatch(rf"0*{index}\s*[\s:,;=]\s*(.+)", line) for index, line in enumerate(found)]
    if len(found) > 1 and all(numbered):
        found = [match[1] for match in numbered if match]
    return tuple(found) or None
