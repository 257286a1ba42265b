"""The tables of docs/production.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tools.production.forms import FORMS
from tools.production.measure import Row

__all__ = ["table"]

HEADER = [
    "form",
    "nodes",
    "added",
    "layer: cosine",
    "layer: error",
    "input: cosine",
    "cost",
    "verify",
    "of com.microsoft",
]


def table(rows: Sequence[Row], order: Mapping[str, str], earlier: str = "") -> str:
    """Return a table for each network of `order`, where its kind stands: trained, or seeded weights.

    Rows of an `earlier` table stay where none is newer, so that one network or form can be measured alone.
    """
    found = _written(earlier) | {(row.network, row.form): _row(row) for row in rows}
    lines: list[str] = []
    for network, kind in order.items():
        own = [found[key] for form in ["plain", *FORMS] if (key := (network, form)) in found]
        if own:
            lines += [f"### {network}, {kind}", ""]
            lines += ["| " + " | ".join(HEADER) + " |", "|---|" + "---:|" * (len(HEADER) - 2) + "---|"]
            lines += [*own, ""]
    return "\n".join(lines).rstrip()


def _written(text: str) -> dict[tuple[str, str], str]:
    """Return the rows of a table by network and form."""
    found, network = dict[tuple[str, str], str](), ""
    for line in text.splitlines():
        if line.startswith("### "):
            network = line.removeprefix("### ").rpartition(", ")[0]
        elif line.startswith("| ") and (form := line.split(" | ")[0].removeprefix("| ")) in {"plain", *FORMS}:
            found[network, form] = line
    return found


def _row(r: Row) -> str:
    if r.refused:
        return f"| {r.form} | {r.refused.replace('|', '/')} |" + " |" * (len(HEADER) - 2)
    cells = [
        r.form,
        r.nodes,
        r.added,
        f"{r.layer:.5f}",
        f"{r.error:.1e}",
        f"{r.image:.4f}",
        f"{r.cost:.2f}",
        r.verdict,
        r.own,
    ]
    return "| " + " | ".join(map(str, cells)) + " |"
