"""The original inside a converted file: what was added stands behind it, so that cutting it off is exact.

The contract says how many entries of each part are the original's, and has a digest of its nodes, inputs and outputs:
a file that another tool has reordered or simplified since is refused, not cut in the wrong place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import onnx

from cam_onnx.contract import KEY, Contract
from cam_onnx.errors import ContractError, shown

__all__ = ["original", "outline"]

PARTS = ("node", "initializer", "input", "output", "value_info")


def outline(proto: onnx.ModelProto) -> dict[str, Any]:
    """Return what the contract keeps of a model before it is converted (`Contract.original`)."""
    counts = {part: len(getattr(proto.graph, part)) for part in PARTS}
    counts["opset_import"] = len(proto.opset_import)
    return {**counts, "digest": _digest(proto.graph, counts)}


def original(proto: onnx.ModelProto, contract: Contract, name: str) -> onnx.ModelProto:
    """Return the model that was converted: its raised form where it had to be raised.

    Raises
    ------
    ContractError
        The file was changed after it was converted, or its contract does not say what was there before.
    """
    said = contract.original
    todo = "convert the original model"
    if not said:
        raise ContractError(f"{shown(name)}: an older cam_onnx converted it and did not note what it added; {todo}")
    counts = {part: said.get(part) for part in (*PARTS, "opset_import")}
    sizes = {part: len(getattr(proto.graph, part)) for part in PARTS} | {"opset_import": len(proto.opset_import)}
    whole = all(isinstance(n, int) and 0 <= n <= sizes[part] for part, n in counts.items())
    if not whole or _digest(proto.graph, counts) != said.get("digest"):
        raise ContractError(f"{shown(name)}: the file was changed after it was converted; {todo}")
    restored = onnx.ModelProto()
    restored.CopyFrom(proto)
    for part in PARTS:
        del getattr(restored.graph, part)[counts[part] :]
    del restored.opset_import[counts["opset_import"] :]
    kept = [entry for entry in proto.metadata_props if entry.key != KEY]
    del restored.metadata_props[:]
    restored.metadata_props.extend(kept)
    return restored


def _digest(graph: onnx.GraphProto, counts: dict[str, Any]) -> str:
    """Of the structure, not of the weights: these may move into another file, and take long."""
    digest = hashlib.sha256()

    def add(items: Sequence[bytes]) -> None:
        for item in (str(len(items)).encode(), *items):
            digest.update(len(item).to_bytes(8, "little"))
            digest.update(item)

    for part in ("node", "input", "output"):
        add([entry.SerializeToString(deterministic=True) for entry in getattr(graph, part)[: counts[part]]])
    add([tensor.name.encode("utf-8", "surrogatepass") for tensor in graph.initializer[: counts["initializer"]]])
    return digest.hexdigest()
