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
from importlib import import_module
from typing import Any, NamedTuple

from cam_onnx.engine import Device, Provider
from cam_onnx.errors import InputError, RunFailed, did_you_mean, shown

__all__ = ["CPU", "CUDA", "NEEDS_CUDA", "Choice", "choose", "cuda_devices", "cuda_driver", "lost", "without_tf32"]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
NEEDS_CUDA = (CUDA, "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
SHORT = {"trt": "tensorrt", "directml": "dml", "tensorrt-rtx": "nvtensorrtrtx"}


class Choice(NamedTuple):
    """A provider to try: its full name, its options, and of a plug-in the devices."""

    name: str
    options: dict[str, Any]
    devices: tuple[Any, ...] = ()


def choose(
    runtime: Any, providers: str | Device | Sequence[Provider] | None
) -> tuple[list[str], list[Choice], str | None]:
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
    chosen : list of Choice
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
            return [], [Choice(CUDA, {}), Choice(CPU, {})], None
        return [], [Choice(CPU, {})], None
    known = {_short(name): name for name in runtime.get_all_providers()}
    asked: list[Choice] = []
    one: bool = isinstance(providers, str) or _is_device(providers)
    several: Any = [providers] if one else providers
    for given in several:
        what, extra = (given, {}) if isinstance(given, str) or _is_device(given) else _pair(given)
        if not isinstance(what, str):
            asked.append(Choice(what.ep_name, dict(extra), (what,)))
            continue
        short = SHORT.get(_short(what), _short(what))
        name = known.get(short, what)
        devices = () if name in available else plugged_in(runtime, short)
        asked.append(Choice(devices[0].ep_name if devices else name, dict(extra), devices))
    if not asked:
        raise InputError("providers is an empty list: name at least one, or leave it out")
    names = [choice.name for choice in asked]
    chosen, note = [], None
    for choice in asked:
        name = choice.name
        if choice.devices:
            chosen.append(choice)
        elif name not in available:
            what = "this ONNX Runtime is built without it" if name in known.values() else "there is no such provider"
            if _plug_in(SHORT.get(_short(name), _short(name))) is not None:
                what = "its plug-in is installed, and finds no device on this machine"
            note = lost(name, what + did_you_mean(name, known) * (name not in known.values()), names, note)
        elif name in NEEDS_CUDA and not cuda_devices():
            note = lost(name, "the driver reports no NVIDIA GPU", names, note)
        else:
            chosen.append(choice)
    return names, chosen, note


def _short(name: str) -> str:
    return name.casefold().removesuffix("executionprovider")


def _is_device(given: Any) -> bool:
    return hasattr(given, "ep_name")


def _pair(given: Any) -> tuple[Any, Mapping[str, Any]]:
    try:
        name, extra = given
        return name if _is_device(name) else str(name), dict(extra)
    except (TypeError, ValueError):
        raise InputError(
            f"provider {shown(repr(given))}: expected a name, a device, or a pair of one of them and options"
        ) from None


def plugged_in(runtime: Any, short: str) -> tuple[Any, ...]:
    """Return the devices of a plug-in: one that the program registered, else an installed `onnxruntime-ep-NAME`."""

    def devices() -> tuple[Any, ...]:
        listed: Sequence[Any] = getattr(runtime, "get_ep_devices", list)()  # since 1.22
        return tuple(device for device in listed if _short(device.ep_name) == short)

    if found := devices():
        return found
    package = _plug_in(short)
    if package is not None and short not in _REGISTERED:
        try:
            runtime.register_execution_provider_library(f"cam_onnx.{short}", package.get_library_path())
        except Exception as error:  # its exceptions have no common class below Exception
            raise RunFailed(f"plug-in {shown(package.__name__)} cannot be loaded: {shown(error)}") from error
        _REGISTERED.add(short)
    return devices()


_REGISTERED: set[str] = set()  # of this process: a library is registered once


def _plug_in(short: str) -> Any:
    """Return the module of an installed plug-in, which tells where its library is; None: there is none."""
    try:
        package = import_module(f"onnxruntime_ep_{short.replace('-', '_')}")
    except ImportError:
        return None
    return package if hasattr(package, "get_library_path") else None


def lost(name: str, why: str, asked: list[str], note: str | None) -> str:
    """Return the note for a provider that will not run, or raise if it was named without the CPU behind it."""
    if name in asked and CPU not in asked[asked.index(name) :]:
        raise RunFailed(
            f"provider {shown(name)} cannot be used: {why}; put CPUExecutionProvider behind it in the list to go on "
            "without, or leave providers out"
        )
    line = f"{shown(name)} is not used: {why}"
    return line if note is None else f"{note}; {line}"


def without_tf32(chosen: list[Choice]) -> list[Choice]:
    """Return what was chosen with TensorFloat-32 off: CUDA's convolutions and products round to 10 bits in it."""
    return [c._replace(options={**c.options, "use_tf32": "0"}) if c.name == CUDA else c for c in chosen]


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
