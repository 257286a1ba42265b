"""Files that not every runtime can run: of ONNX Runtime's own operators, or laid out by it for one processor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import onnx

from cam_onnx.autodiff.backward import label
from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.stand_ins import UNLISTED
from cam_onnx.errors import UnsupportedOperators, shown

__all__ = ["refuse_blocked", "runtime_only"]

BLOCKED = {"com.microsoft.nchwc", "com.ms.internal.nhwc"}
OWN = ("com.microsoft", "com.ms.")


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


def runtime_only(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Return ONNX Runtime's own operators in a file, with counts: converted or not, no other runtime has them."""
    bodies = {(function.domain, function.name) for function in proto.functions}
    found: Counter[str] = Counter()
    waiting: list[Iterable[onnx.NodeProto]] = [proto.graph.node, *(function.node for function in proto.functions)]
    while waiting:
        for node in waiting.pop():
            if node.domain.startswith(OWN) and (node.domain, node.op_type) not in bodies:
                found[f"{node.domain}::{node.op_type}"] += 1
            elif node.domain in ("", "ai.onnx") and node.op_type in UNLISTED:
                found[node.op_type] += 1
            for attribute in node.attribute:
                waiting.extend(graph.node for graph in (attribute.g, *attribute.graphs) if graph.node)
    return tuple(f"{name}: {count} node{'s'[: count > 1]}" for name, count in sorted(found.items()))
