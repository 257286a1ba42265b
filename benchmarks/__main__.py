"""``python -m benchmarks [NAME...]``: measure, print the table, write it as JSON or Markdown."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import (  # noqa: F401  (they fill the registry)
    beside_torch,
    conversion,
    forms,
    networks,
    processes,
    quantised,
    repeated,
    report,
)
from benchmarks.harness import BENCHMARKS, measure
from cam_onnx import files
from cam_onnx.errors import did_you_mean

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; a goal that is missed is reported, and is no failure: the machine may be busy."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(BENCHMARKS)}")
    parser.add_argument("--rounds", type=int, metavar="N", help="pairs that are measured (default: each its own)")
    parser.add_argument(
        "--cpu", action="store_true",
        help="processor time of this process, all threads: for a busy machine, and for nothing that starts processes",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the results, unrounded")
    parser.add_argument(
        "--markdown",
        metavar="FILE",
        help="write the page docs/benchmarks.md: rows measured anew, the others as they were",
    )
    options = parser.parse_args(argv)
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}{did_you_mean(name, BENCHMARKS)}; there are: {', '.join(BENCHMARKS)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}, expected at least 1")

    names = options.names or [name for name, entry in BENCHMARKS.items() if not entry.missing]
    if left := len(BENCHMARKS) - len(names) if not options.names else 0:
        print(f"{left} benchmarks are left out: they need the extra 'zoo'", file=sys.stderr)
    results = []
    for name in names:
        if sys.stderr.isatty():
            print(f"measuring {name} ...", file=sys.stderr)
        clock = time.process_time if options.cpu else time.perf_counter
        results.append(measure(BENCHMARKS[name], options.rounds, clock))
    print(report.as_text(results))
    command = _command(options)
    if options.json:
        files.write(options.json, report.as_json(results, command).encode())
    if options.markdown:
        page = Path(options.markdown)
        before = page.read_text(encoding="utf-8") if page.exists() else ""
        files.write(options.markdown, report.as_markdown(results, command, before).encode())
    return 0


def _command(options: argparse.Namespace) -> str:
    """Return what makes the same page again; a folder of this machine is nobody else's business."""
    words = ["python", "-m", "benchmarks", *options.names, *["--cpu"] * options.cpu]
    for option, value in (("--rounds", options.rounds), ("--json", options.json), ("--markdown", options.markdown)):
        if value is not None:
            words += [option, Path(str(value)).name if Path(str(value)).is_absolute() else str(value)]
    return shlex.join(words)


if __name__ == "__main__":
    sys.exit(main())
