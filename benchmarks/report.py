"""The same rows three times: for a terminal, for Markdown, for a program."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata

import cam_onnx
from benchmarks.harness import BENCHMARKS, Result

__all__ = ["as_json", "as_markdown", "as_text", "machine"]

HEADER = ("benchmark", "ours", "baseline", "figure", "quartiles", "goal", "met", "pairs")
PACKAGES = ("numpy", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "opencv-python")


def machine() -> dict[str, str | int]:
    """Return what a figure depends on, without the machine's name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[str, str | int] = {
        "cores": cores,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cam-onnx": cam_onnx.__version__,
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def as_text(results: Sequence[Result]) -> str:
    """Return the table for a terminal: names to the left, numbers to the right."""
    rows = [HEADER, *(cells(result) for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    )


def as_markdown(results: Sequence[Result], command: str, page: str = "") -> str:
    """Return the page docs/benchmarks.md; what is not measured anew is taken from the `page` as it was."""
    known = machine()
    on = ", ".join(f"{name} {version}" for name, version in list(known.items())[2:])
    rows = (line for line in page.splitlines() if line.startswith("| `"))
    shown = {line.split("`")[1]: line for line in rows}
    told = {name: entry.means for name, entry in BENCHMARKS.items()}
    for result in results:
        name, *row = cells(result)
        shown[name] = "| " + " | ".join((f"`{name}`", *row)) + " |"
        told[name] = result.means
    names = [name for name in BENCHMARKS if name in shown] or list(shown)
    lines = [
        "# Benchmarks",
        "",
        "What is compared runs side by side, A B A B; the figure is the median over pairs, with its quartiles. Both",
        "sides are medians of seconds, which depend on the machine; the ratios hardly do. ONNX Runtime on the CPU, its",
        "threads not spinning where two sessions share a process. Rows that a run leaves out stay as they were.",
        "",
        f"Made last by `{command}` on {known['cores']} cores ({known['system']}), {on}.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|---|" + "---:|" * (len(HEADER) - 1),
        *(shown[name] for name in names),
        "",
        *(f"- `{name}`: {told[name]}" for name in names),
        "",
    ]
    return "\n".join(lines)


def as_json(results: Sequence[Result], command: str) -> str:
    """Return everything, unrounded."""
    content = {"command": command, "machine": machine(), "results": [asdict(result) for result in results]}
    return json.dumps(content, indent=1) + "\n"


def cells(result: Result) -> tuple[str, ...]:
    """Return one row, in the units of its kind."""
    show = {"ratio": _ratio, "difference": "{:+.3f} s".format, "seconds": "{:.3f} s".format}[result.kind]
    quartiles = "" if result.rounds == 1 else f"{show(result.low)} .. {show(result.high)}"
    return (
        result.name,
        duration(result.ours),
        "" if result.baseline is None else duration(result.baseline),
        show(result.figure),
        quartiles,
        "" if result.goal is None else f"<= {show(result.goal)}",
        {True: "yes", False: "NO", None: ""}[result.met],
        str(result.rounds),
    )


def _ratio(value: float) -> str:
    return f"{value:.3f}" if value >= 0.01 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Return a time with three digits that matter."""
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
