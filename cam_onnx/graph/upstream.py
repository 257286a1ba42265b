"""What a value is made by, node by node: the question that recognisers ask in one form or another."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx_ir as ir

__all__ = ["upstream"]


def upstream(value: ir.Value, stop: Callable[[ir.Node], bool] = lambda node: False) -> Iterator[ir.Node]:
    """Yield each node that a value is made by, once; behind one that `stop` names it does not go on."""
    waiting, seen = [value], {value}
    while waiting:
        node = waiting.pop().producer()
        if node is None:
            continue
        yield node
        if not stop(node):
            given = dict.fromkeys(x for x in node.inputs if x is not None and x not in seen)
            seen.update(given)
            waiting += given
