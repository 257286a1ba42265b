"""``python -m tools.parity [NETWORK...]``: compare, and write docs/parity.md and tests/references/parity.npz.

Rows stay in build/parity/ until ``--again``.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from cam_onnx import files
from cam_onnx.methods import METHODS
from tools.parity.compare import AGREES, compare
from tools.parity.networks import NETWORKS, load
from tools.parity.page import page

ROOT = Path(__file__).parent.parent.parent
KEPT, PAGE, REFERENCES = (
    ROOT / "build" / "parity",
    ROOT / "docs" / "parity.md",
    ROOT / "tests" / "references" / "parity.npz",
)
PACKAGES = {"pytorch-grad-cam": "grad-cam", "torch-cam": "torchcam", "captum": "captum", "zennit": "zennit"}
APART = 4  # of an attribution to pixels every fourth is kept


def main(arguments: list[str]) -> int:
    """Run the command. Exit 1 if a difference has no explanation."""
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in [a for a in arguments if a in NETWORKS] or list(NETWORKS):
        path = KEPT / f"{name}.json"
        rows = json.loads(path.read_text()) if path.exists() and "--again" not in arguments else []
        started, maps, before = time.perf_counter(), dict[str, Any](), len(rows)
        for row in compare(load(name), {(row["library"], row["method"]) for row in rows}, maps):
            rows.append(row)
            files.write(path, json.dumps(rows, indent=1).encode())
        if name.startswith("textures"):
            _keep(name, rows, maps)
        print(f"{name}: {len(rows) - before} rows, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    rows = [row for name in NETWORKS if (p := KEPT / f"{name}.json").exists() for row in json.loads(p.read_text())]
    versions = {library: importlib.metadata.version(package) for library, package in PACKAGES.items()}
    text = page(rows, versions)
    files.write(PAGE, text.encode())
    return int("NOT EXPLAINED" in text)


def _keep(name: str, rows: list[dict[str, Any]], maps: dict[str, Any]) -> None:
    """Write the libraries' maps of the picture with two classes, where they agree with ours."""
    kept = dict(np.load(REFERENCES)) if REFERENCES.exists() else {}
    for key in maps:
        kept.pop(key, None)
    for row in rows:
        if row.get("error", 1) < AGREES:
            key = f"{name}/{row['library']}/{row['method']}"
            if key not in maps:
                continue
            step = APART if METHODS[row["method"]].at == "input" else 1
            kept[key] = maps[key][1, ::step, ::step].astype(np.float32)
    written = io.BytesIO()
    np.savez_compressed(written, **dict(sorted(kept.items())))
    REFERENCES.parent.mkdir(parents=True, exist_ok=True)
    files.write(REFERENCES, written.getvalue())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
