"""Is the installation sound? One function a check, one finding each, with the repair beside what is wrong.

Two families of distributions write the same folder without pip noticing: onnxruntime and onnxruntime-gpu into
onnxruntime/, the OpenCVs into cv2/. Two of a family work by luck until one is removed, and then half of the files are
gone. And what a runtime lists as available is what it was built with: only a session tells what works. Nothing that
may be missing or broken is imported on top (`probes` does so in a process of its own).
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import util
from typing import Any, Literal

from cam_onnx import __version__
from cam_onnx.distributions import installed, meets, owners, required, version
from cam_onnx.errors import RunFailed, shown
from cam_onnx.limits import DEFAULTS
from cam_onnx.probes import probe

__all__ = ["CHECKS", "Finding", "examine"]

PACKAGES = ("numpy", "onnx", "onnx-ir", "rich")
INSTALL = 'pip install "cam-onnx[gpu]" (with an NVIDIA GPU or without) or pip install "cam-onnx[cpu]"'
CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Parameters
    ----------
    check : str
        The check's name.
    what : str
        What was found, for people.
    state : {"ok", "warning", "problem"}
        With a warning everything works, but not as well as it could; with a problem something does not work.
    repair : str
        What to do; empty if there is nothing.
    facts : dict
        What was found, for machines.
    """

    check: str
    what: str
    state: Literal["ok", "warning", "problem"] = "ok"
    repair: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def examine(providers: Sequence[str] | None = None) -> list[Finding]:
    """Run all checks.

    Parameters
    ----------
    providers : sequence of str, optional
        Execution providers to ask for, as `cam_onnx.Explainer` takes them.
    """
    return [_guarded(partial(check, providers) if check is session else check) for check in CHECKS]


def machine() -> Finding:
    """Python, the platform, the processors, and what NVIDIA's driver says."""
    from cam_onnx.engine.providers import cuda_devices, cuda_driver

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts: dict[str, Any] = {"python": platform.python_version(), "prefix": sys.prefix}
    facts |= {"platform": platform.platform(), "cores": cores}
    facts |= {"cuda_driver": cuda_driver(), "cuda_devices": cuda_devices()}
    text = f"Python {facts['python']} in {shown(sys.prefix)}; {facts['platform']}; {cores} CPU cores; "
    if facts["cuda_driver"] is None:
        return Finding("machine", f"{text}no NVIDIA driver", facts=facts)
    text += f"NVIDIA driver (CUDA {facts['cuda_driver']}), GPUs: {facts['cuda_devices']}"
    if not facts["cuda_devices"]:
        repair = "nvidia-smi says why; a container has to be started with its GPUs (docker run --gpus all)"
        return Finding("machine", text, "warning", repair, facts)
    return Finding("machine", text, facts=facts)


def packages() -> Finding:
    """What is installed of that which cam_onnx requires. OpenCV and the runtime have checks of their own."""
    wanted = {**dict.fromkeys(PACKAGES, ""), **required()}
    wanted = {name: specifier for name, specifier in wanted.items() if not name.startswith("opencv")}
    facts: dict[str, Any] = {"cam-onnx": __version__, **{name: version(name) for name in wanted}}
    wrong, repair = [], []
    for name, specifier in wanted.items():
        if facts[name] is None:
            wrong.append(f"{name} is not installed")
        elif not meets(facts[name], specifier):
            wrong.append(f"{name} {facts[name]} does not meet {specifier}")
        else:
            continue
        repair.append(f'"{name}{specifier}"')
    text = ", ".join(f"{name} {found}" for name, found in facts.items() if found)
    if wrong:
        return Finding("packages", f"{'; '.join(wrong)} ({text})", "problem", f"pip install {' '.join(repair)}", facts)
    return Finding("packages", text, facts=facts)


def runtime() -> Finding:
    """Which distributions of ONNX Runtime wrote the folder onnxruntime/."""
    found = owners("onnxruntime")
    plugins = {name: version(name) for name in installed() if name.startswith("onnxruntime-ep-")}
    facts = {"distributions": found, "plugins": plugins}
    if len(found) > 1:
        keep = "onnxruntime-gpu" if "onnxruntime-gpu" in found else next(iter(found))
        text = f"{_listed(found)} share one folder, onnxruntime/: the one overwrote parts of the other"
        return Finding("runtime", text, "problem", _one_of(found, keep), facts)
    if found and _gone("onnxruntime"):
        return Finding("runtime", f"{_listed(found)}: its files are gone", "problem", _again(found), facts)
    if found:
        return Finding("runtime", _listed({**found, **plugins}), facts=facts)
    if not _gone("onnxruntime"):
        return Finding("runtime", "onnxruntime can be found, but pip does not know of it", facts=facts)
    text = 'ONNX Runtime is not installed: models run with backend "reference" only (slow)'
    return Finding("runtime", text, "problem", INSTALL, facts)


