"""The activations of recurrent operators, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.val import Refused, Val

__all__ = ["ACTIVATIONS", "Activation", "activations_of"]

Activation = Callable[[Emitter, Val], Val]

# name -> defaults of alpha and beta (as many as it takes), and the function
ACTIVATIONS: dict[str, tuple[tuple[float, ...], Callable[..., Val]]] = {
    "relu": ((), lambda op, x: op.Relu(x)),
    "tanh": ((), lambda op, x: op.Tanh(x)),
    "sigmoid": ((), lambda op, x: op.Sigmoid(x)),
    "softsign": ((), lambda op, x: x / (1.0 + op.Abs(x))),
    "softplus": ((), lambda op, x: op.Softplus(x)),
    "elu": ((1.0,), lambda op, x, alpha: op.Elu(x, alpha=alpha)),
    "leakyrelu": ((0.01,), lambda op, x, alpha: op.LeakyRelu(x, alpha=alpha)),
    "thresholdedrelu": ((1.0,), lambda op, x, alpha: op.Where(op.GreaterOrEqual(x, alpha), x, 0.0)),
    "affine": ((1.0, 0.0), lambda op, x, alpha, beta: x * alpha + beta),
    "scaledtanh": ((1.0, 1.0), lambda op, x, alpha, beta: op.Tanh(x * beta) * alpha),
    "hardsigmoid": ((0.2, 0.5), lambda op, x, alpha, beta: op.HardSigmoid(x, alpha=alpha, beta=beta)),
}


def activations_of(
    names: Sequence[Any], alphas: Sequence[float] | None, betas: Sequence[float] | None
) -> list[Activation]:
    """Return functions; each takes its alpha and beta from the front of the lists, or its defaults."""
    given = [list(alphas or ()), list(betas or ())]
    found: list[Activation] = []
    for name in names:
        text = (name.decode() if isinstance(name, bytes) else str(name)).lower()
        if text not in ACTIVATIONS:
            raise Refused(f"activation {text!r}")
        defaults, function = ACTIVATIONS[text]
        values = [given[i].pop(0) if given[i] else default for i, default in enumerate(defaults)]
        found.append(applied(function, values))
    return found


def applied(function: Callable[..., Val], values: Sequence[float]) -> Activation:
    return lambda op, x: function(op, x, *values)
