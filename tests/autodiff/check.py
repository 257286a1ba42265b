"""The checker: is a gradient the finite difference of its forward? It is tested itself before the rules are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx.shape_inference
import onnxruntime
from onnx.reference import ReferenceEvaluator

from cam_onnx import autodiff
from cam_onnx.autodiff.table import RULES, Table, Vjp
from tests.autodiff.cases import Case, given
from tests.derounded import derounded
from tests.kernels import KERNELS

_NAMES = {"float64": "double", "float32": "float", "int64": "int64", "int32": "int32", "bool": "bool"}


def joined(values: list[np.ndarray]) -> np.ndarray:
    return values[0] if len(values) == 1 else np.concatenate([v.ravel() for v in values])


@dataclass
class Trial:
    """One row at one precision, with static or symbolic sizes."""

    case: Case
    dtype: str = "float64"
    symbolic: bool = False
    table: Table = RULES
    seed: int = 0

    @cached_property
    def feeds(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(self.seed)
        drawn = {k: v(rng) for k, v in self.case.inputs.items() if callable(v)}
        known = {k: v.array for k, v in self.case.inputs.items() if isinstance(v, given)}
        return {k: v.astype(self.dtype) for k, v in drawn.items()} | known

    @cached_property
    def model(self) -> onnx.ModelProto:
        fixed = {k: v for k, v in self.case.inputs.items() if not callable(v) and not isinstance(v, given)}
        first = next(iter(self.feeds))

        def typed(name: str, array: np.ndarray) -> str:
            dims = [f"{name}{i}" if self.symbolic and name == first else str(d) for i, d in enumerate(array.shape)]
            return (
                f"{_NAMES[array.dtype.name]}" + (f"[{','.join(dims)}]" if dims else "") + f" {name}"
            )  # "float": a scalar

        kind = "double" if "to=11" in self.case.text else _NAMES[self.dtype]
        domains = ', "com.microsoft": 1' * ("com.microsoft." in self.case.text)
        header = f'<ir_version: 8, opset_import: ["": {self.case.opset}, "local": 1{domains}]>'
        outputs = ", ".join(f"{kind}[] {name}" for name in self.case.of)
        text = (
            f"{header} g ({', '.join(typed(k, v) for k, v in self.feeds.items())}) => ({outputs}) "
            f"{{ {self.case.text} }} {self.case.functions}"
        )
        if self.dtype == "float64":  # types that a subgraph states
            text = text.replace("float[", "double[")
        model = onnx.parser.parse_model(text if self.case.functions else text.replace(', "local": 1', ""))
        for name, value in fixed.items():
            array = np.asarray(value)
            array = array.astype(self.dtype) if array.dtype in (np.float32, np.float64) else array
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        for output, value in zip(model.graph.output, self.run(model, self.feeds), strict=True):
            shape = output.type.tensor_type.shape
            shape.SetInParent()
            shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_param=f"{output.name}{i}") for i in range(value.ndim))
        return onnx.shape_inference.infer_shapes(model)

    @property
    def output(self) -> str:
        return self.model.graph.output[0].name

    @property
    def wrt(self) -> list[str]:
        floats = [k for k, v in self.feeds.items() if v.dtype.kind == "f"]
        if self.case.against:
            return [k for k in floats if k in self.case.against]
        rule = RULES.find(self.case.op_type, self.case.opset, self.case.domain)
        if rule is None or not rule.entries:  # through a body
            return floats
        names = list(self.model.graph.node[0].input)
        return [k for k in floats if isinstance(rule.entry(names.index(k)), Vjp)]

    @cached_property
    def gradient(self) -> onnx.ModelProto:
        return autodiff.gradient(self.model, self.wrt, self.case.of, self.table)

    def run(self, model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        if (self.dtype == "float64" and not self.case.double) or self.case.runtime:
            return [np.asarray(value) for value in ReferenceEvaluator(model, new_ops=KERNELS).run(None, feeds)]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, feeds)

    def forward(self, **changed: np.ndarray) -> np.ndarray:
        """Return the output; of several, all entries in a row."""
        return joined(self.run(self.model, {**self.feeds, **changed}))

    @cached_property
    def smooth(self) -> onnx.ModelProto:
        """What differences are taken of: the model, or without its rounding, in float64."""
        return derounded(self.model, self.feeds) if self.case.derounded else self.model

    def moved(self, name: str, step: np.ndarray) -> np.ndarray:
        """Return the output where one input is moved."""
        if not self.case.derounded:
            return self.forward(**{name: np.asarray(self.feeds[name] + step)})
        feeds = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in self.feeds.items()}
        found: Any = ReferenceEvaluator(self.smooth, new_ops=KERNELS).run(None, {**feeds, name: feeds[name] + step})
        return np.asarray(found[0])

    def vjp(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return a random cotangent and the gradient that it gives with respect to every input."""
        y = self.forward()
        g = np.asarray(np.random.default_rng(self.seed + 1).standard_normal(y.shape)).astype(
            "float64" if y.dtype == np.float64 else "float32"
        )
        values = self.run(self.model, self.feeds)
        parts = [g] if len(values) == 1 else np.split(g, np.cumsum([v.size for v in values])[:-1])
        seeds = {
            f"cotangent/{name}": np.reshape(part, v.shape)
            for name, part, v in zip(self.case.of, parts, values, strict=True)
        }
        results = self.run(self.gradient, {**self.feeds, **seeds})
        return g, dict(zip(self.wrt, results[len(values) :], strict=True))

    def disagreements(self) -> dict[str, str]:
        """Compare each input's gradient with the central difference along three random directions."""
        g, grads = self.vjp()
        found = {}
        rng = np.random.default_rng(self.seed + 2)
        for name in self.wrt:
            x, grad = self.feeds[name], grads[name]
            if grad.shape != x.shape or not np.isfinite(grad).all():
                found[name] = f"shape {grad.shape} for {x.shape}, finite: {np.isfinite(grad).all()}"
                continue
            for _ in range(3):
                v = np.asarray(rng.standard_normal(x.shape)).astype(x.dtype)
                exact = self.dtype == "float64" or self.case.derounded
                h = self.case.step if exact else max(self.case.step, 5e-3)
                difference = (self.moved(name, h * v) - self.moved(name, -h * v)) / (2 * h)
                ours, theirs = np.vdot(grad, v), np.vdot(g, difference)
                tol = (
                    self.case.tol if self.dtype == "float64" else max(self.case.tol, 1e-4)
                )  # float32 rounding of sums over a window
                if abs(ours - theirs) > tol * (abs(theirs) + np.abs(grad * v).sum() + 1e-3):
                    found[name] = f"gradient {ours}, difference {theirs}"
        return found
