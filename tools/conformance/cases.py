"""The cases: onnx's backend test data as models, inputs by name and expected outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.loader
from onnx import numpy_helper

__all__ = ["KINDS", "cases", "constants", "loaded", "operator_of"]

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")


def cases() -> Iterator[Any]:
    """Iterate over onnx's cases of ai.onnx."""
    for kind in KINDS:
        for case in onnx.backend.test.loader.load_model_tests(kind=kind):
            if case.model is None or any(node.domain in ("", "ai.onnx") for node in case.model.graph.node):
                yield case


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
