"""What the standard says of a node: how many inputs and outputs, which attributes, of which types.

A rule takes attributes by name and computes with their values; one that is missing, unknown or of another type is the
file's fault, and is said before any rule sees it. Custom operators have no schema and are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import onnx

from cam_onnx.errors import shown

__all__ = ["Schemas"]

NUMBERS: dict[str, int] = dict(onnx.AttributeProto.AttributeType.items())
KINDS = {number: name.lower() for name, number in NUMBERS.items()}


class _Schema(NamedTuple):
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    attributes: dict[str, int]  # name -> number of AttributeProto.AttributeType
    required: frozenset[str]


class Schemas:
    """The standard's operators at the versions that a model or a function imports."""

    def __init__(self, imports: Iterable[onnx.OperatorSetIdProto]) -> None:
        self._versions = {_domain(entry.domain): entry.version for entry in imports}
        self._known: dict[tuple[str, str], _Schema | None] = {}

    def fault(self, node: onnx.NodeProto) -> str:
        """Return what is wrong with a node by itself, or ""."""
        key = (node.op_type, _domain(node.domain))
        if key not in self._known:
            self._known[key] = self._find(*key)
        schema = self._known[key]
        if schema is None:
            return ""
        for what, names, (least, most) in (
            ("inputs", node.input, schema.inputs),
            ("outputs", node.output, schema.outputs),
        ):
            if not least <= len(names) <= most:
                return f"has {len(names)} {what}, the operator takes {least}{f' to {most}' if most > least else ''}"
        given = set()
        for attribute in node.attribute:
            name, kind = attribute.name, attribute.type
            if name not in schema.attributes:
                return f"has an attribute {shown(name)!r}, which the operator does not know"
            if kind != schema.attributes[name]:
                wanted = KINDS.get(schema.attributes[name])
                return f"has an attribute {shown(name)!r} of kind {KINDS.get(kind, kind)}, expected {wanted}"
            if name in given:
                return f"has the attribute {shown(name)!r} twice"
            given.add(name)
        missing = sorted(schema.required - given)
        return f"lacks the attribute {missing[0]!r}" if missing else ""

    def _find(self, operator: str, domain: str) -> _Schema | None:
        version = self._versions.get(domain)
        if version is None or not onnx.defs.has(operator, domain):
            return None
        try:
            found = onnx.defs.get_schema(operator, version, domain)
        except onnx.defs.SchemaError:  # younger than the model's opset
            return None
        return _Schema(
            (found.min_input, found.max_input),
            (found.min_output, found.max_output),
            {name: NUMBERS[str(attribute.type).rpartition(".")[2]] for name, attribute in found.attributes.items()},
            frozenset(name for name, attribute in found.attributes.items() if attribute.required),
        )


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name
