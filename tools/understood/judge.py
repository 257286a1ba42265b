"""What is found in a file with no options, beside what is known of its network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from cam_onnx.autodiff.model import load
from cam_onnx.contract import Layer
from cam_onnx.engine.layout import Layout
from cam_onnx.errors import LayerNotFound, ScoreNotFound
from cam_onnx.graph.layers import find_layers
from cam_onnx.graph.locate import find_score

__all__ = ["Row", "judge"]

Array = np.ndarray[Any, np.dtype[Any]]
NEAR = 1e-2  # of the largest entry: deep down float32 may differ by that much
WORDS = {
    "features": "the last grid",
    "pooled": "the last grid, as the head hands it to the pooling",
    "entering": "what the last attention reads",
}


@dataclass(frozen=True)
class Row:
    """One file. `verdict`: "right", "wrong" or "asks"; `what`: what the layer is, or why there is none."""

    network: str
    verdict: str
    what: str
    score: str = ""
    layer: str = ""
    operator: str = ""
    grid: tuple[int, ...] = ()
    why: str = ""


def judge(network: str, file: Path, known: Mapping[str, Array]) -> Row:
    """Compare what is found in a file with what its framework says."""
    model = load(str(file))
    try:
        score = find_score(model, None)
    except ScoreNotFound as error:
        return Row(network, "asks", str(error))
    try:
        [place] = find_layers(model, None, score)
    except LayerNotFound as error:
        return Row(network, "asks", str(error), score.name)
    logits, raw = _run(file, [score.name, place.name], known["x"])
    value = Layout(Layer(place.name, place.name, "", place.axes), known["x"].shape[2:]).turned(raw)
    count = len(value)
    what = "" if _near(logits, known["output"][:count]) else "the score is not the framework's output"
    for name, words in WORDS.items():
        for key in [key for key in known if key.rstrip("0123456789") == name]:
            if what or not _near(value, known[key][:count]):
                continue
            alive = known.get(key.replace("features", "alive"))
            if name == "entering" and known.get("alive") is not None and known["alive"].all():
                continue  # what the score reads lies further behind
            if name == "features" and alive is not None and not alive.any():
                return Row(network, "wrong", f"{words}, on which the score does not depend", score.name, place.name)
            what = words
    good = what in WORDS.values()
    if not what:
        what = f"{'x'.join(map(str, value.shape[2:]))}, not {_sizes(known)}"
    node = model.values[place.name].producer()
    operator = "" if node is None else node.op_type
    verdict = "right" if good else "wrong"
    return Row(network, verdict, what, score.name, place.name, operator, value.shape[2:], place.why)


def _sizes(known: Mapping[str, Array]) -> str:
    sizes = {name: "x".join(map(str, v.shape[2:])) for name, v in known.items() if name not in ("x", "output")}
    return ", ".join(f"{name} {size}" for name, size in sizes.items() if not name.startswith("alive"))


def _near(ours: Array, theirs: Array) -> bool:
    return ours.shape == theirs.shape and bool(np.abs(ours - theirs).max() <= NEAR * np.abs(theirs).max())


def _run(file: Path, names: list[str], x: Array) -> list[Array]:
    proto = onnx.load(str(file))
    first = proto.graph.input[0]
    fixed = first.type.tensor_type.shape.dim[0].dim_value
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, {first.name: x[: fixed or None]})
    return found
