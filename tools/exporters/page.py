"""Tables of docs/exporters.md that commands write a row at a time: rows that were not made again stay."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cam_onnx import files

__all__ = ["PAGE", "put", "table"]

PAGE = Path(__file__).parent.parent.parent / "docs" / "exporters.md"


def table(mark: str) -> list[str]:
    """Return the lines between ``<!-- mark:begin -->`` and its end: two of the header, then rows."""
    return _found(mark, PAGE.read_text(encoding="utf-8"))[2].splitlines()


def put(mark: str, header: str, keys: Sequence[str], rows: Mapping[str, str]) -> None:
    """Write a table: the header's columns, then of every key (what a row begins with) the new row or the old one."""
    text = PAGE.read_text(encoding="utf-8")
    found = _found(mark, text)
    old = {key: line for key in keys for line in found[2].splitlines() if line.startswith(f"| {key} |")} | dict(rows)
    lines = "".join(f"{line}\n" for line in [*header.splitlines(), *(old[key] for key in keys if key in old)])
    files.write(PAGE, f"{text[: found.start(2)]}{lines}{text[found.end(2) :]}".encode())


def _found(mark: str, text: str) -> re.Match[str]:
    found = re.search(rf"(<!-- {mark}:begin -->\n)(.*?)<!-- {mark}:end -->", text, re.DOTALL)
    assert found is not None
    return found
