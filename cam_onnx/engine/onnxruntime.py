"""ONNX Runtime as an engine: the only file that imports it, and only when a model is opened.

Three things it does not do by itself are done here. It adds the CPU behind any list of providers and only
warns when the one that was named does not work: what was got is compared with what was asked for. Its
exceptions and log lines are for its developers: they become ours, one line each. And a session that a forked
child inherits hangs when it is destroyed: the child makes a new one and never lets go of the old.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from cam_onnx.engine import Array, Provider, Tensor, known_outputs
from cam_onnx.engine.interrupt import TimedOut, interruptible
from cam_onnx.engine.optional import FREEZES, without_defaults
from cam_onnx.engine.providers import CPU, NEEDS_CUDA, choose, lost, without_tf32
from cam_onnx.errors import CamOnnxError, InputError, InvalidModel, RunFailed, shown
from cam_onnx.external import BITS, External

__all__ = ["OnnxRuntimeEngine", "describe", "open"]

_NONE: frozenset[str] = frozenset()
FATAL = 4  # log severity: whatever goes wrong below that is an exception as well

STORAGE = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}  # bits, to carry any type of that size

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "str",
    **{f"tensor({name})": name for name in ("float16", "bfloat16", "bool", "complex64", "complex128")},
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class OnnxRuntimeEngine:
    """A model in an ONNX Runtime session."""

    def __init__(
        self,
        model: bytes,
        folder: str | None,
        external: Sequence[External],
        providers: str | Sequence[Provider] | None,
        timeout: float | None = None,
        exact: bool = False,
        session: Any = None,
    ) -> None:
        self._model = model
        self._timeout = timeout
        self._folder = folder
        self._external = tuple(external)
        self._runtime = _import()
        asked, self._choice, self.note = choose(self._runtime, providers)
        if exact:
            self._choice = without_tf32(self._choice)
        self._lock = threading.Lock()
        self._sessions: dict[frozenset[str], Any] = {} if session is None else {_NONE: session}
        self._held: list[Array] = []
        given = session is not None
        session = self._live()
        got = session.get_providers()
        self.provider: str = got[0]
        self.tried = tuple(choice.name for choice in self._choice)
        self.got = tuple(got)
        for name in [name for name in self.tried if name not in got and not given]:
            self.note = lost(name, "it could not be started", asked, self.note)
        self.inputs = tuple(_tensor(value, False) for value in session.get_inputs()) + tuple(
            _tensor(value, True) for value in session.get_overridable_initializers()
        )
        self.outputs = tuple(_tensor(value, False) for value in session.get_outputs())
        frozen = self.provider in FREEZES and not given
        self._frozen = frozenset(tensor.name for tensor in self.inputs if tensor.optional and frozen)
        _ENGINES.add(self)

    def run(self, feeds: dict[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Compute the named outputs; see `Engine.run`."""
        names = known_outputs(self, outputs)
        options = self._runtime.RunOptions()
        options.log_severity_level = FATAL

        def stop() -> None:
            options.terminate = True

        try:
            found = interruptible(lambda: self._compute(names, feeds, options), stop, self._timeout)
        except TimedOut as late:
            rest = "" if late.ended else " and is still busy with one operator"
            raise RunFailed(
                f"the run was terminated after {self._timeout:g} s{rest}: raise timeout (limits=, --timeout), or take "
                "a smaller picture or batch"
            ) from late.__cause__
        return dict(zip(names, found, strict=True))

    def _compute(self, names: list[str], feeds: dict[str, Array], options: Any) -> list[Array]:
        session = self._live(self._frozen.intersection(feeds))
        try:
            found: list[Array] = session.run(names, feeds, options)
        except Exception as error:  # its exceptions have no common class below Exception
            raise RunFailed(_run_message(error)) from error
        return found

    def _live(self, fed: frozenset[str] = _NONE) -> Any:
        """Return the session in which the inputs `fed` have no default, made anew in a forked child."""
        if (session := self._sessions.get(fed)) is not None:
            return session
        with self._lock:
            if fed not in self._sessions:
                self._sessions[fed] = self._start(without_defaults(self._model, fed) if fed else self._model)
            return self._sessions[fed]

    def _start(self, model: bytes) -> Any:
        runtime = self._runtime
        options = runtime.SessionOptions()
        options.log_severity_level = FATAL
        if self._folder is not None:
            folder = os.path.abspath(self._folder)
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
            self._held += _hand_over(runtime, options, folder, self._external)
        wants_more = any(choice.name != CPU for choice in self._choice)
        if wants_more:
            # A library or device that is not there is reported by the process's logger, whatever the session's says.
            runtime.set_default_logger_severity(FATAL)
        if hasattr(runtime, "preload_dlls") and any(choice.name in NEEDS_CUDA for choice in self._choice):
            with suppress(Exception):
                runtime.preload_dlls()  # finds CUDA in the nvidia wheels
        try:
            named: dict[str, Any] = {
                "providers": [choice.name for choice in self._choice],
                "provider_options": [choice.options for choice in self._choice],
            }
            if any(choice.devices for choice in self._choice):
                named = {}
                for choice in self._choice:
                    extra = {key: str(value) for key, value in choice.options.items()}
                    if choice.devices:
                        options.add_provider_for_devices(choice.devices, extra)
                    else:
                        options.add_provider(choice.name, extra)
            # its own fallback prints to stdout
            return runtime.InferenceSession(model, options, enable_fallback=0, **named)
        except Exception as error:
            raise _load_error(error) from error
        finally:
            if wants_more:
                runtime.set_default_logger_severity(2)  # its default; there is no way to ask what it was

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it
        for session in self._sessions.values():
            # One reference more than Python knows of: not even the end of the process destroys the session.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
        self._sessions = {}


