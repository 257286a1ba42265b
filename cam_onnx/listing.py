"""The commands that list what there is: operators, methods, kinds of targets, colour maps."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cam_onnx import arguments, files, printing
from cam_onnx.errors import InputError, shown
from cam_onnx.places import PICTURES

__all__ = ["colormaps", "methods", "operators", "targets"]


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

    printing.table(["word", "what is explained"], [("CLASS", "the logit of a class: index or name"), *WORDS.items()])
    return 0


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
