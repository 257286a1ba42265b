"""Files that a runtime has laid out for one processor: what ONNX Runtime saves at its highest level of optimisation."""

from __future__ import annotations

from cam_onnx.autodiff.backward import label
from cam_onnx.autodiff.model import Model
from cam_onnx.errors import UnsupportedOperators, shown

__all__ = ["refuse_blocked"]

BLOCKED = {"com.microsoft.nchwc", "com.ms.internal.nhwc"}


def refuse_blocked(model: Model) -> None:
    """Raise UnsupportedOperators if values of the model are in the blocked layout of one processor."""
    found: dict[str, list[str]] = {}
    for node in model.graph:
        if node.domain in BLOCKED:
            found.setdefault(f"{node.domain}::{node.op_type}", []).append(label(node))
    if found:
        count = sum(map(len, found.values()))
        raise UnsupportedOperators(
            f"{shown(model.name)}: optimised for one processor: {count} node{'s'[: count > 1]} of "
            f"{', '.join(sorted({name.partition('::')[0] for name in found}))} keep values in its blocked layout; save "
            "it at extended level (ORT_ENABLE_EXTENDED), or give the source model",
            found,
        )
