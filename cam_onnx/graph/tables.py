"""Other rules for the way back, laid over the standard ones: attributions that bend the derivative.

They keep the walk and every rule that they do not name. Those of relevance propagation are in `relevance`.
"""

from __future__ import annotations

from typing import Any

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import RULES, Table
from cam_onnx.autodiff.val import Val
from cam_onnx.errors import UnknownName
from cam_onnx.graph.relevance import relevance_table

__all__ = ["TABLES", "table"]

TABLES: dict[str, Table] = {
    "": RULES,
    "guided-backprop": Table(RULES),
    "deconvnet": Table(RULES),
    "lrp-epsilon": relevance_table("epsilon"),
    "lrp-epsilon-plus": relevance_table("plus"),
    "lrp-epsilon-gamma-box": relevance_table("gamma", first="box"),
    "lrp-epsilon-alpha2-beta1": relevance_table("alpha-beta"),
}


def table(name: str) -> Table:
    """Return the rule table called `name`; "" is the derivative."""
    if name not in TABLES:
        raise UnknownName(f"no rule table {name!r}; there are {', '.join(filter(None, TABLES))}")
    return TABLES[name]


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
