"""What the doctor tries in a process of its own: a native library may crash, hang, or print, and be the illness.

The process is told where this one finds its modules, so that it meets the same installation. Standard library only
on top: the probe is what may fail.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cam_onnx.errors import CamOnnxError, RunFailed, shown

__all__ = ["conversion", "pictures", "probe", "session"]

# -P and the given path: what lies in the working directory stands in no one's way, unless it does so here as well.
CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from cam_onnx.probes import answer; answer()"


def session(providers: Sequence[str] | None) -> dict[str, Any]:
    """Run a tiny network in ONNX Runtime; see `cam_onnx.engine.trial.trial`."""
    from cam_onnx.engine.trial import trial

    return trial(providers)


def pictures() -> dict[str, Any]:
    """Write and read a row of colours in every format; see `cam_onnx.render.image.describe`."""
    from cam_onnx.render import image

    facts = image.describe()
    picture = image.lut("jet")[None]
    facts["formats"], facts["failed"] = [], []
    for suffix in image.SUFFIXES:
        try:
            kept = abs(image.load(image.encode(picture, suffix)).pixels.mean() - picture.mean()) < 3
        except CamOnnxError:
            kept = False
        facts["formats" if kept else "failed"].append(suffix)
    return facts


def conversion() -> dict[str, Any]:
    """Load what converts a model: onnx, onnx_ir, and every rule."""
    from cam_onnx import convert

    return {"module": convert.__module__}


PROBES: dict[str, Callable[..., dict[str, Any]]] = {"session": session, "pictures": pictures, "conversion": conversion}


def probe(name: str, *arguments: Any, seconds: float = 120.0) -> dict[str, Any]:
    """Return what a probe finds, called in a fresh process.

    Raises
    ------
    RunFailed
        The probe raised an error, ended its process, or gave no answer in time: the message says which.
    """
    command = [sys.executable, "-P", "-c", CODE, json.dumps(sys.path), name, json.dumps(arguments)]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise RunFailed(f"no answer within {seconds:.0f} s") from None
    try:
        reply = json.loads(done.stdout.splitlines()[-1])  # libraries may have printed before
        fine, found = bool(reply["fine"]), reply["found"]
    except (IndexError, KeyError, TypeError, ValueError):
        raise RunFailed(f"the process {_end(done.returncode)}{_last(done.stderr)}") from None
    if not fine:
        raise RunFailed(found)
    return dict(found)


def answer() -> None:
    """Print what the probe finds, as JSON on the last line: the other end of `probe`."""
    name, arguments = sys.argv[2], json.loads(sys.argv[3])
    try:
        reply = {"fine": True, "found": PROBES[name](*arguments)}
    except CamOnnxError as error:
        reply = {"fine": False, "found": str(error)}
    except Exception as error:  # noqa: BLE001  (a broken installation fails in any way)
        reply = {"fine": False, "found": f"{type(error).__name__}: {shown(error)}"}
    print("\n" + json.dumps(reply), flush=True)


def _end(status: int) -> str:
    if status < 0:
        try:
            return f"was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"was ended by signal {-status}"
    return f"ended with exit code {status} and no answer"


def _last(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return f" ({shown(lines[-1])})" if lines else ""
