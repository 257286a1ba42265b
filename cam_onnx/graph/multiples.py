"""What a picture's sizes must be a multiple of, where the network is brought down and up again by fixed factors.

A map of 13 positions is halved to 7 and doubled to 14, and does not fit onto the 13 any more: detectors and
segmentations of any size fail in such an addition, unless their picture has a size that every stride divides.
"""

from __future__ import annotations

from math import lcm

import onnx_ir as ir

from cam_onnx.graph.roles import follow
from cam_onnx.graph.strides import Strides, strides

__all__ = ["multiple"]

_ENLARGING = {"ConvTranspose", "DepthToSpace", "Resize", "Upsample"}


def multiple(graph: ir.Graph) -> int:
    """Return the least common multiple of the strides from which values are brought up to meet others; else 1."""
    known = strides(graph, follow(graph))
    lowest = dict.fromkeys(graph.inputs, 1)  # from which stride a value was brought up by factors; its own: 1
    found = 1
    for node in graph:
        inputs = [x for x in node.inputs if x is not None and x in lowest]
        if not inputs or (node.op_type not in _ENLARGING and not any(y in known for y in node.outputs)):
            continue
        x, y = inputs[0], next((y for y in node.outputs if y in known), node.outputs[0])
        below = max(lowest[x] for x in inputs)
        if node.op_type in _ENLARGING and x in known and not (y in known and not _finer(known[y], known[x])):
            below = 1 if _fitted(node, known, x) else lcm(below, _largest(known[x]))
        elif node.op_type == "SpaceToDepth":
            found = lcm(found, _largest(known[y]))
        elif len({lowest[x] for x in inputs if x not in known or known[x] == known[y]}) > 1:
            found = lcm(found, below)  # where one has been, the other has not: sizes differ unless it divides them
        lowest |= dict.fromkeys(node.outputs, below)
    return found


def _finer(one: Strides, other: Strides) -> bool:
    return any(a < b for a, b in zip(one, other, strict=False))


def _largest(found: Strides) -> int:
    return max((n.numerator for n in found if n.denominator == 1), default=1)


def _fitted(node: ir.Node, known: dict[ir.Value, Strides], x: ir.Value) -> bool:
    """Whether a Resize takes its size from a finer value of the graph, to fit it."""
    if node.op_type != "Resize" or len(node.inputs) < 4 or node.inputs[3] is None:
        return False
    seen, todo = set[ir.Value](), [node.inputs[3]]
    while todo:
        value = todo.pop()
        producer = value.producer()
        if value in seen or producer is None:
            continue
        seen.add(value)
        if producer.op_type != "Shape":
            todo += [each for each in producer.inputs if each is not None]
        elif (of := producer.inputs[0]) is not x and (of not in known or _finer(known[of], known[x])):
            return True
    return False
