"""The floors of the package as a drawing and as a table, read from the test that guards them and from the modules.

python -m tools.floors      writes docs/images/floors.svg; tools.examples writes the table
"""

from __future__ import annotations

import ast
import sys
from html import escape
from pathlib import Path
from typing import Any

from cam_onnx import files

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cam_onnx"
IMAGE = ROOT / "docs" / "images" / "floors.svg"

WHAT = ["contract, errors, limits, files", "pictures", "mathematics", "models", "the façade", "the command line"]
WIDTH, HEIGHT, GAP = 860, 64, 22
STYLE = """
  text { font-family: "DejaVu Sans", Verdana, sans-serif; font-size: 14px; fill: #222 }
  .small { font-size: 11.5px; fill: #555 }
  rect { fill: #e4ecf5; stroke: #5b7896 }
  path { stroke: #5b7896; stroke-width: 1.5; marker-end: url(#down) }
"""


def floors() -> list[list[str]]:
    """Return the units of every floor, the lowest first, as tests/test_floors.py has them."""
    return [sorted(units) for units in _stated("FLOORS")]


def _stated(name: str) -> Any:
    tree = ast.parse((ROOT / "tests" / "test_floors.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    raise SystemExit(f"tests/test_floors.py has no {name}")


def says(path: Path) -> str:
    """Return the first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = " ".join(text.split("\n\n")[0].split())
    return sentence.partition(". ")[0].rstrip(".:").replace("|", "\\|").replace("*", "\\*")


def table() -> str:
    """Return one row a module, the highest floor first."""
    rows = ["| floor | module | what it is |", "|---|---|---|"]
    for number, units in reversed(list(enumerate(floors()))):
        for unit in units:
            paths = sorted((PACKAGE / unit).rglob("*.py")) or [PACKAGE / f"{unit}.py"]
            for path in paths:
                name = path.relative_to(PACKAGE).as_posix().removesuffix("/__init__.py").removesuffix(".py")
                rows.append(f"| {number} | `{name}` | {says(path)} |")
    return "\n".join(rows)


def svg() -> str:
    """Return the drawing: one band a floor, arrows where imports may go."""
    found, together = floors(), _stated("OPEN_WITHIN")
    height = (HEIGHT + GAP) * len(found) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="down" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">',
        '<path d="M0,0 L8,4 L0,8 z" style="fill: #5b7896; stroke: none; marker-end: none"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" style="fill: white; stroke: none"/>',
    ]
    for number, units in enumerate(found):
        y = (HEIGHT + GAP) * (len(found) - 1 - number) + GAP
        parts.append(f'<text x="16" y="{y + 30}">{number}</text>')
        parts.append(f'<text class="small" x="16" y="{y + 48}">{escape(WHAT[number])}</text>')
        # apart: they never import each other; reversed on floor 3, so that graph stands above autodiff
        names = [", ".join(units)] if number in together else sorted(units, reverse=number == 3)
        width = (WIDTH - 240 - 20 * (len(names) - 1)) // len(names)
        for i, name in enumerate(names):
            x = 224 + i * (width + 20)
            parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="6"/>')
            lines = _wrapped(name, width // 9)
            top = y + HEIGHT // 2 + 5 - 9 * (len(lines) - 1)
            parts += [
                f'<text x="{x + width // 2}" y="{top + 18 * k}" text-anchor="middle">{escape(line)}</text>'
                for k, line in enumerate(lines)
            ]
            if number < len(found) - 1:
                parts.append(f'<path d="M{x + width // 2},{y - GAP} v{GAP - 2}"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def main() -> int:
    """Write the drawing."""
    files.write(IMAGE, svg().encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
