"""Activations and gradients in, saliency out, with arrays from anywhere: NumPy is all this needs.

The map is signed and at the layer's resolution; what makes it drawable is in `saliency_map`. Values that are
not finite stay: a NaN hidden here would be a wrong map later.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cam_onnx.errors import InputError, did_you_mean
from cam_onnx.methods.table import Method, find

__all__ = ["saliency", "weights"]


def saliency(
    activations: ArrayLike, gradients: ArrayLike | None = None, method: str = "grad-cam", **options: Any
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
        Further needs and options of the method, by name.

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
    chosen = find(method)
    arrays = _arguments(chosen, activations, gradients, options)
    result = np.asarray(chosen.function(**arrays))
    shape = arrays["activations"].shape if "activations" in arrays else np.shape(activations)
    if result.ndim == len(shape):
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are reported by saliency_map
            result = (result * arrays["activations"]).sum(axis=1)
    return result


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
    result = np.asarray(chosen.function(**_arguments(chosen, activations, gradients, options)))
    if result.ndim != np.ndim(activations):
        raise InputError(f"{chosen.name} has no weights: it makes the map itself, ask for its saliency")
    return result


def _arguments(chosen: Method, activations: ArrayLike, gradients: ArrayLike | None, options: dict[str, Any]) -> Any:
    """Check what was given against the method's needs and options, and bring arrays to one float type."""
    given = {"activations": activations, "gradients": gradients, **options}
    given = {name: value for name, value in given.items() if value is not None}
    if missing := [need for need in chosen.needs if need not in given]:
        raise InputError(f"{chosen.name} needs {', '.join(chosen.needs)}: not given: {', '.join(missing)}")
    known = [*chosen.needs, *chosen.options]
    for name in options:
        if name not in known:
            has = ", ".join(chosen.options) or "none"
            raise InputError(f"{chosen.name} has no option {name!r}{did_you_mean(name, known)}; its options: {has}")
    needs = {name: np.asarray(given[name]) for name in chosen.needs}
    for name, value in needs.items():
        if value.dtype.kind in "cSUOmM":  # also bfloat16 passes: its kind is V
            raise InputError(f"{name} is an array of {value.dtype}, expected real numbers")
    wide = any(value.dtype == np.float64 for value in needs.values())
    needs = {name: value.astype(np.float64 if wide else np.float32, copy=False) for name, value in needs.items()}
    shapes = {name: needs[name].shape for name in ("activations", "gradients") if name in needs}
    if len(set(shapes.values())) > 1 or any(len(shape) < 2 for shape in shapes.values()):
        text = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"{chosen.name}: expected one shape (N, K, *S), got {text}")
    return {**needs, **{name: given[name] for name in options if name not in needs}}
