"""The page docs/understood.md."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tools.understood.judge import Row

__all__ = ["page", "written"]

TOP = """\
# What is found in a file without options

`cam-onnx inspect` names the score and the target layer that are explained where nobody names one. Both are found on the
graph. Here they are compared with what the framework says of its own network: the score with the network's output; the
layer, value by value and place by place, with the last grid before the pooling (timm's `forward_features`; of
torchvision's networks the module before the pooling). Where a class token is read, that grid has no influence on the
score (autograd says so), and the layer is right where it is what the last attention reads.

Networks are exported from PyTorch with seeded weights, by the dynamo exporter unless the name ends in `@` and an opset
(the older one). Made by `python -m tools.understood` (extra `zoo`).

{right} of {looked} networks right, {wrong} wrong, {asks} asked about (an error that lists the candidates); of the
{timm} families of timm {timm_right} right, {timm_wrong} wrong, {timm_asks} asked about.
"""


def page(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return the page; `names` are the networks of the list."""
    timm = [row for row in rows if row.network.startswith("timm/")]
    numbers = {f"{prefix}{verdict}": sum(row.verdict == verdict for row in some)
               for prefix, some in (("", rows), ("timm_", timm)) for verdict in ("right", "wrong", "asks")}  # fmt: skip
    lines = [TOP.format(**numbers, looked=len(rows), timm=len(timm))]
    if absent := [name for name in names if name not in {row.network for row in rows}]:
        listed = f": {', '.join(f'`{name}`' for name in absent)}" if len(absent) < 10 else ""
        lines += [f"Not looked at, as no file was made, {len(absent)} of {len(names)}{listed}.", ""]
    lines += ["| network | | layer | operator | grid | it is |", "|---|---|---|---|---:|---|"]
    lines += [_row(row) for row in rows if row.verdict != "asks"]
    if asked := [row for row in rows if row.verdict == "asks"]:
        lines += ["", "Asked about:", "", *(f"- `{row.network}`: {_reason(row.what)}" for row in asked)]
    return "\n".join([*lines, ""])


def written(text: str) -> list[Row]:
    """Return the rows of a page, as far as it says what they are."""
    rows = []
    for line in text.splitlines():
        if found := re.match(r"\| `(.+?)` \| \**(right|wrong)\** \| `(.*?)` \| (.*?) \| ([\dx]*) \| (.*) \|$", line):
            network, verdict, layer, operator, grid, what = found.groups()
            sizes = tuple(int(size) for size in grid.split("x") if size)
            rows.append(Row(network, verdict, what, layer=layer, operator=operator, grid=sizes))
        elif found := re.match(r"- `(.+?)`: (.*)$", line):
            rows.append(Row(found[1], "asks", found[2]))
    return rows


def _row(row: Row) -> str:
    verdict = row.verdict if row.verdict == "right" else f"**{row.verdict}**"
    grid = "x".join(map(str, row.grid))
    return f"| `{row.network}` | {verdict} | `{row.layer}` | {row.operator} | {grid} | {row.what} |"


def _reason(text: str) -> str:
    """Return an error without the file's path, and without its candidates."""
    return text.split(": ", 1)[1].split("; name the layer")[0] if ".onnx: " in text else text
