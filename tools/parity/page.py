"""docs/parity.md from the rows."""

from __future__ import annotations

from typing import Any

from tools.parity.compare import AGREES, DEPARTURES
from tools.parity.libraries import LIBRARIES
from tools.parity.networks import NETWORKS

__all__ = ["page"]

HEAD = f"""# Maps beside other implementations

Maps before ReLU and normalisation, of the same weights, layer, pictures and classes: ours from the exported `.onnx`
file in ONNX Runtime, theirs in PyTorch. A cell is the norm of the difference over the norm of their map, of the worse
picture where there are two; both compute in float32. Below {AGREES:g} they agree; **bold** is a difference, explained
below the table, where their formula is computed by us wherever it can be.

`textures-*` are the small trained networks of `models/`, one picture with one class and one with two; the others have
seeded weights that let a gradient through, and noise as a picture. Layers: the last ReLU in front of the head; of
`vit_tiny` the norm in front of the last attention, its patches on their grid. Methods that run the network for every
channel are compared on the small networks, Ablation-CAM on resnet18 too; an empty cell was not measured.
`python -m tools.parity` (extra `zoo`) measures again, and writes the reference arrays with which the tests compare
without PyTorch.
"""


def page(rows: list[dict[str, Any]], versions: dict[str, str]) -> str:
    """Return the page."""
    by = {(row["network"], row["library"], row["method"]): row for row in rows}
    parts = [HEAD]
    for library, (methods, _) in LIBRARIES.items():
        names = list(NETWORKS)
        lines = [
            f"## {library} {versions[library]}\n",
            f"| method | {' | '.join(names)} |",
            "|---" * (len(names) + 1) + "|",
        ]
        said = []
        for method in methods:
            found = [by.get((name, library, method), {}) for name in names]
            lines.append(f"| `{method}` | {' | '.join(_cell(row) for row in found)} |")
            said += _said(library, method, found)
        parts.append("\n".join([*lines, "", *said, ""]))
    return "\n".join(parts).rstrip() + "\n"


def _cell(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['error']:.0e}" if row["error"] < AGREES else f"**{row['error']:.2g}**"
    return "refuses" if "refused" in row else "we refuse" if "ours refused" in row else ""


def _rounding(rows: list[dict[str, Any]]) -> str:
    """Say what float32 alone costs; ours may be three times as far from float64 as theirs."""
    if max(row["ours to double"] / row["rounding"] for row in rows) > 3:
        return "NOT EXPLAINED"
    each = ", ".join(f"{row['network']} {row['rounding']:.1e}, ours {row['ours to double']:.1e}" for row in rows)
    return (
        "float32: a ReLU whose input is rounded to the other side of 0 opens or closes; PyTorch's own float32 differs "
        f"from its float64 as well (the middle one of {rows[0]['pictures']} pictures: {each})"
    )


def _said(library: str, method: str, found: list[dict[str, Any]]) -> list[str]:
    lines = []
    if any(row.get("error", 0) >= AGREES for row in found):
        departure = DEPARTURES.get((library, method))
        rounded = [row for row in found if row.get("error", 0) >= AGREES and "rounding" in row]
        text = departure.text if departure else _rounding(rounded) if rounded else "NOT EXPLAINED"
        checked = [row["formula"] for row in found if "formula" in row and row["error"] >= AGREES]
        proof = f"; computed so, the difference is at most {max(checked):.0e}" if checked else ""
        lines.append(f"- `{method}`: {text}{proof}.")
    for key, who in (("refused", "it"), ("ours refused", "we")):
        for text in dict.fromkeys(f"{row['network']}: {row[key]}" for row in found if key in row):
            lines.append(f"- `{method}`, {who} refuse{'s' if who == 'it' else ''} {text}")
    return lines
