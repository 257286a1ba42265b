"""docs/conformance.md and docs/conformance.json."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import onnx

from tools.conformance.cases import KINDS

__all__ = ["BUCKETS", "data", "page"]

BUCKETS = {  # what becomes of a case: in the table's head
    "agree": "agrees with finite differences",
    "zero": "zero by definition",
    "input": "no differentiable input",
    "type": "input type has no derivative",
    "forward": "forward runs in neither engine",
    "random": "random output",
    "old": "older than opset 7",
    "other": "agrees with ONNX Runtime, whose outputs are not the case's",
    "kink": "sits on a kink",
    "refused": "refused",
    "disagree": "disagrees",
}


def page(done: dict[str, dict[str, Any]]) -> str:
    """Return docs/conformance.md."""
    total = Counter(entry["bucket"] for entry in done.values())
    by: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in done.values():
        by[entry["operator"]][entry["bucket"]] += 1
    head = list(BUCKETS)
    where = Counter(entry["engine"] for entry in done.values() if entry["bucket"] == "agree")
    lines = [
        "# The rules against onnx's own test data",
        "",
        "`python -m tools.conformance --write` makes this page. It takes every case of onnx's backend test data",
        f"(onnx {onnx.__version__}; kinds {', '.join(KINDS)}), builds its gradient with",
        "`autodiff.gradient`, and compares it with central differences along random directions, in the engine that",
        "gives the outputs of the case: ONNX Runtime, else onnx's reference evaluator; in float64 where it has the",
        "kernels. A gradient that does not run where the model does counts as refused.",
        "",
        f"{len(done):,} cases. {sum('@' in name for name in done)} of them are written again at an older opset",
        "(`name@opset`), where an operator had another version of which onnx has no case, or few.",
        "",
        *(f"- **{name}**: {text}: {total[name]}" for name, text in BUCKETS.items()),
        "",
        f"Of those that agree: {', '.join(f'{count} in {name}' for name, count in where.most_common())}.",
        "",
        "A case that sits on a kink (a tie, a bound, a whole number) agrees at a point a little beside. Axes that a",
        "rule must know at conversion are constants, where the case has them as inputs. `(several)` are cases of more",
        "than one operator: expanded function bodies, and small networks. Where ONNX Runtime runs a case and gives",
        "other outputs than it has, the rule follows ONNX Runtime.",
        "",
        f"| operator | {' | '.join(head)} |",
        f"|---|{'---|' * len(head)}",
    ]
    lines += [f"| {name} | {' | '.join(str(by[name][b] or '') for b in head)} |" for name in sorted(by)]
    for bucket in ("disagree", "refused", "other", "kink"):
        rows = [e for e in done.values() if e["bucket"] == bucket]
        if rows:
            lines += ["", f"## {BUCKETS[bucket].capitalize()}", ""]
            lines += [f"- `{e['name']}`: {_one_line(e['why'])}" for e in sorted(rows, key=lambda e: e["name"])]
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    lines = text.splitlines() or [""]
    return " ".join((lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]).split())[:200]


def data(done: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return docs/conformance.json: the names of the cases by bucket, and the versions that those pass that agree."""
    by: dict[str, list[str]] = {bucket: [] for bucket in BUCKETS}
    for name, entry in sorted(done.items()):
        by[entry["bucket"]].append(name)
    found = {each for entry in done.values() if entry["bucket"] == "agree" for each in entry["through"]}
    versions: dict[str, list[int]] = {}
    for name, version in sorted((name, int(version)) for name, version in (each.rsplit("-", 1) for each in found)):
        versions.setdefault(name, []).append(version)
    return {"onnx": onnx.__version__, "cases": by, "versions": versions}
