"""What a method needs in, saliency out, with arrays and calls from anywhere: NumPy is all this needs.

The map is signed and at the layer's resolution; what makes it drawable is in `saliency_map`. Values that are
not finite stay: a NaN hidden here would be a wrong map later.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cam_onnx.errors import InputError
from cam_onnx.methods.needs import ARRAYS
from cam_onnx.methods.table import Method, Noted, find

__all__ = ["Result", "apply", "saliency", "weights"]


class Result(NamedTuple):
    """What a method said: its map (N, *S), its weights where it has some, and notes for people."""

    saliency: NDArray[Any]
    weights: NDArray[Any] | None
    notes: tuple[str, ...]


def saliency(
    activations: ArrayLike | None = None,
    gradients: ArrayLike | None = None,
    method: str = "grad-cam",
    **options: Any,
) -> NDArray[Any]:
    """Return the saliency: signed, before ReLU, at the layer's resolution.

    Parameters
    ----------
    activations : array (N, K, *S)
        Of the target layer; `*S` is any number of spatial axes.
    gradients : array (N, K, *S), optional
        dy/dA; required by methods that name it among their needs.
    method : str
        Name in the registry; case, ``-`` and ``_`` do not matter.
    **options
        Further needs and options of the method, by name (`cam_onnx.methods.NEEDS` says what each is).

    Returns
    -------
    array (N, *S)
        float32, or float64 where an argument is float64; in units of the score for the CAM family.

    Raises
    ------
    UnknownName
        No such method.
    InputError
        Shapes differ, a need is missing, or an option is unknown.
    """
    return apply(find(method), activations=activations, gradients=gradients, **options).saliency


def weights(
    activations: ArrayLike, gradients: ArrayLike | None = None, method: str = "grad-cam", **options: Any
) -> NDArray[Any]:
    """Return a method's weights: (N, K, 1, ...) or (N, K, *S); parameters and errors as `saliency`.

    Raises
    ------
    InputError
        Also when the method has no weights but makes the map itself.
    """
    chosen = find(method)
    found = apply(chosen, activations=activations, gradients=gradients, **options).weights
    if found is None:
        raise InputError(f"{chosen.name} has no weights: it makes the map itself, ask for its saliency")
    return found


def apply(method: Method, **given: Any) -> Result:
    """Call a method with needs and options by name; errors as for `saliency`."""
    arguments = _arguments(method, {name: value for name, value in given.items() if value is not None})
    said = method.function(**arguments)
    notes: tuple[str, ...] = ()
    if isinstance(said, Noted):
        said, notes = said
    result = np.asarray(said)
    activations = arguments["activations"] if "activations" in arguments else np.asarray(given.get("activations", 0))
    if ("activations" not in method.needs and method.at == "input") or result.ndim != activations.ndim:
        return Result(result, None, notes)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are reported by saliency_map
        return Result((result * activations).sum(axis=1), result, notes)


def _arguments(chosen: Method, given: dict[str, Any]) -> dict[str, Any]:
    """Check what was given against the method's needs and options, and bring arrays to one float type."""
    if missing := [need for need in chosen.needs if need not in given]:
        raise InputError(f"{chosen.name} needs {', '.join(chosen.needs)}: not given: {', '.join(missing)}")
    options = {name: v for name, v in given.items() if name not in ("activations", "gradients", *chosen.needs)}
    settled = chosen.settle(options)
    arrays = {name: np.asarray(given[name]) for name in chosen.needs if name in ARRAYS}
    lists = {name: [np.asarray(each) for each in given[name]] for name in chosen.lists}
    every = [*arrays.items(), *((name, each) for name, found in lists.items() for each in found)]
    for name, value in every:
        if value.dtype.kind in "cSUOmM":  # also bfloat16 passes: its kind is V
            raise InputError(f"{name} is an array of {value.dtype}, expected real numbers")
    float_ = np.float64 if any(value.dtype == np.float64 for _, value in every) else np.float32
    arrays = {name: value.astype(float_, copy=False) for name, value in arrays.items()}
    listed = {name: [each.astype(float_, copy=False) for each in found] for name, found in lists.items()}
    for group in (("activations", "gradients"), ("image", "image_gradients", "guided")):
        shapes = {name: arrays[name].shape for name in group if name in arrays}
        if len(set(shapes.values())) > 1 or any(len(shape) < 2 for shape in shapes.values()):
            text = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise InputError(f"{chosen.name}: expected one shape (N, K, *S), got {text}")
    if chosen.calls and (several := [name for name, value in arrays.items() if len(value) != 1]):
        raise InputError(f"{chosen.name} runs the network and takes one sample, got {len(arrays[several[0]])}")
    return {**arrays, **listed, **{name: given[name] for name in chosen.calls}, **settled}
