"""What several test files need: the bundled files, and a plain runtime session beside our engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "models" / "efficientnet-lite0.onnx"
SETTINGS: dict[str, Any] = {
    "preprocess": ROOT / "models" / "efficientnet-lite0.json",
    "labels": ROOT / "models" / "imagenet_labels.txt",
}
CAT = ROOT / "models" / "pictures" / "chelsea.png"
COFFEE = ROOT / "models" / "pictures" / "coffee.png"

Array = np.ndarray[Any, np.dtype[Any]]


def as_bytes(model: onnx.ModelProto | bytes | Path) -> bytes:
    if isinstance(model, Path):
        return model.read_bytes()
    return model if isinstance(model, bytes) else model.SerializeToString()


def session(model: onnx.ModelProto | bytes | Path, optimised: bool = True) -> onnxruntime.InferenceSession:
    """Open a model in ONNX Runtime on the CPU: as the graph is written, or with all its fusions."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(as_bytes(model), options, providers=["CPUExecutionProvider"])


def run(
    model: onnx.ModelProto | bytes | Path,
    feeds: Mapping[str, Array],
    outputs: Sequence[str] | None = None,
    optimised: bool = True,
) -> list[Array]:
    """Run a model in ONNX Runtime, without any of our code."""
    found: list[Array] = session(model, optimised).run(outputs, dict(feeds))
    return found


def evaluate(model: onnx.ModelProto | bytes, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> Any:
    """Run a model in onnx's reference evaluator, without any of our code."""
    proto = onnx.load_model_from_string(as_bytes(model))
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(proto).run(None if outputs is None else list(outputs), dict(feeds))


RUNNERS = {"onnxruntime": run, "reference": evaluate}


def output_names(model: onnx.ModelProto) -> list[str]:
    return [output.name for output in model.graph.output]
