"""How an operator is spelled at an opset: the only place that knows.

Rules read and write the newest spelling. On the reading side `read` moves what used to be an attribute into
the input that it became; on the writing side `write` does the reverse, or says which opset would serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import onnx.defs

__all__ = ["LOWEST", "NeedsOpset", "defaults", "moved", "newest", "schema", "write"]

LOWEST = 13  # axes of Squeeze, Unsqueeze and ReduceSum are inputs, Softmax has one axis: rules start here

_REDUCE_18 = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare"

# operator -> (attribute, index of the input that it became, opset since which it is that input)
_MOVED: dict[str, tuple[str, int, int]] = dict.fromkeys(_REDUCE_18.split(), ("axes", 1, 18))


class NeedsOpset(Exception):
    """What is to be emitted exists from `opset` on; the caller raises the model and starts again."""

    def __init__(self, opset: int, what: str) -> None:
        super().__init__(f"{what} needs opset {opset}")
        self.opset, self.what = opset, what


@cache
def schema(op_type: str, opset: int, domain: str = "") -> onnx.defs.OpSchema | None:
    """Return the operator's schema in force at `opset`, or None."""
    try:
        return onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None


@cache
def defaults(op_type: str, opset: int, domain: str = "") -> dict[str, Any]:
    """Return every attribute of the operator at `opset` with its default (None: no default)."""
    found = schema(op_type, opset, domain)
    if found is None:
        return {}
    return {name: _plain(a.default_value) for name, a in found.attributes.items()}


def newest(domain: str = "") -> int:
    """Return the newest opset of `domain` that the installed onnx knows."""
    return int(onnx.defs.onnx_opset_version()) if domain == "" else 10**6


def _plain(attribute: onnx.AttributeProto) -> Any:
    if attribute.type == onnx.AttributeProto.UNDEFINED:
        return None
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def moved(op_type: str, opset: int) -> tuple[str, int] | None:
    """Return (attribute, input index) when at `opset` the operator still has it as an attribute."""
    if op_type in _MOVED:
        attribute, index, since = _MOVED[op_type]
        if opset < since:
            return attribute, index
    return None


def write(op_type: str, arity: int, attributes: Sequence[str], opset: int) -> onnx.defs.OpSchema:
    """Return the schema under which a node may be written at `opset`.

    Raises
    ------
    NeedsOpset
        The operator, one of the attributes, or that many inputs exist only later.
    AttributeError
        No opset has them: a mistake in a rule.
    """
    found = schema(op_type, opset)
    if found is not None and _fits(found, arity, attributes):
        return found
    for later in range(opset + 1, newest() + 1):
        found = schema(op_type, later)
        if found is not None and found.since_version == later and _fits(found, arity, attributes):
            raise NeedsOpset(later, f"{op_type}({', '.join(attributes)})" if attributes else op_type)
    raise AttributeError(f"no opset has {op_type} with {arity} inputs and attributes {list(attributes)}")


def _fits(found: onnx.defs.OpSchema, arity: int, attributes: Sequence[str]) -> bool:
    return found.min_input <= arity <= found.max_input and all(name in found.attributes for name in attributes)
