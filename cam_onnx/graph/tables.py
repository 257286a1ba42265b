"""Other rules for the way back, laid over the standard ones: attributions that bend the derivative.

They keep the walk and every rule that they do not name. Those of relevance propagation are in `relevance`.
"""

from __future__ import annotations

from typing import Any

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import RULES, Table
from cam_onnx.autodiff.val import Val
from cam_onnx.errors import InputError, UnknownName
from cam_onnx.graph.relevance import relevance_table

__all__ = ["TABLES", "table"]

COMPOSITES = {  # the rule of convolutions, and of the one at the picture where it has another
    "lrp-epsilon": ("epsilon", ""),
    "lrp-epsilon-plus": ("plus", ""),
    "lrp-epsilon-plus-flat": ("plus", "flat"),
    "lrp-epsilon-gamma-box": ("gamma", "box"),
    "lrp-epsilon-alpha2-beta1": ("alpha-beta", ""),
    "lrp-epsilon-alpha2-beta1-flat": ("alpha-beta", "flat"),
}
TABLES: dict[str, Table] = {
    "": RULES,
    "guided-backprop": Table(RULES),
    "deconvnet": Table(RULES),
    **{name: relevance_table(*rules) for name, rules in COMPOSITES.items()},
}


def table(name: str) -> Table:
    """Return the rule table called `name`, which may have settings behind it (``lrp-epsilon:epsilon=0.1``); "" is the
    derivative.

    Raises
    ------
    UnknownName
        No such table.
    InputError
        A setting that it has no use for, or out of its range.
    """
    family, *settings = name.split(":")
    if family not in TABLES:
        raise UnknownName(f"no rule table {family!r}; there are {', '.join(filter(None, TABLES))}")
    if not settings:
        return TABLES[family]
    found = {key: float(value) for key, _, value in (each.partition("=") for each in settings)}
    if family not in COMPOSITES or not set(found) <= {"epsilon", "gamma"}:
        raise UnknownName(f"rule table {family!r} has no settings {', '.join(settings)}")
    convolutions, first = COMPOSITES[family]
    if "gamma" in found and convolutions != "gamma":
        raise InputError(f"option gamma is of composites with a gamma rule (epsilon-gamma-box), not of {family[4:]}")
    if not found.get("epsilon", 1) > 0 or not found.get("gamma", 0) >= 0:
        raise InputError(f"options {', '.join(settings)}: expected epsilon above 0, gamma at least 0")
    return relevance_table(convolutions, first, **found)


# Relu: what is positive goes back, guided: only where the unit was open (read from y: Conv + Relu stays fused)
TABLES["guided-backprop"].defvjp("Relu", lambda op, g, y, x: op.Where(op.Greater(y, 0.0), op.Relu(g), 0.0))
TABLES["deconvnet"].defvjp("Relu", lambda op, g, y, x: op.Relu(g))


def _guided_clip(op: Emitter, g: Val, y: Val, x: Val, low: Val | None, high: Val | None) -> Val:
    """A Clip from 0 on (ReLU6) is a ReLU, closed above as well; any other is left to the derivative."""
    plain = RULES.find("Clip", op.opset)
    back: Any = plain.entry(0).function(op, g, y, x, low, high)  # type: ignore[union-attr]
    return op.Relu(back) if _from_zero(low) else back


def _deconv_clip(op: Emitter, g: Val, y: Val, x: Val, low: Val | None, high: Val | None) -> Val:
    if _from_zero(low):
        return op.Relu(g)
    plain = RULES.find("Clip", op.opset)
    back: Val = plain.entry(0).function(op, g, y, x, low, high)  # type: ignore[union-attr]
    return back


def _from_zero(low: Val | None) -> bool:
    return low is not None and low.known is not None and low.known.size == 1 and float(low.known.reshape(-1)[0]) == 0


TABLES["guided-backprop"].defvjp("Clip", _guided_clip)
TABLES["deconvnet"].defvjp("Clip", _deconv_clip)
