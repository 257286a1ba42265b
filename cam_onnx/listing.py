"""What lists what there is: operators, methods, kinds of targets, colour maps, the layers of a model."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cam_onnx import arguments, files, printing
from cam_onnx.errors import InputError, shown
from cam_onnx.places import PICTURES

if TYPE_CHECKING:
    from cam_onnx.graph.inspect import Candidate, Report

__all__ = ["colormaps", "layers", "methods", "operators", "sizes", "targets"]

ROWS = 30  # of candidate layers, where not all are asked for


def operators(options: argparse.Namespace) -> int:
    """List operators with how they are differentiated."""
    from cam_onnx.graph.operators import operators as known

    rows = known(options.model, score=options.score, limits=arguments.limits(options))
    if options.json:
        printing.dump([asdict(row) for row in rows])
        return 0
    head = ["operator", "versions", "how", "with respect to", "order"]
    lines = [
        (
            f"{row.domain}::{row.name}" if row.domain else row.name,
            ", ".join(map(str, row.versions)),
            f"{row.how}: {row.reason}" if row.reason else row.how,
            ", ".join(row.inputs),
            str(row.order),
        )
        for row in rows
    ]
    if options.model is not None:
        head.append("nodes")
        lines = [(*line, str(row.count)) for line, row in zip(lines, rows, strict=True)]  # type: ignore[misc]
    printing.table(head, lines)
    return 0


def methods(options: argparse.Namespace) -> int:
    """List the registry."""
    from cam_onnx.methods import METHODS

    if options.json:
        names = ("name", "needs", "options", "cost", "at", "target", "relu", "paper", "summary")
        printing.dump([{name: getattr(entry, name) for name in names} for entry in METHODS.values()])
        return 0
    rows = [
        (m.name, ", ".join(m.needs), ", ".join(f"{k}={v}" for k, v in m.options.items()), m.cost, m.paper)
        for m in METHODS.values()
    ]
    printing.table(["name", "needs", "options", "it runs", "paper"], rows)
    return 0


def targets(options: argparse.Namespace) -> int:
    """List the kinds of targets by their words."""
    from cam_onnx.words import WORDS

    classes = ("CLASS", "the logit of a class: index or name; top:K: each of the K highest")
    printing.table(["word", "what is explained"], [classes, *WORDS.items()])
    return 0


def layers(report: Report, every: bool) -> None:
    """Print the default layers of a model, and its candidates: all, or those with a mark and the last ones."""
    found = report.candidates
    for entry in found:
        if entry.name in report.layers:
            where = f"index {entry.index}, {sizes(entry.grid)}"
            printing.line(f"layer: {entry.name}, {where}{_stride(entry, ', stride ')}: {report.why}")
    if not found:
        return
    marked = sum(bool(entry.marks) for entry in found)
    first = 0 if every or len(found) <= ROWS else len(found) - max(ROWS - marked, 5)
    rows: list[tuple[object, ...]] = []
    left = 0
    for entry in found:
        if entry.index < first and not entry.marks:
            left += 1
            continue
        if left:
            rows.append(("", f"... {left} more", "", "", "", "", ""))
        left = 0
        cells = (str(entry.index), entry.name, entry.op_type, sizes(entry.shape), sizes(entry.grid), _stride(entry))
        rows.append((*cells, ", ".join(entry.marks)))
    title = f"candidate layers: {len(found)}{'' if not first else ', of which the last ones and those with a mark'}"
    printing.table(["index", "name", "operator", "shape", "grid", "stride", ""], rows, title)
    if first:
        printing.line("--all lists every one")


def sizes(shape: tuple[int | str | None, ...] | None) -> str:
    """Return a shape as tables show it."""
    return "?" if shape is None else " x ".join("?" if d is None else str(d) for d in shape)


def _stride(entry: Candidate, before: str = "") -> str:
    if entry.stride is None:
        return ""
    numbers = [f"{stride:.4g}" for stride in entry.stride]
    return before + (numbers[0] if len(set(numbers)) == 1 else " x ".join(numbers))


def colormaps(options: argparse.Namespace) -> int:
    """List the colour maps, and draw them."""
    from cam_onnx.render.colormap import COLORMAPS

    if options.out:
        if Path(options.out).suffix.lower() not in PICTURES:
            raise InputError(f"{shown(options.out)}: no picture's suffix: use {', '.join(PICTURES)}")
        files.check_writable(options.out)
    printing.strips(COLORMAPS, _colours)
    if options.out:
        from cam_onnx.render import image, swatches

        image.save(options.out, swatches.sheet())
        printing.line(f"wrote: {options.out}")
    return 0


def _colours(name: str) -> Any:
    from cam_onnx.render.swatches import strip

    return strip(name, 40)[0]
