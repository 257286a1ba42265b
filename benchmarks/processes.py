"""Fresh processes: what a user waits for before the first line of work."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from benchmarks.harness import Pair, benchmark

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "models"
ROUNDS = 15


@cache
def scratch() -> Path:
    """Return a folder that lives as long as this process."""
    made = tempfile.TemporaryDirectory(prefix="cam_onnx_benchmarks_")
    atexit.register(made.cleanup)
    return Path(made.name)


def fresh(*arguments: str) -> Callable[[], str]:
    """Return a callable that runs Python with `arguments` in a new process, and returns what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    # an installed package has its bytecode; a checkout may not, and compiling it is not what is measured
    environment["PYTHONPYCACHEPREFIX"] = str(scratch() / "bytecode")

    def run() -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=scratch(), env=environment, timeout=300)
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    return run


@benchmark("import", kind="difference", goal=0.1, rounds=ROUNDS)
def bare_import() -> Pair:
    """A fresh process with `import cam_onnx` over one with `import numpy`."""
    return Pair(ours=fresh("-c", "import cam_onnx"), baseline=fresh("-c", "import numpy"))


@benchmark("import-explainer", kind="difference", goal=0.1, rounds=ROUNDS)
def import_explainer() -> Pair:
    """The same with `from cam_onnx import Explainer`, which is what the names above resolve to at first use."""
    return Pair(ours=fresh("-c", "from cam_onnx import Explainer"), baseline=fresh("-c", "import numpy"))


@benchmark("import-convert", kind="difference", rounds=ROUNDS)
def import_convert() -> Pair:
    """A fresh process with `from cam_onnx import convert` over one with `import onnx`; onnx_ir loads sympy."""
    return Pair(ours=fresh("-c", "from cam_onnx import convert"), baseline=fresh("-c", "import onnx"))


@benchmark("explain-converted", kind="difference", goal=0.5, rounds=ROUNDS)
def explain_converted() -> Pair:
    """`cam-onnx explain` of a converted file and one picture over a minimal script with ONNX Runtime and OpenCV.

    The script (benchmarks/minimal.py) reads the picture, runs the plain model and writes a PNG.
    """
    import cam_onnx

    converted, picture = scratch() / "demo.cam.onnx", MODELS / "pictures" / "chelsea.png"
    cam_onnx.convert(
        MODELS / "efficientnet-lite0.onnx",
        preprocess=MODELS / "efficientnet-lite0.json",
        labels=MODELS / "imagenet_labels.txt",
    ).save(converted)
    return Pair(
        ours=fresh("-m", "cam_onnx", "explain", str(converted), str(picture), "-o", str(scratch() / "ours.png")),
        baseline=fresh(
            str(ROOT / "benchmarks" / "minimal.py"),
            str(MODELS / "efficientnet-lite0.onnx"),
            str(picture),
            str(scratch() / "baseline.png"),
        ),
    )
