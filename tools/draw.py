"""Draw a converted model as SVG: the original on the left, and what was added on the right, beside what it belongs to.

    python -m tools.draw gap_linear --layer b -o drawing.svg     a network of models/builders.py, or a .onnx file
    python -m tools.draw --docs                                  the pictures of docs/

One row is one original node. Added nodes are named after the value that they belong to, ``grad/<value>/<operator>``;
all of one value are one box, in its row. Written by hand: a picture of twenty boxes needs no library.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import cam_onnx
from cam_onnx import files
from models.builders import BUILDERS

IMAGES = Path(__file__).parent.parent / "docs" / "images"
DOCS = {"gap_linear_features.svg": ("gap_linear", None), "gap_linear_b.svg": ("gap_linear", "b")}

ROW, LEFT, RIGHT, WIDTH, HEIGHT, PAGE = 78, 210, 570, 250, 46, 1030  # pixels
STYLE = """
  text { font-family: "DejaVu Sans", Verdana, sans-serif; font-size: 13px; fill: #222 }
  .small { font-size: 11px; fill: #555 }
  .original { fill: #e4ecf5; stroke: #5b7896 }
  .added { fill: #fdebd3; stroke: #c77a1e }
  .layer { stroke-width: 3 }
  .name { fill: white; stroke: #888 }
  .out { stroke: #888 }
  .flow { fill: none; stroke: #5b7896; stroke-width: 1.5; marker-end: url(#blue) }
  .back { fill: none; stroke: #c77a1e; stroke-width: 1.5; marker-end: url(#orange) }
  .read { fill: none; stroke: #c77a1e; stroke-width: 1.2; stroke-dasharray: 4 3; marker-end: url(#orange) }
"""


@dataclass
class Box:
    """One rectangle: an original node, or the added nodes of one value."""

    key: str
    added: bool
    row: int = 0
    operators: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)


@dataclass
class Drawing:
    """What is drawn: boxes, which box gives which value, and what stands outside as a name."""

    boxes: list[Box]
    givers: dict[str, Box]
    inputs: list[str]
    outputs: dict[str, str]  # of the model: its name to the value that it shows
    layers: set[str]


def arrange(converted: cam_onnx.Converted) -> Drawing:
    """Sort the nodes of a converted model into boxes and rows."""
    graph = converted.model.graph
    layers = {layer.name for layer in converted.contract.layers}
    roles = converted.contract.roles
    shown = {layer.activations: layer.name for layer in converted.contract.layers}
    boxes: dict[str, Box] = {}
    givers: dict[str, Box] = {}
    aliases: dict[str, str] = {}
    for node in graph.node:
        added = node.name.startswith(("grad/", "cam"))
        if node.op_type == "Identity" and added:  # gives an added output its name
            aliases[node.output[0]] = node.input[0]
            continue
        key = (node.name.rpartition("/")[0] or node.name) if added else node.output[0]
        box = boxes.setdefault(key, Box(key, added))
        box.operators.append(node.op_type)
        box.outputs += node.output
        box.reads += [name for name in node.input if name]
        givers.update(dict.fromkeys(node.output, box))
    originals = [box for box in boxes.values() if not box.added]
    for row, box in enumerate(originals, start=1):
        box.row = row
    for box in boxes.values():
        if box.added:
            owner = givers.get(box.key.removeprefix("grad/"))
            box.row = owner.row if owner and not owner.added else len(originals) + 1
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in weights or value.name == roles["target"]]
    outputs = {o.name: aliases.get(o.name, shown.get(o.name, o.name)) for o in graph.output}
    return Drawing(list(boxes.values()), givers, inputs, outputs, layers)


def svg(drawing: Drawing) -> str:
    """Return the picture."""
    height = ROW * (max(box.row for box in drawing.boxes) + 1) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PAGE} {height}" width="{PAGE}" height="{height}">',
        f"<style>{STYLE}</style><defs>{_arrow('blue', '#5b7896')}{_arrow('orange', '#c77a1e')}</defs>",
        f'<rect width="{PAGE}" height="{height}" fill="white"/>',
        _text(LEFT + WIDTH // 2, 24, "the original model, as it was"),
        _text(RIGHT + WIDTH // 2, 24, "added (dashed: reads a value of the original)"),
        *_edges(drawing),
        *(line for box in drawing.boxes for line in _box(box, drawing)),
        *_names(drawing),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _edges(drawing: Drawing) -> Iterator[str]:
    for box in drawing.boxes:
        for giver in _distinct(drawing.givers[name] for name in box.reads if name in drawing.givers):
            if giver is box:
                continue
            if giver.added == box.added:
                yield _same_side(giver, box)
            else:
                start, end = _y(giver) + HEIGHT // 2, _y(box) + HEIGHT // 2
                middle = (LEFT + WIDTH + RIGHT) // 2
                yield _path("read", f"M{LEFT + WIDTH},{start} C{middle},{start} {middle},{end} {RIGHT - 2},{end}")


def _same_side(giver: Box, box: Box) -> str:
    x, kind = (RIGHT, "back") if box.added else (LEFT, "flow")
    down = box.row > giver.row
    if abs(box.row - giver.row) == 1:
        start, end = _y(giver) + HEIGHT * down, _y(box) + HEIGHT * (not down) + (-2 if down else 2)
        return _path(kind, f"M{x + WIDTH // 2},{start} V{end}")
    edge, bend = (x + WIDTH, 40) if box.added else (x, -40)  # around what lies between
    start, end = _y(giver) + HEIGHT // 2, _y(box) + HEIGHT // 2
    return _path(kind, f"M{edge},{start} C{edge + bend},{start} {edge + bend},{end} {edge},{end}")


def _box(box: Box, drawing: Drawing) -> Iterator[str]:
    x, y = RIGHT if box.added else LEFT, _y(box)
    names = [name for name in box.outputs if name in drawing.layers]
    style = ("added" if box.added else "original") + (" layer" if names else "")
    yield f'<rect class="{style}" x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
    if not box.added:
        yield _text(x + WIDTH // 2, y + 19, box.operators[0])
        yield _text(x + WIDTH // 2, y + 36, ", ".join(box.outputs) + (" (target layer)" if names else ""), "small")
        return
    weights = [name for name in box.reads if name not in drawing.givers and not name.startswith(("grad/", "cam"))]
    title = "which class, and its score" if box.key == "cam" else box.key
    yield _text(x + WIDTH // 2, y + 19, title + (f" (reads {', '.join(dict.fromkeys(weights))})" if weights else ""))
    listed = _distinct(box.operators)
    several = f"{len(box.operators)} nodes: {', '.join(listed[:3])}, ..." if len(listed) > 3 else ", ".join(listed)
    yield _text(x + WIDTH // 2, y + 36, several, "small")


def _names(drawing: Drawing) -> Iterator[str]:
    """Inputs and outputs of the model, as names beside the box that takes or gives them."""
    used: dict[int, int] = {}
    for name in drawing.inputs:
        for box in [box for box in drawing.boxes if name in box.reads][:1]:
            x, y = (RIGHT if box.added else LEFT) + WIDTH // 2, _y(box)
            start, way = (y + HEIGHT + 26, -1) if box.added else (y - 26, 1)
            yield _pill(x, start, name)
            end = y + HEIGHT + 2 if box.added else y - 2
            yield _path("back" if box.added else "flow", f"M{x},{start + 11 * way} V{end}")
    for name, value in drawing.outputs.items():
        box = drawing.givers[value]
        count = used[id(box)] = used.get(id(box), -1) + 1
        x, edge = (RIGHT + WIDTH + 130, RIGHT + WIDTH) if box.added else (LEFT - 130, LEFT)
        y = _y(box) + HEIGHT // 2 + 26 * count
        yield _path("out", f"M{edge},{_y(box) + HEIGHT // 2} L{x},{y}")
        yield _pill(x, y, name)


def _pill(x: float, y: float, name: str) -> str:
    width = 12 + 7 * len(name)
    return f'<rect class="name" x="{x - width // 2}" y="{y - 11}" width="{width}" height="22" rx="11"/>' + _text(
        x, y + 4, name, "small"
    )


def _text(x: float, y: float, text: str, style: str = "") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text x="{x}" y="{y}" text-anchor="middle"{named}>{escape(text)}</text>'


def _path(style: str, d: str) -> str:
    return f'<path class="{style}" d="{d}"/>'


def _arrow(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" fill="{colour}"/></marker>'
    )


def _y(box: Box) -> int:
    return ROW * box.row


def _distinct(items: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if not any(item is one or (isinstance(item, str) and item == one) for one in found):
            found.append(item)
    return found


def draw(model: str, layer: str | None = None) -> str:
    """Convert a builder's network or a file, and return the picture."""
    source = BUILDERS[model]() if model in BUILDERS else model
    return svg(arrange(cam_onnx.convert(source, layers=layer)))


def main(argv: list[str] | None = None) -> int:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tools.draw", description="Draw a converted model as SVG.")
    parser.add_argument("model", nargs="?", help=f"a .onnx file, or one of {', '.join(BUILDERS)}")
    parser.add_argument("--layer", help="target layer (default: found on the graph)")
    parser.add_argument("-o", "--out", help="default: standard output")
    parser.add_argument("--docs", action="store_true", help="draw the pictures of docs/")
    options = parser.parse_args(argv)
    if options.docs:
        for name, (model, layer) in DOCS.items():
            files.write(IMAGES / name, draw(model, layer).encode())
        return 0
    if options.model is None:
        parser.error("name a model, or --docs")
    try:
        picture = draw(options.model, options.layer)
        if options.out:
            files.write(options.out, picture.encode())
        else:
            sys.stdout.write(picture)
    except cam_onnx.CamOnnxError as error:
        parser.exit(error.exit_code, f"tools.draw: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