def session(providers: Sequence[str] | None = None) -> Finding:
    """Which providers a session really gets: a tiny network is run."""
    facts: dict[str, Any] = {"asked": list(providers) if providers else None, "got": None}
    if _gone("onnxruntime"):
        return Finding("session", "not tried: there is no runtime", "warning", "install one", facts)
    found = owners("onnxruntime")
    try:
        facts |= probe("session", facts["asked"])
    except RunFailed as error:
        repair = _again(found) if found else INSTALL
        if providers:
            repair = "leave --providers out, and see whether the default works"
        return Finding("session", f"no session: {error}", "problem", _missing(error) or repair, facts)
    asked = ", ".join(providers) if providers else f"{_short(facts['tried'])} (default)"
    seen = ", ".join(f"{device['kind']} ({device['vendor']})" for device in facts["devices"]) or "not listed"
    text = (
        f"ONNX Runtime {facts['version']}; providers available {_short(facts['available'])}; asked for {asked}; "
        f"got {_short(facts['got'])}; devices {seen}"
    )
    gpus = _cuda_devices()
    if facts["note"]:
        repair = "choose among those that are available, or leave --providers out"
        if gpus and CUDA in facts["tried"]:
            repair = f'install CUDA {facts["cuda"] or ""} and cuDNN, as pip install "onnxruntime-gpu[cuda,cudnn]" does'
        return Finding("session", f"{text} ({facts['note']})", "warning", repair, facts)
    if gpus and CUDA not in facts["available"]:
        repair = f'pip uninstall -y {" ".join(found)}, then pip install "cam-onnx[gpu]"'
        return Finding("session", f"{text}: this machine's NVIDIA GPU is not used", "warning", repair, facts)
    return Finding("session", text, facts=facts)


def opencv() -> Finding:
    """Which distributions of OpenCV wrote the folder cv2/."""
    found = owners("cv2")
    facts = {"distributions": found}
    if len(found) > 1:
        keep = max(found, key=lambda name: "contrib" in name)  # it holds what the plain one holds
        text = f"{_listed(found)} share one folder, cv2/: the one overwrote parts of the other"
        return Finding("opencv", text, "problem", _one_of(found, keep), facts)
    if found and _gone("cv2"):
        return Finding("opencv", f"{_listed(found)}: its files are gone", "problem", _again(found), facts)
    if found:
        return Finding("opencv", _listed(found), facts=facts)
    if not _gone("cv2"):
        return Finding("opencv", "cv2 can be found, but pip does not know of it", facts=facts)
    repair = "pip install opencv-python, or opencv-python-headless on a server"
    return Finding("opencv", "OpenCV is not installed: pictures cannot be read", "problem", repair, facts)


def pictures() -> Finding:
    """Whether pictures come back as they were written."""
    if _gone("cv2"):
        return Finding("pictures", "not tried: there is no OpenCV", "warning", "install it")
    try:
        facts = probe("pictures")
    except RunFailed as error:
        # a library of the system: the message says which
        repair = "as the line says" if "apt-get" in str(error) else _again(owners("cv2") or {"opencv-python": None})
        return Finding("pictures", f"no pictures: {error}", "problem", _missing(error) or repair)
    text = f"OpenCV {facts['version']}, windows: {facts['windows']}, formats: {' '.join(facts['formats'])}"
    if facts["failed"]:
        text += f"; not {' '.join(facts['failed'])}"
        return Finding("pictures", text, "warning", "take an OpenCV from pip, or other formats", facts)
    return Finding("pictures", text, facts=facts)


def conversion() -> Finding:
    """Whether what converts a model can be loaded."""
    try:
        facts = probe("conversion")
    except RunFailed as error:
        repair = _missing(error) or "pip install --force-reinstall --no-deps onnx onnx-ir protobuf"
        return Finding("conversion", f"models cannot be converted: {error}", "problem", repair)
    return Finding("conversion", "onnx, onnx-ir and the gradient rules load", facts=facts)


def limits() -> Finding:
    """Which limits are in force where none is given."""
    facts: dict[str, Any] = asdict(DEFAULTS)
    text = ", ".join(f"{name} {'none' if value is None else format(value, ',')}" for name, value in facts.items())
    if given := os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS"):  # OpenCV's own, which may be the lower one
        facts["OPENCV_IO_MAX_IMAGE_PIXELS"] = given
        text += f"; OPENCV_IO_MAX_IMAGE_PIXELS={shown(given)}"
    return Finding("limits", text, facts=facts)


def telemetry() -> Finding:
    """Whether ONNX Runtime may start its telemetry thread, which hangs forked children."""
    given = os.environ.get("ORT_DISABLE_TELEMETRY")
    text = "off: cam_onnx sets ORT_DISABLE_TELEMETRY=1 before it loads the runtime"
    if given is not None:
        text = f"as you set it: ORT_DISABLE_TELEMETRY={shown(given)}"
    return Finding("telemetry", text, facts={"ORT_DISABLE_TELEMETRY": given})


CHECKS: tuple[Callable[..., Finding], ...] = (
    machine, packages, runtime, session, opencv, pictures, conversion, limits, telemetry,
)  # fmt: skip


def _guarded(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # noqa: BLE001  (a check that fails is a finding, not the end of the examination)
        name = getattr(check, "func", check).__name__
        text = f"could not be checked: {type(error).__name__}: {shown(error)}"
        return Finding(
            name, text, "problem", "repair what the other lines name; if that does not help, report this one"
        )


def _gone(package: str) -> bool:
    # a folder that has lost its __init__.py is there: importing it is what fails
    return util.find_spec(package) is None


def _missing(error: RunFailed) -> str:
    """Return the repair for a package that another one needs, or an empty string."""
    name = re.search(r"ModuleNotFoundError: No module named '(\w+)'$", str(error))
    return f"pip install {name[1].replace('_', '-')}" if name else ""


def _again(found: dict[str, str | None]) -> str:
    return f"pip install --force-reinstall --no-deps {next(iter(found))}"


def _one_of(found: dict[str, str | None], keep: str) -> str:
    return f"pip uninstall -y {' '.join(found)}, then pip install {keep}"


def _listed(found: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {number or ''}".strip() for name, number in found.items())


def _short(providers: Sequence[str]) -> str:
    return ", ".join(shown(name).removesuffix("ExecutionProvider") for name in providers)


def _cuda_devices() -> int:
    from cam_onnx.engine.providers import cuda_devices

    return cuda_devices()
