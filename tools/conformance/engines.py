"""What runs a case: ONNX Runtime or onnx's reference evaluator, in float64 where the types allow it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["COMPLEX", "ENGINES", "FLOATS", "Engine", "Trial", "trials"]

FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
NARROW = FLOATS - {TensorProto.DOUBLE}
COMPLEX = {TensorProto.COMPLEX64, TensorProto.COMPLEX128}
KINDS = {TensorProto.DOUBLE: "float64", TensorProto.FLOAT: "float32", 0: "as given"}
Engine = Callable[[dict[str, np.ndarray]], list[Any]]


@dataclass
class Trial:
    """A case at one precision in one engine."""

    model: onnx.ModelProto
    feeds: dict[str, Any]
    engine: str
    kind: int
    forward: Engine
    given: bool = True  # it gives the outputs of the case
    wrt: list[str] = field(default_factory=list)
    of: list[str] = field(default_factory=list)

    @property
    def said(self) -> str:
        return f"{self.engine}, {KINDS[self.kind]}"


def runtime(model: onnx.ModelProto) -> Engine:
    """Return a session of ONNX Runtime."""
    os.environ.setdefault("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")  # onnx's newest opset is not released yet
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.use_deterministic_compute = True
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    return lambda feeds: session.run(None, {k: v for k, v in feeds.items() if k in names})


def reference(model: onnx.ModelProto) -> Engine:
    """Return onnx's reference evaluator."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun
    from onnx.reference.ops import op_loop as loop

    class Loop(loop.Loop):  # onnx's own lays what iterations give along an axis that is there already
        scalars: list[bool]

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)  # type: ignore[no-untyped-call]
            body = self.__dict__["_run_body"]

            def once(*inputs: Any, **named: Any) -> list[Any]:
                found = list(body(*inputs, **named))
                given = len(found) - self.K
                self.scalars = [np.ndim(v) == 0 for v in found[given:]]
                return [np.asarray(v)[None] if i >= given else v for i, v in enumerate(found)]

            self.scalars = []
            self.__dict__["_run_body"] = once

        def _run(self, *inputs: Any, **named: Any) -> tuple[Any, ...]:
            found = list(super()._run(*inputs, **named))  # type: ignore[no-untyped-call]
            for i, scalar in enumerate(self.scalars, start=self.N):
                found[i] = found[i].reshape(-1) if scalar else found[i]
            return tuple(found)

    class GatherElements(OpRun):  # onnx's own takes 64 entries along the axis at most
        def _run(self, data: np.ndarray, indices: np.ndarray, axis: int = 0) -> tuple[np.ndarray]:
            found: np.ndarray = np.take_along_axis(data, indices.astype(np.int64), axis)
            return (found,)

    evaluator = ReferenceEvaluator(model, new_ops=[Loop, GatherElements])
    return lambda feeds: list(evaluator.run(None, feeds))


ENGINES = {"ONNX Runtime": runtime, "reference": reference}


def widened(model: onnx.ModelProto, feeds: dict[str, Any], kind: int) -> tuple[onnx.ModelProto, dict[str, Any]] | None:
    """Return the model with another type for its floating-point types, if the types then still fit one another."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    fixed, dtype = _fixed(model, kind), helper.tensor_dtype_to_np_dtype(kind)
    _widen(copy.graph, kind, fixed)
    try:
        onnx.shape_inference.infer_shapes(copy, check_type=True, strict_mode=True)
    except Exception:  # noqa: BLE001  (onnx raises what it likes)
        return None
    if copy == model:
        return None
    wide = {
        k: v.astype(dtype)
        if isinstance(v, np.ndarray) and v.dtype.name in ("float32", "float16", "bfloat16") and k not in fixed
        else v
        for k, v in feeds.items()
    }
    return copy, wide


def _widen(graph: onnx.GraphProto, kind: int, fixed: set[str]) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(kind)

    def wide(tensor: onnx.TensorProto) -> None:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))

    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.type.tensor_type.elem_type in NARROW and info.name not in fixed:
            info.type.tensor_type.elem_type = kind
    for tensor in graph.initializer:
        if tensor.data_type in NARROW and tensor.name not in fixed:
            wide(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype", "output_dtype") and attribute.i in NARROW:
                attribute.i = kind
            elif attribute.HasField("t") and attribute.t.data_type in NARROW:
                wide(attribute.t)
            elif attribute.HasField("g"):
                _widen(attribute.g, kind, fixed)


def _fixed(model: onnx.ModelProto, kind: int) -> set[str]:
    """Return the values of a one-node model whose type does not follow the first output's (scales, statistics)."""
    if len(model.graph.node) != 1:
        return set()
    node, opset = model.graph.node[0], next((o.version for o in model.opset_import if not o.domain), 1)
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return set()
    if not schema.outputs:
        return set()
    text = "tensor(double)" if kind == TensorProto.DOUBLE else "tensor(float)"
    wide = {c.type_param_str for c in schema.type_constraints if text in c.allowed_type_strs}
    both = [(node.input, schema.inputs), (node.output, schema.outputs)]
    return {
        name for names, formal in both for i, name in enumerate(names)
        if formal and formal[min(i, len(formal) - 1)].type_str not in wide
    }  # fmt: skip


def same(ours: list[Any], theirs: list[Any]) -> bool:
    """Whether an engine's outputs are the case's."""
    for a, b in zip(ours, theirs, strict=False):
        if isinstance(b, np.ndarray) and b.dtype.kind in "fiub":
            a, b = np.asarray(a, np.float64), b.astype(np.float64)
            if a.shape != b.shape or not np.allclose(a, b, rtol=2e-2, atol=2e-3, equal_nan=True):
                return False
    return True


def trials(model: onnx.ModelProto, feeds: dict[str, Any], expected: list[Any]) -> Iterator[Trial]:
    """Iterate over what runs a case forwards and gives its outputs, best first.

    The reference evaluator only where ONNX Runtime does not: a gradient must run where the model does. Last, what
    runs in ONNX Runtime and gives other outputs.
    """
    narrow = any(isinstance(v, np.ndarray) and v.dtype.itemsize == 2 and v.dtype.kind in "fV" for v in feeds.values())
    kinds: dict[int, Any] = {TensorProto.DOUBLE: widened(model, feeds, TensorProto.DOUBLE)}
    if narrow:
        kinds[TensorProto.FLOAT] = widened(model, feeds, TensorProto.FLOAT)
    kinds[0] = (model, feeds)
    others: list[Trial] = []
    for engine, build in ENGINES.items():
        runs = False
        for kind, used in kinds.items():
            if used is None:
                continue
            try:
                run = build(used[0])
                found = run(used[1])
            except Exception:  # noqa: BLE001
                continue
            if same(found, expected):
                runs = True
                yield Trial(used[0], used[1], engine, kind, run)
            elif engine == "ONNX Runtime":
                others.append(Trial(used[0], used[1], engine, kind, run, given=False))
        if runs and engine == "ONNX Runtime":
            return
    yield from others
