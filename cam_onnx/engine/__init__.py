"""Engines run a model. One interface, several implementations behind a name, none imported before it is used.

Whoever runs a model sees `inputs`, `outputs`, `provider` and `run`, and never the library below: its types,
its exceptions and its messages stop in the one file that imports it. What a caller feeds is checked here,
before any runtime: runtimes cast, broadcast and misread (big-endian floats) without a word.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cam_onnx.errors import InputError, UnknownName, did_you_mean, shown

if TYPE_CHECKING:
    from cam_onnx.external import External

__all__ = ["BACKENDS", "Array", "Device", "Engine", "Provider", "Tensor", "check_feeds", "known_outputs", "open"]

Array = np.ndarray[Any, np.dtype[Any]]


class Device(Protocol):
    """One of `onnxruntime.get_ep_devices()`."""

    @property
    def ep_name(self) -> str:
        """The provider's."""


Provider = str | Device | tuple[str | Device, Mapping[str, Any]]

BACKENDS = {"onnxruntime": "cam_onnx.engine.onnxruntime", "reference": "cam_onnx.engine.reference"}


@dataclass(frozen=True)
class Tensor:
    """An input or output: `dtype` is NumPy's name, or the runtime's for what is no tensor of numbers.

    `shape` has a number, a symbol or None for each dimension, and is None where not even the rank is known.
    An `optional` input has a default in the model.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None
    optional: bool = False

    def __str__(self) -> str:
        if self.shape is None:
            return f"{shown(self.name)!r} ({self.dtype})"
        return f"{shown(self.name)!r} ({self.dtype}, {shape_text(self.shape)})"


class Engine(Protocol):
    """A loaded model. `run` may be called from several threads at once."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What may be fed; optional ones last."""

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """What comes out, in the model's order."""

    @property
    def provider(self) -> str:
        """What really runs it, e.g. "CPUExecutionProvider"."""

    @property
    def note(self) -> str | None:
        """One line for people when `provider` is not what was asked or hoped for."""

    def run(self, feeds: dict[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Compute the named outputs (all by default). `feeds` have passed `check_feeds`.

        Raises
        ------
        RunFailed
            The runtime could not; the message names the node where it is known.
        """


def open(  # noqa: A001
    model: bytes,
    *,
    folder: str | None = None,
    external: Sequence[External] = (),
    backend: str = "onnxruntime",
    providers: str | Sequence[Provider] | None = None,
    timeout: float | None = None,
    exact: bool = False,
    session: Any = None,
) -> Engine:
    """Load a serialized model into an engine.

    Parameters
    ----------
    model : bytes
    folder : str, optional
        Where the files of external tensors are looked for. They have to be checked before (`check_external`).
    external : sequence of External
        What `check_external` returned. Only needed where the files are links out of `folder`, as in caches
        that keep models under their hashes: runtimes refuse to follow these by themselves.
    backend : {"onnxruntime", "reference"}
    providers : sequence of str or (str, dict), optional
        Execution providers of ONNX Runtime, by name or short name ("cuda", "cpu"), of plug-ins too; or a device of
        `onnxruntime.get_ep_devices()` in a name's place. None takes what works.
    timeout : float, optional
        Seconds for each run; not for "reference", which cannot be stopped.
    exact : bool
        float32 means float32: on NVIDIA's hardware no TensorFloat-32, which has 10 bits.
    session : InferenceSession, optional
        Of this very model, to be run; not for "reference".

    Raises
    ------
    UnknownName
        No such backend.
    InvalidModel
        The runtime does not accept the model.
    InputError
        A provider does not take its options.
    RunFailed
        The runtime is not installed, or a provider that was named is not available.
    """
    if backend not in BACKENDS:
        raise UnknownName(
            f"unknown backend {shown(backend)!r}, expected {' or '.join(BACKENDS)}{did_you_mean(backend, BACKENDS)}"
        )
    own = {} if session is None or backend == "reference" else {"session": session}
    opened: Engine = import_module(BACKENDS[backend]).open(
        model, folder=folder, external=external, providers=providers, timeout=timeout, exact=exact, **own
    )
    return opened


def check_feeds(engine: Engine, feeds: Mapping[str, Any], inner: Container[str] = ()) -> dict[str, Array]:
    """Return the feeds as contiguous arrays in the machine's byte order, after checking that the model takes them.

    Nothing is cast: a float64 picture for a float32 network is more often a mistake than a wish. `inner`: values from
    inside a network, which may be empty; a level of a pyramid may have no region.

    Raises
    ------
    InputError
        A name that is unknown or missing; a type, rank or fixed dimension that differs; a dimension of 0;
        NaN or infinity (with the first index).
    """
    known = {tensor.name: tensor for tensor in engine.inputs}
    for name in feeds:
        find_input(engine.inputs, name)
    if missing := [tensor for tensor in engine.inputs if not tensor.optional and tensor.name not in feeds]:
        odd = [tensor for tensor in missing if not _feedable(tensor.dtype)]
        if odd:
            raise InputError(f"the model needs an input {' and '.join(map(str, odd))}, which cam_onnx cannot feed")
        listed = " and ".join(map(str, missing))
        raise InputError(f"input {listed} is missing: give it as well (inputs=, --input NAME=FILE.npy)")
    return {name: _checked(known[name], value, name in inner) for name, value in feeds.items()}


def find_input(inputs: Sequence[Tensor], name: str) -> Tensor:
    """Return the input called `name` (InputError if there is none)."""
    known = {tensor.name: tensor for tensor in inputs}
    if name not in known:
        listed = ", ".join(map(str, inputs)) or "none"
        raise InputError(
            f"the model has no input {shown(name)!r}{did_you_mean(str(name), known)} (its inputs: {listed})"
        )
    return known[name]


def _checked(tensor: Tensor, value: Any, inner: bool) -> Array:
    label = f"input {shown(tensor.name)!r}"
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{label}: not an array ({error})") from None
    array = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    check_form(tensor, array.dtype.name, array.shape, empty=inner)
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        first = tuple(int(i) for i in np.unravel_index(int(finite.argmin()), array.shape))
        raise InputError(f"{label}: {array[first]} at index {first} (first of {int((~finite).sum())} not finite)")
    return array


def check_form(tensor: Tensor, dtype: str, shape: Sequence[int], any_batch: bool = False, empty: bool = False) -> None:
    """Refuse (InputError) an array of another type or shape than the model's input takes.

    `any_batch`: the first dimension may differ, since runs are split. `empty`: open dimensions may be 0.
    """
    label = f"input {shown(tensor.name)!r}"
    if not _feedable(tensor.dtype):
        raise InputError(f"{label}: the model wants {tensor.dtype} there, which cam_onnx cannot feed")
    if dtype != tensor.dtype:
        raise InputError(f"{label}: expected {tensor.dtype}, got {dtype}: cast it yourself, .astype({tensor.dtype!r})")
    if tensor.shape is not None:
        if len(shape) != len(tensor.shape):
            raise InputError(
                f"{label}: expected rank {len(tensor.shape)} {shape_text(tensor.shape)}, "
                f"got rank {len(shape)} {shape_text(shape)}"
            )
        for axis, (want, got) in enumerate(zip(tensor.shape, shape, strict=True)):
            fixed = isinstance(want, int) and (axis > 0 or not any_batch)
            if want != got and (fixed or (got == 0 and not empty)):
                raise InputError(
                    f"{label}: dimension {axis} is {got}, expected {want if isinstance(want, int) else 'at least 1'} "
                    f"(the model's shape is {shape_text(tensor.shape)}, yours {shape_text(shape)})"
                )


def known_outputs(engine: Engine, outputs: Sequence[str] | None) -> list[str]:
    """Return the names to compute, all of them for None; a name that the model lacks is an `UnknownName`."""
    names = [tensor.name for tensor in engine.outputs]
    if outputs is None:
        return names
    for name in outputs:
        if name not in names:
            listed = ", ".join(shown(n) for n in names)
            raise UnknownName(f"the model has no output {shown(name)!r}{did_you_mean(name, names)} (it has {listed})")
    return list(outputs)


def _feedable(dtype: str) -> bool:
    return dtype.isidentifier() and dtype not in ("str", "complex64", "complex128")


def shape_text(shape: Sequence[int | str | None]) -> str:
    """Return ``[N, 3, ?, ?]`` for a shape."""
    return f"[{', '.join('?' if dim is None else shown(dim) for dim in shape)}]"
