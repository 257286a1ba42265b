"""``python -m tools.understood [NAME...]``: look at networks with no options, and write docs/understood.md.

A network's file is made once, into build/understood/, with what its framework says of it (extra ``zoo``); it is looked
at anew every time. ``--made`` looks at what is there only. What stands on the page stays until it is looked at again.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from cam_onnx import files
from tools.understood.apart import make_apart
from tools.understood.judge import Row, judge
from tools.understood.make import KEPT, made
from tools.understood.page import page, written
from tools.zoo.networks import NETWORKS

PAGE = Path(__file__).parent.parent.parent / "docs" / "understood.md"
# of the other tasks the classifiers: of videos
NAMES = [name for name, network in NETWORKS.items() if network.library != "task" or network.model.endswith("_18")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Exit 1 if a guess is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.understood", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="names or globs, e.g. 'timm/vit*' (default: all)")
    parser.add_argument("--made", action="store_true", help="only networks whose files are there")
    options = parser.parse_args(argv)
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        if options.names and not any(fnmatch.fnmatch(name, pattern) for pattern in options.names):
            continue
        file, known = made(NETWORKS[name])
        if not known.exists() and not options.made:
            make_apart(name)
        if known.exists():
            with np.load(known) as facts:
                row = judge(name, file, facts)
            files.write(known.with_suffix(".json"), json.dumps(asdict(row), indent=1).encode())
            print(f"{name}: {row.verdict}, {row.what}", file=sys.stderr, flush=True)
    found = {row.network: row for row in written(PAGE.read_text(encoding="utf-8"))}
    for name in NAMES:
        if (kept := made(NETWORKS[name])[1].with_suffix(".json")).exists():
            found[name] = Row(**json.loads(kept.read_text()))
    rows = [found[name] for name in NAMES if name in found]
    files.write(PAGE, page(rows, NAMES).encode())
    return int(any(row.verdict == "wrong" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
