"""The cases: onnx's backend test data as models, inputs by name and expected outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.loader
from onnx import numpy_helper

__all__ = ["KINDS", "cases", "constants", "differentiable", "loaded", "operator_of"]

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")


OLDEST = 7  # opset
MOST = 4  # cases of one version of an operator that are written anew


def cases() -> Iterator[Any]:
    """Iterate over onnx's cases of ai.onnx, and those written again at an opset whose operator has few of its own."""
    known = Counter[tuple[str, int]]()
    alone: dict[str, list[Any]] = {}
    for kind in KINDS:
        for case in onnx.backend.test.loader.load_model_tests(kind=kind):
            if case.model is None:
                yield case
            elif any(node.domain in ("", "ai.onnx") for node in case.model.graph.node):
                yield case
                if len(case.model.graph.node) == 1 and _moves(case.model):
                    name = case.model.graph.node[0].op_type
                    known[name, onnx.defs.get_schema(name, _opset(case.model)).since_version] += 1
                    alone.setdefault(name, []).append(case)
    for name, version in sorted(differentiable()):
        found = (_written_at(case, version) for case in alone.get(name, ()))
        yield from [case for case in found if case is not None][: max(MOST - known[name, version], 0)]


def differentiable() -> set[tuple[str, int]]:
    """Return the operators that onnx tags as differentiable, in each of their versions since opset 7."""
    versions: dict[str, list[Any]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            versions.setdefault(schema.name, []).append(schema)
    tag = onnx.defs.OpSchema.DifferentiationCategory.Differentiable
    found = set()
    for name, schemas in versions.items():
        schemas.sort(key=lambda schema: schema.since_version)
        ends = [schema.since_version for schema in schemas[1:]] + [OLDEST + 1]
        found |= {
            (name, schema.since_version) for schema, end in zip(schemas, ends, strict=True)
            if (end > OLDEST or schema is schemas[-1]) and not schema.deprecated
            and any(given.differentiation_category == tag for given in schema.inputs)
        }  # fmt: skip
    return found


def _moves(model: onnx.ModelProto) -> bool:
    """Whether there are floating-point numbers on either side of a model."""
    kinds = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}
    return all(
        any(v.type.tensor_type.elem_type in kinds for v in side) for side in (model.graph.input, model.graph.output)
    )


def _opset(model: onnx.ModelProto) -> int:
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def _written_at(case: Any, version: int) -> Any:
    """Return a case of one node at an opset at which its operator had another version, or None where that differs.

    Inputs that were attributes then are written as such. What the older version does not have is refused by onnx's
    checker, and where it means something else no engine gives the outputs of the case.
    """
    opset = max(version, OLDEST)
    if onnx.defs.get_schema(case.model.graph.node[0].op_type, _opset(case.model)).since_version == version:
        return None
    model, feeds, outputs = onnx.ModelProto(), list(case.data_sets[0][0]), case.data_sets[0][1]
    model.CopyFrom(case.model)
    node, graph = model.graph.node[0], model.graph
    old, new = (onnx.defs.get_schema(node.op_type, v) for v in (opset, _opset(case.model)))
    known = {o.domain: o for o in model.opset_import}
    known.get("", known.get("ai.onnx")).version = opset  # type: ignore[union-attr]
    model.ir_version = 8
    for i in reversed(range(len(old.inputs), len(node.input))):
        formal, name = new.inputs[min(i, len(new.inputs) - 1)].name, node.input[i]
        if formal not in old.attributes:
            continue
        at = next((j for j, value in enumerate(graph.input) if value.name == name), None)
        if at is not None:
            values = np.asarray(feeds.pop(at))
            if not values.size:
                return None
            node.attribute.append(onnx.helper.make_attribute(formal, values.tolist()))
            del graph.input[at]
        del node.input[i]
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception:  # noqa: BLE001  (onnx raises what it likes)
        return None
    return replace(case, name=f"{case.name}@{opset}", model=model, data_sets=[(feeds, outputs)])


def loaded(case: Any) -> tuple[onnx.ModelProto, dict[str, Any], list[Any]]:
    """Return model, inputs by name and expected outputs."""
    if case.model is not None:
        model, (inputs, outputs) = case.model, case.data_sets[0]
    else:
        folder = Path(case.model_dir)
        model = onnx.load(folder / "model.onnx")
        inputs, outputs = (_read(folder / "test_data_set_0", kind, model) for kind in ("input", "output"))
    weights = {t.name for t in model.graph.initializer}
    names = [i.name for i in model.graph.input if i.name not in weights or len(inputs) == len(model.graph.input)]
    return model, dict(zip(names, map(_array, inputs), strict=False)), list(map(_array, outputs))


def _array(value: Any) -> Any:
    """Return a tensor of what NumPy has no type for as an array too."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _read(folder: Path, kind: str, model: onnx.ModelProto) -> list[Any]:
    infos = getattr(model.graph, kind)
    found: list[Any] = []
    for i in range(len(list(folder.glob(f"{kind}_*.pb")))):
        data = (folder / f"{kind}_{i}.pb").read_bytes()
        which = infos[i].type.WhichOneof("value") if i < len(infos) else "tensor_type"
        if which == "sequence_type":
            found.append(numpy_helper.to_list(onnx.SequenceProto.FromString(data)))
        elif which == "optional_type":
            found.append(numpy_helper.to_optional(onnx.OptionalProto.FromString(data)))
        else:
            found.append(numpy_helper.to_array(onnx.TensorProto.FromString(data)))
    return found


def constants(model: onnx.ModelProto, feeds: dict[str, Any]) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return the model with its whole-number inputs as initializers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    whole = {n: v for n, v in feeds.items() if isinstance(v, np.ndarray) and v.dtype.kind in "iu"}
    copy.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in whole.items())
    kept = [i for i in copy.graph.input if i.name not in whole]
    del copy.graph.input[:]
    copy.graph.input.extend(kept)
    return copy, {n: v for n, v in feeds.items() if n not in whole}


def operator_of(case: Any) -> str:
    """Return the operator of a case, or what else it is."""
    model = case.model if case.model is not None else onnx.load(Path(case.model_dir) / "model.onnx")
    nodes = {node.op_type for node in model.graph.node if node.op_type != "Constant"}
    return nodes.pop() if len(nodes) == 1 else "(several)"
