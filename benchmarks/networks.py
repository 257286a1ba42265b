"""A converted model beside the plain one, in ONNX Runtime on the CPU: what the explanation costs on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.harness import Pair, benchmark
from models.builders import BUILDERS

__all__ = ["DEMO", "beside_plain", "resnet18"]

DEMO = Path(__file__).parent.parent / "models" / "efficientnet-lite0.onnx"


def session(model: bytes) -> Any:
    """Return a session whose threads do not spin: they would take the cores from the other session's."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def beside_plain(model: bytes, shape: Sequence[int], layers: Sequence[str] | None = None) -> Pair:
    """Return the converted model's run, all outputs fetched, beside the plain model's."""
    import cam_onnx

    plain, converted = session(model), session(cam_onnx.convert(model, layers=layers).to_bytes())
    name = plain.get_inputs()[0].name
    feeds: Mapping[str, Any] = {name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    # original outputs come first; a fast wrong answer would be no result
    for theirs, ours in zip(plain.run(None, feeds), converted.run(None, feeds), strict=False):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    return Pair(ours=lambda: converted.run(None, feeds), baseline=lambda: plain.run(None, feeds))


def resnet18() -> bytes:
    """Return a network of ResNet-18's shape, normalisation folded into the convolutions, with seeded weights."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(name: str, *dims: int, gain: float) -> str:
        array = rng.standard_normal(dims) * gain / np.sqrt(np.prod(dims[1:]))
        weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def emit(op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op_type}_{len(nodes)}"
        nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def conv(x: str, channels: int, out: int, kernel: int, stride: int, gain: float = 2**0.5) -> str:
        name, pad = f"weight_{len(nodes)}", kernel // 2
        w, b = weight(name, out, channels, kernel, kernel, gain=gain), weight(f"{name}_bias", out, gain=0.01)
        return emit("Conv", x, w, b, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

    x = emit("Relu", conv("image", 3, 64, 7, 2))
    x = emit("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for out, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        inner = emit("Relu", conv(x, channels, out, 3, stride))
        # half the variance from each side, so that it stays of order one
        shortcut = x if channels == out else conv(x, channels, out, 1, stride, gain=1.0)
        x = emit("Relu", emit("Add", conv(inner, out, out, 3, 1, gain=0.5), shortcut))
        channels = out
    flat = emit("Flatten", emit("GlobalAveragePool", x))
    w, b = weight("weight_head", 1000, 512, gain=1.0), weight("bias_head", 1000, gain=0.01)
    nodes.append(helper.make_node("Gemm", [flat, w, b], ["logits"], name="head", transB=1))
    graph = helper.make_graph(
        nodes,
        "resnet18",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 1000])],
        weights,
    )
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    ).SerializeToString()
    return data


@benchmark("grad-cam-last-layer-b1", kind="ratio", goal=1.05, rounds=61)
def last_layer_b1() -> Pair:
    """EfficientNet-Lite0 converted at its default layer, all outputs fetched, over the plain model; batch 1."""
    return beside_plain(DEMO.read_bytes(), (1, 3, 224, 224))


@benchmark("grad-cam-last-layer-b8", kind="ratio", goal=1.05)
def last_layer_b8() -> Pair:
    """The same with batch 8."""
    return beside_plain(DEMO.read_bytes(), (8, 3, 224, 224))


@benchmark("grad-cam-resnet18-b1", kind="ratio", goal=1.05)
def resnet18_last_layer() -> Pair:
    """The same for a network of ResNet-18's shape with seeded weights, batch 1."""
    return beside_plain(resnet18(), (1, 3, 224, 224))


@benchmark("grad-cam-residual-b1", kind="ratio")
def residual() -> Pair:
    """The same for the builder `residual` at 512 x 512: 8 channels, hardly any arithmetic, so that copying shows."""
    return beside_plain(BUILDERS["residual"]().SerializeToString(), (1, 3, 512, 512))


@benchmark("input-gradient-resnet18-b1", kind="ratio", goal=2.4)
def resnet18_input() -> Pair:
    """The picture itself as target layer over the plain model, ResNet-18's shape; FLOPs say 2.0."""
    return beside_plain(resnet18(), (1, 3, 224, 224), layers=["image"])


@benchmark("input-gradient-b1", kind="ratio", goal=4.0)
def input_gradient() -> Pair:
    """The same for EfficientNet-Lite0; the goal for depthwise networks, where dense ones have 2.4."""
    return beside_plain(DEMO.read_bytes(), (1, 3, 224, 224), layers=["image"])