_ENGINES: weakref.WeakSet[OnnxRuntimeEngine] = weakref.WeakSet()


def _after_fork() -> None:
    for engine in list(_ENGINES):
        engine._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def open(  # noqa: A001
    model: bytes,
    *,
    folder: str | None = None,
    external: Sequence[External] = (),
    providers: str | Sequence[Provider] | None = None,
    timeout: float | None = None,
    exact: bool = False,
    session: Any = None,
) -> OnnxRuntimeEngine:
    """Load a serialized model; see `cam_onnx.engine.open`."""
    return OnnxRuntimeEngine(model, folder, external, providers, timeout, exact, session)


def describe() -> dict[str, Any]:
    """Return what ONNX Runtime says of itself: version, the providers that it lists, the devices that it sees."""
    runtime = _import()
    found: list[Any] = getattr(runtime, "get_ep_devices", list)()  # since 1.22
    devices = [(device.ep_name, device.device.type.name, device.device.vendor) for device in found]
    return {
        "version": runtime.__version__,
        "cuda": getattr(runtime, "cuda_version", None) or None,
        "available": runtime.get_available_providers(),
        "devices": [dict(zip(("provider", "kind", "vendor"), device, strict=True)) for device in devices],
    }


def _import() -> Any:
    # Before the import: it starts a thread then, and a forked child that has lost this thread hangs at its end.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise RunFailed(
            'ONNX Runtime is not installed: pip install "cam-onnx[gpu]" (with an NVIDIA GPU or without) or '
            f'"cam-onnx[cpu]"; or take backend "reference" (slow) ({shown(error)})'
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):  # what is left after one of two distributions was removed
        raise RunFailed(
            "ONNX Runtime is broken: uninstall onnxruntime and onnxruntime-gpu, which share a folder, then install one "
            "(cam-onnx doctor)"
        )
    return onnxruntime


def _hand_over(runtime: Any, options: Any, folder: str, external: Sequence[External]) -> list[Array]:
    """Give ONNX Runtime the data of files that are links out of `folder`, which it would refuse to follow.

    Returns the arrays: the session reads their memory, so they must live as long.
    """
    root = os.path.realpath(folder)
    names, values, held = [], [], []
    for found in external:
        file = os.path.realpath(found.file)
        if os.path.commonpath((file, root)) == root or (bits := BITS[found.dtype]) not in STORAGE:
            continue
        try:
            data = np.fromfile(file, STORAGE[bits], found.nbytes * 8 // bits, offset=found.offset).reshape(found.dims)
            value = runtime.OrtValue.ortvalue_from_numpy_with_onnx_type(data, found.dtype)
        except Exception as error:  # the file changed since it was checked, or memory
            raise InvalidModel(f"tensor {shown(found.name)!r}: {_clean(error)}") from error
        names.append(found.name)
        values.append(value)
        held.append(data)
    if names:
        options.add_external_initializers(names, values)
    return held


def _tensor(value: Any, optional: bool) -> Tensor:
    # An unknown rank and a scalar look the same here.
    shape = tuple(dim if isinstance(dim, int) else dim or None for dim in value.shape) or None
    return Tensor(value.name, DTYPES.get(value.type, value.type), shape, optional)


NO_KERNEL = (
    "not a registered function/op",
    "No Op registered",
    "Could not find an implementation",
    "not currently registered or supported",
)
NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "out of memory", "BFCArena")


def _load_error(error: Exception) -> CamOnnxError:
    text = str(error)
    if any(sign in text for sign in NO_MEMORY):
        return RunFailed(f"ONNX Runtime has not enough memory to load the model ({_clean(error)})")
    if re.search("(provider|EP) option", text):
        return InputError(f"a provider does not take its options: {_clean(error)} (providers=)")
    if "*guarantees*" in text:
        return RunFailed(f"the model's opset is newer than this ONNX Runtime: upgrade it ({_clean(error)})")
    if any(sign in text for sign in NO_KERNEL) or type(error).__name__ == "NotImplemented":
        return RunFailed(f"ONNX Runtime lacks an operator or type of the model: {_clean(error)}; export it without")
    if type(error).__name__ in ("EPFail", "EngineError", "ValueError", "TypeError") or "CUDA" in text:
        return RunFailed(f"ONNX Runtime cannot start: {_clean(error)}")
    return InvalidModel(f"ONNX Runtime does not accept the model: {_clean(error)}; export it again")


def _run_message(error: Exception) -> str:
    text = str(error)
    node = re.search(r"running (\S+) node\. Name:'(.*?)' Status Message: ", text, re.DOTALL)
    where = f"{shown(node[1])} {shown(node[2])!r}" if node else "the model"
    if any(sign in text for sign in NO_MEMORY):
        return f"{where} needs more memory than there is; try a smaller batch or picture"
    return f"{where} failed in ONNX Runtime: {_clean(error, node.end() if node else 0)}"


def _clean(error: Exception, start: int = 0) -> str:
    """Return the sentence of a message: no code, no source file, no C++ signature, one line."""
    text = str(error)[start:].strip() or type(error).__name__
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^\S+\.(?:cc|h|cu):\d+ (?:.*?\) |\S+ )?(?=\S)", "", text, count=1)
    text = text.removeprefix("This is an invalid model. Error: ").removeprefix("Fatal error: ")
    return shown(text.splitlines()[0].strip().removesuffix("."))
