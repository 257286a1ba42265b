"""What the command line writes: results to stdout, everything else to stderr. rich is imported where it draws.

Names come from files, so every cell and line is made safe to print: no control character, no markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cam_onnx.errors import shown

__all__ = ["be_quiet", "dump", "duration", "error", "is_quiet", "line", "note", "strips", "table", "warning"]

_quiet = False


def be_quiet(quiet: bool) -> None:
    """Leave out notes and progress (`--quiet`), or not: one process is one command line."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Return whether notes and progress are left out."""
    return _quiet


def line(text: str = "") -> None:
    """Print one line of results."""
    print(shown(text, limit=2000))


def note(text: str) -> None:
    """Say on stderr what was chosen, raised or guessed."""
    if not _quiet:
        print(f"note: {shown(text, limit=2000)}", file=sys.stderr)


def warning(text: str) -> None:
    """Say on stderr what makes the result doubtful."""
    print(f"warning: {shown(text, limit=2000)}", file=sys.stderr)


def error(text: str) -> None:
    """Say on stderr what failed while the rest goes on."""
    print(f"cam-onnx: {shown(text, limit=2000)}", file=sys.stderr)


def dump(value: Any) -> None:
    """Print a result for machines: JSON, where NaN is null."""
    print(json.dumps(_finite(value), indent=1, ensure_ascii=True, allow_nan=False))


def duration(seconds: float) -> str:
    """Return ``12.3 ms`` or ``1.23 s``."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table: drawn on a terminal, columns of plain text elsewhere. Numbers stand on the right."""
    cells = [list(row) for row in rows]
    right = [all(isinstance(row[i], (int, float)) for row in cells) for i in range(len(headers))]
    texts = [[f"{c:.3f}" if isinstance(c, float) else shown(c) for c in row] for row in cells]
    if sys.stdout.isatty():
        _draw(headers, texts, right, title)
        return
    if title:
        line(title)
    widths = [max(len(row[i]) for row in [list(headers), *texts]) for i in range(len(headers))]
    for row in [list(headers), *texts]:
        columns = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        line("  " + "  ".join(columns).rstrip())


def strips(names: Sequence[str], colours: Callable[[str], Iterable[Sequence[int]]]) -> None:
    """Print names, one a line; on a terminal each with a strip of its RGB `colours`."""
    if not sys.stdout.isatty():
        for name in names:
            line(name)
        return
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    console, width = Console(), max(map(len, names)) + 2
    for name in names:
        row = Text(name.ljust(width))
        for red, green, blue in colours(name):
            row.append(" ", Style(bgcolor=f"rgb({red},{green},{blue})"))
        console.print(row)


def _draw(headers: Sequence[str], rows: list[list[str]], right: list[bool], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=Text(title) if title else None, title_justify="left")
    for header, to_the_right in zip(headers, right, strict=True):
        drawn.add_column(Text(header), justify="right" if to_the_right else "left")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    Console().print(drawn)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return value
