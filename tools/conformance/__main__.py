"""The command.

python -m tools.conformance                 all cases, resumed where it was left; says what would change
python -m tools.conformance --write         write docs/conformance.md and docs/conformance.json
python -m tools.conformance --only Resize   the cases whose name holds a word, in full
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import warnings
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import tools.conformance
from cam_onnx import files
from tools.conformance.cases import cases, operator_of
from tools.conformance.judge import judge
from tools.conformance.page import data, page

ROOT = Path(__file__).parent.parent.parent
PAGE, DATA = ROOT / "docs" / "conformance.md", ROOT / "docs" / "conformance.json"
DONE = ROOT / "build" / "conformance.jsonl"


def fingerprint() -> str:
    """Return what results depend on: the rules and the installed onnx."""
    digest = hashlib.sha256(onnx.__version__.encode())
    own = [Path(__file__).parent / f"{name}.py" for name in ("cases", "engines", "judge")]
    for path in sorted([*(ROOT / "cam_onnx" / "autodiff").rglob("*.py"), *own]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def collect(only: str | None) -> dict[str, dict[str, Any]]:
    """Judge every case that is not judged yet; what ends the process twice is left out the third time."""
    mark = fingerprint()
    done: dict[str, dict[str, Any]] = {}
    begun = Counter[str]()
    if DONE.exists() and only is None:
        for line in DONE.read_text().splitlines():
            entry = json.loads(line)
            if entry.get("mark") == mark:
                if "bucket" in entry:
                    done[entry["name"]] = entry
                else:
                    begun[entry["begun"]] += 1
    for name, times in begun.items():
        if name not in done and times > 1:  # once may have been an interruption
            done[name] = {"name": name, "operator": "?", "bucket": "forward", "why": "ends the process", "engine": ""}
    DONE.parent.mkdir(exist_ok=True)
    with DONE.open("a") if only is None else open(os.devnull, "w") as out:
        for number, case in enumerate(cases()):
            if case.name in done or (only is not None and only.lower() not in case.name.lower()):
                continue
            print(json.dumps({"mark": mark, "begun": case.name}), file=out, flush=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with np.errstate(all="ignore"):
                    verdict = judge(case)
            entry = {"name": case.name, "operator": operator_of(case), **asdict(verdict)}
            done[case.name] = entry
            print(json.dumps({"mark": mark, **entry}), file=out, flush=True)
            if only is not None or verdict.bucket in ("disagree", "refused"):
                print(
                    f"{number:5} {case.name}: {verdict.bucket} {verdict.engine} {verdict.why} {verdict.engines}",
                    file=sys.stderr,
                )
    return done


def main(arguments: list[str] | None = None) -> int:
    """Collect, and write or print the totals."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.conformance", description=(tools.conformance.__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--write", action="store_true", help="write docs/conformance.md and .json")
    parser.add_argument("--only", metavar="WORD", help="only cases whose name holds WORD")
    options = parser.parse_args(arguments)
    done = collect(options.only)
    print(json.dumps(Counter(entry["bucket"] for entry in done.values())))
    if options.write and options.only is None:
        files.write(PAGE, page(done).encode())
        files.write(DATA, (json.dumps(data(done), indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
