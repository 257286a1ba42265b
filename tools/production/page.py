"""The tables of docs/production.md."""

from __future__ import annotations

from collections.abc import Sequence

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


def table(rows: Sequence[Row], trained: Sequence[str]) -> str:
    """Return a table for each network, trained ones first."""
    lines: list[str] = []
    for network in dict.fromkeys(row.network for row in rows):
        lines += [f"### {network}, {'trained' if network in trained else 'seeded weights'}", ""]
        lines += ["| " + " | ".join(HEADER) + " |", "|---|" + "---:|" * (len(HEADER) - 2) + "---|"]
        lines += [_row(row) for row in rows if row.network == network]
        lines += [""]
    return "\n".join(lines).rstrip()


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
