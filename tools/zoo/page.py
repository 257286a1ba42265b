"""The table of docs/zoo.md."""

from __future__ import annotations

from collections import Counter
from typing import Any

__all__ = ["agrees", "page"]

HEADER = [
    "network",
    "input",
    "opset",
    "nodes",
    "added",
    "no g",
    "twice",
    "input: error",
    "inner: error",
    "torch",
    "by",
    "cost",
]
TOP = """\
# Gradients of whole networks

Exported with seeded weights, differentiated with `cam_onnx.autodiff.gradient`, run in ONNX Runtime on the CPU in
float32, and compared with PyTorch's autograd in float64: the gradient of a random combination of the outputs with
respect to the input and to one value about two thirds on the way, 8 samples, one by one.
What is found in their files without options, score and layer, stands in [understood.md](understood.md).

{agree} of {count} networks agree; {disagree} disagree, {failed} could not be compared, {absent} were not run.
Made by `python -m tools.zoo` (extra `zoo`).

A sample's error is the norm of the difference over the norm of autograd's gradient. One gate of a ReLU or a MaxPool
that float32 flips costs 1e-3 to 1e-1 of it, in PyTorch's own float32 as well. So a network agrees when

- **a**: its best sample is within 1e-4, or
- **b**: its median sample is within 3 times PyTorch's own float32-to-float64 difference of the same sample, and its
  median cosine is above 0.98.

*error*: best / median sample. *torch*: the median difference between PyTorch's float32 and float64, input.
*added*: nodes of the gradient; *no g*: those of them that depend on no cotangent (masks, slopes, shapes, statistics
of normalisations); *twice*: nodes that repeat one of the original. *cost*: the input gradient's run over the plain
model's, batch 1, on a machine that was not quiet: [benchmarks](benchmarks.md) has the careful figures.
"""


def page(rows: dict[str, dict[str, Any]], count: int) -> str:
    """Return the page; `count` networks are in the list, `rows` has those that were compared."""
    good = {name: r for name, r in rows.items() if "error" not in r}
    bad = {name: r for name, r in rows.items() if "error" in r}
    agree = sum(agrees(r) for r in good.values())
    lines = [
        TOP.format(agree=agree, count=count, disagree=len(good) - agree, failed=len(bad), absent=count - len(rows)),
        "| " + " | ".join(HEADER) + " |",
        "|---|" + "---:|" * (len(HEADER) - 1),
        *(_row(name, r) for name, r in good.items()),
        "",
    ]
    if bad:
        lines += ["Not compared:", ""]
        lines += [f"- `{name}`: {' '.join(r['error'].split())[:300]}" for name, r in bad.items()]
        lines += [""]
    found = Counter(op_type for r in good.values() for op_type in r["operators"])
    listed = ", ".join(f"{op_type} {n}" for op_type, n in sorted(found.items(), key=lambda item: (-item[1], item[0])))
    return "\n".join([*lines, f"Operators, and in how many of these files each stands: {listed}.", ""])


def agrees(row: dict[str, Any]) -> bool:
    """Whether the input's gradient, and the inner one where a value was found, are autograd's."""
    return "error" not in row and all(row[k]["clause"] for k in ("input", "inner") if k in row)


def _row(name: str, r: dict[str, Any]) -> str:
    errors = [f"{r[k]['best']:.0e} / {r[k]['median']:.0e}" if k in r else "" for k in ("input", "inner")]
    by = "".join(r[k]["clause"] or "**no**" for k in ("input", "inner") if k in r)
    cells = [f"`{name}`", r["size"], r["opset"], r["nodes"], r["added"], r["recomputed"], r["twice"], *errors]
    return "| " + " | ".join(map(str, [*cells, f"{r['input']['torch']:.0e}", by, f"{r['cost']:.2f}"])) + " |"
