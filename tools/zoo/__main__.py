"""``python -m tools.zoo [NAME...]``: compare what has not been compared yet, and write docs/zoo.md.

A result stays in build/zoo/ until ``--again``. Every network runs in a process of its own, which gives its memory back.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cam_onnx import files
from tools.zoo.apart import apart
from tools.zoo.networks import NETWORKS
from tools.zoo.page import agrees, page

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # its thread hangs forked children
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # torch's threads would spin beside the runtime's
ROOT = Path(__file__).parent.parent.parent
KEPT, PAGE = ROOT / "build" / "zoo", ROOT / "docs" / "zoo.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Exit 1 if a network disagrees, is refused, or could not be compared."""
    parser = argparse.ArgumentParser(prog="python -m tools.zoo", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="names or globs, e.g. 'timm/vit*' (default: all)")
    parser.add_argument("--again", action="store_true", help="compare anew what has a result")
    parser.add_argument("--failed", action="store_true", help="compare anew what failed or disagreed")
    parser.add_argument("--list", action="store_true", help="print the names")
    options = parser.parse_args(argv)
    names = [n for n in NETWORKS if not options.names or any(fnmatch.fnmatch(n, p) for p in options.names)]
    if not names:
        parser.error(f"no network is called {' or '.join(options.names)}; --list prints all")
    if options.list:
        print("\n".join(names))
        return 0
    KEPT.mkdir(parents=True, exist_ok=True)
    todo = [n for n in names if options.again or not (row := _kept(n)) or (options.failed and not agrees(row))]
    for i, name in enumerate(todo, 1):
        print(f"{i}/{len(todo)} {name} ... ", end="", file=sys.stderr, flush=True)
        row = apart(name)
        files.write(_file(name), json.dumps(row, indent=1).encode())
        print(row.get("error", "agrees" if agrees(row) else "DISAGREES"), file=sys.stderr, flush=True)
    rows = {n: row for n in NETWORKS if (row := _kept(n))}
    files.write(PAGE, page(rows, len(NETWORKS)).encode())
    return int(not all(n in rows and agrees(rows[n]) for n in names))


def _file(name: str) -> Path:
    return KEPT / f"{name.replace('/', '_')}.json"


def _kept(name: str) -> dict[str, Any] | None:
    return json.loads(_file(name).read_text()) if _file(name).exists() else None


if __name__ == "__main__":
    sys.exit(main())
