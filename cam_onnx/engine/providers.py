"""Which execution providers to ask ONNX Runtime for, and what to say of those that it does not give.

What it lists as available is what it was built with, not what works on the machine; and when a provider does
not work it logs lines for developers, goes on with the CPU and reports success. So NVIDIA's driver is asked
first, and a provider that the caller named is an error unless the caller put the CPU behind it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from cam_onnx.engine import Provider
from cam_onnx.errors import InputError, RunFailed, did_you_mean, shown

__all__ = ["CPU", "CUDA", "NEEDS_CUDA", "choose", "cuda_devices", "cuda_driver", "lost", "without_tf32"]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
NEEDS_CUDA = (CUDA, "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
SHORT = {"trt": "tensorrt", "directml": "dml", "tensorrt-rtx": "nvtensorrtrtx"}

Chosen = list[tuple[str, dict[str, Any]]]


def choose(runtime: Any, providers: str | Sequence[Provider] | None) -> tuple[list[str], Chosen, str | None]:
    """Choose before a session is made.

    Parameters
    ----------
    runtime : module
        onnxruntime, or what answers `get_available_providers` and `get_all_providers` like it.
    providers : see `cam_onnx.engine.open`

    Returns
    -------
    asked : list of str
        Full names of what the caller named; empty if nothing.
    chosen : list of (name, options)
        What is worth trying.
    note : str or None
        What was asked for and will not run.

    Raises
    ------
    RunFailed
        A provider that cannot run was named without the CPU behind it.
    InputError
        An empty list, or an entry that is neither a name nor a pair.
    """
    available = runtime.get_available_providers()
    if providers is None:
        if CUDA in available and cuda_devices():
            return [], [(CUDA, {}), (CPU, {})], None
        return [], [(CPU, {})], None
    known = {name.removesuffix("ExecutionProvider").casefold(): name for name in runtime.get_all_providers()}
    asked: Chosen = []
    for given in [providers] if isinstance(providers, str) else providers:
        name, extra = (given, {}) if isinstance(given, str) else _pair(given)
        short = name.casefold().removesuffix("executionprovider")
        asked.append((known.get(SHORT.get(short, short), name), dict(extra)))
    if not asked:
        raise InputError("providers is an empty list: name at least one, or leave it out")
    names = [name for name, _ in asked]
    chosen, note = [], None
    for name, extra in asked:
        if name not in available:
            what = "this ONNX Runtime is built without it" if name in known.values() else "there is no such provider"
            note = lost(name, what + did_you_mean(name, known) * (name not in known.values()), names, note)
        elif name in NEEDS_CUDA and not cuda_devices():
            note = lost(name, "the driver reports no NVIDIA GPU", names, note)
        else:
            chosen.append((name, extra))
    return names, chosen, note


def _pair(given: Any) -> tuple[str, Mapping[str, Any]]:
    try:
        name, extra = given
        return str(name), dict(extra)
    except (TypeError, ValueError):
        raise InputError(f"provider {shown(repr(given))}: expected a name or (name, options)") from None


def lost(name: str, why: str, asked: list[str], note: str | None) -> str:
    """Return the note for a provider that will not run, or raise if it was named without the CPU behind it."""
    if name in asked and CPU not in asked[asked.index(name) :]:
        raise RunFailed(
            f"provider {shown(name)} cannot be used: {why}; put CPUExecutionProvider behind it in the list to go on "
            "without, or leave providers out"
        )
    line = f"{shown(name)} is not used: {why}"
    return line if note is None else f"{note}; {line}"


def without_tf32(chosen: Chosen) -> Chosen:
    """Return what was chosen with TensorFloat-32 off: CUDA's convolutions and products round to 10 bits in it."""
    return [(name, {**extra, "use_tf32": "0"} if name == CUDA else extra) for name, extra in chosen]


@cache
def cuda_devices() -> int:
    """Ask the driver how many NVIDIA GPUs there are: ONNX Runtime lists CUDA as available wherever it is built in."""
    try:
        driver = _driver()
        count = ctypes.c_int(0)
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    except (OSError, AttributeError):
        pass
    return 0


def cuda_driver() -> str | None:
    """Return the newest CUDA version that NVIDIA's driver serves, as in ``"13.0"``; None where there is no driver."""
    try:
        version = ctypes.c_int(0)
        _driver().cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
