"""Write README's tables from the registries, between their markers; without --write, say whether they differ."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from cam_onnx import files
from cam_onnx.autodiff import RULES, missing, zero
from cam_onnx.methods import METHODS

README = Path(__file__).parent.parent / "README.md"


def methods() -> str:
    """Return one row a method."""
    rows = ["| name | needs | it runs | relu | paper |", "|---|---|---|---|---|"]
    for entry in METHODS.values():
        needs = ", ".join(entry.needs) + (" (behind pooling + linear)" if entry.requires_pooled_head else "")
        relu = "yes" if entry.relu else "no"
        cost = entry.cost.replace("|", "\\|")
        rows.append(f"| `{entry.name}` | {needs} | {cost} | {relu} | {entry.paper} |")
    return "\n".join(rows)


def operators() -> str:
    """Return the operators with a gradient rule, and those that are stated to have none."""
    differentiable, contributed, flat, partly = set[str](), set[str](), set[str](), set[str]()
    for rule in RULES:
        if rule.entries and all(isinstance(entry, zero) or entry is None for entry in rule.entries):
            flat.add(rule.op_type)
        else:
            (contributed if rule.domain else differentiable).add(rule.op_type)
        reasons = [entry.reason for entry in rule.entries if isinstance(entry, missing)]
        partly |= {f"{rule.op_type} ({reason})" for reason in reasons}
    rows = [
        ("gradient rule", differentiable),
        ("gradient rule, com.microsoft", contributed),
        ("derivative zero", flat),
        ("not with respect to every input", partly),
    ]
    table = ["| | operators |", "|---|---|"]
    return "\n".join(table + [f"| {what} | {', '.join(sorted(names))} |" for what, names in rows if names])


TABLES = {"methods": methods, "operators": operators}


def filled(text: str) -> str:
    """Return `text` with every table replaced by what the registries say."""
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
        text, count = pattern.subn(lambda m, table=table: f"{m[1]}{table()}\n{m[2]}", text)  # type: ignore[misc]
        if count != 1:
            raise SystemExit(f"README.md has {count} places for the table {name!r}, expected 1")
    return text


def main() -> int:
    """Compare, or write."""
    text = README.read_text(encoding="utf-8")
    new = filled(text)
    if "--write" in sys.argv[1:] and new != text:
        files.write(README, new.encode())
    elif new != text:
        print("README.md differs from the registries: python tools/readme.py --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
