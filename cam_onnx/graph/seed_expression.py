"""A target that is an expression of the model's values: the tree that `cam_onnx.expression` read, as nodes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from cam_onnx import expression as grammar
from cam_onnx import kinds
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.val import Val
from cam_onnx.errors import InputError, shown
from cam_onnx.graph.choice import explainable
from cam_onnx.graph.seed_values import Values
from cam_onnx.kinds import Kind

__all__ = ["expression"]


def expression(op: Emitter, model: Model, source: ir.Value, kind: Kind) -> Values:
    assert isinstance(kind, kinds.Expression)
    tree = grammar.parse(kind.text, [name for name in model.values if name])
    value, rank = _Evaluator(op, model, kind.text).value(tree)
    if rank != 1:
        raise InputError(
            f"target {shown(kind.text)!r} has {rank - 1} axes beside the batch: index them, or end in .sum(), .mean() "
            "or .max()"
        )
    return op.Unsqueeze(value, [1]), 1


class _Evaluator:
    """Emits a tree; every value is paired with its rank, the batch's axis included (0: a plain number)."""

    def __init__(self, op: Emitter, model: Model, text: str) -> None:
        self.op, self.model, self.text = op, model, text

    def value(self, node: grammar.Node) -> tuple[Val, int]:
        if isinstance(node, grammar.Number):
            return self.op.constant(np.array(node.value, np.float32)), 0
        if isinstance(node, grammar.Name):
            found = self.op.primal(explainable(self.model, node.name))
            return found, found.rank
        if isinstance(node, grammar.Negative):
            inner, rank = self.value(node.of)
            return self.op.Neg(inner), rank
        if isinstance(node, grammar.Reduction):
            return self.reduced(node)
        if isinstance(node, grammar.Index):
            return self.indexed(node)
        (left, ranks), (right, other) = self.value(node.left), self.value(node.right)
        if ranks != other and 0 not in (ranks, other):
            raise self.wrong(f"{node.sign} between {ranks - 1} and {other - 1} axes beside the batch")
        emit = {"+": self.op.Add, "-": self.op.Sub, "*": self.op.Mul, "/": self.op.Div}[node.sign]
        return emit(left, right), max(ranks, other)

    def reduced(self, node: grammar.Reduction) -> tuple[Val, int]:
        inner, rank = self.value(node.of)
        if rank == 0:
            raise self.wrong(f".{node.kind}() of a number")
        emit = getattr(self.op, f"Reduce{node.kind.capitalize()}")
        return (inner, 1) if rank == 1 else (emit(inner, list(range(1, rank)), keepdims=0), 1)

    def indexed(self, node: grammar.Index) -> tuple[Val, int]:
        inner, rank = self.value(node.of)
        at = list(node.at)
        if "..." in at:
            where = at.index("...")
            at[where : where + 1] = [(None, None)] * max(0, rank - len(at) + 1)
        if len(at) > rank:
            raise self.wrong(f"{len(at)} indices for {rank} axes")
        dims = inner.dims if inner.value.shape is not None else [None] * rank
        if at and at[0] not in (0, (None, None)):
            raise self.wrong(
                f"index {at[0]} on the batch's axis: expected 0 or ':', which mean every sample, each by itself"
            )
        for axis in reversed(range(1, len(at))):
            entry, size = at[axis], dims[axis]
            if isinstance(entry, int):
                if isinstance(size, int) and not -size <= entry < size:
                    raise self.wrong(f"index {entry} is out of range: axis {axis} has {size}")
                inner, rank = self.op.Gather(inner, self.op.constant(np.array(entry, np.int64)), axis=axis), rank - 1
            elif entry != (None, None):
                assert isinstance(entry, tuple)
                start, end = entry[0] or 0, np.iinfo(np.int64).max if entry[1] is None else entry[1]
                if isinstance(size, int) and len(range(size)[slice(*entry)]) == 0:
                    raise self.wrong(f"an empty slice of axis {axis}, which has {size}")
                inner = self.op.Slice(inner, [start], [end], [axis])
        return inner, rank

    def wrong(self, what: str) -> InputError:
        return InputError(f"target {shown(self.text)!r}: {what}")
