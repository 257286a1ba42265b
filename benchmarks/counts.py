"""What a gradient adds to a file, counted: these figures are the same on every machine."""

from __future__ import annotations

from typing import Any

import onnx

__all__ = ["added"]


def added(original: onnx.ModelProto, converted: onnx.ModelProto) -> dict[str, int]:
    """Count what was added.

    Returns
    -------
    dict
        "added": nodes; "recomputed": those of them that depend on no cotangent and no target (masks, slopes, shapes,
        statistics of normalisations); "twice": those that repeat a node of the original.
    """
    own = {y for node in original.graph.node for y in node.output}
    # raising a file may split its nodes; what was added stands behind the last of them
    count = 1 + max(i for i, node in enumerate(converted.graph.node) if own & set(node.output))
    nodes = converted.graph.node[count:]
    late = {i.name for i in converted.graph.input[len(original.graph.input) :]}
    late |= {t.name for t in converted.graph.initializer if t.name.startswith("cam_target")}
    for node in nodes:
        if late & set(node.input):
            late.update(node.output)
    known = {_form(node) for node in converted.graph.node[:count]}
    return {
        "added": len(nodes),
        "recomputed": sum(not late & set(node.output) for node in nodes),
        "twice": sum(_form(node) in known for node in nodes if node.op_type != "Shape"),
    }


def _form(node: onnx.NodeProto) -> tuple[Any, ...]:
    attributes = tuple(sorted(a.SerializeToString() for a in node.attribute))
    return (node.domain, node.op_type, tuple(node.input), attributes)
