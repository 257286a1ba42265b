"""A converted model beside the plain one, in ONNX Runtime on the CPU: what the explanation costs on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Pair, benchmark
from models.builders import BUILDERS

__all__ = ["DEMO"]

DEMO = Path(__file__).parent.parent / "models" / "efficientnet-lite0.onnx"


def session(model: bytes) -> Any:
    """Return a session whose threads do not spin: the other session's would be slowed down by it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def beside_plain(
    model: bytes, shape: Sequence[int], layers: Sequence[str] | None = None, rtol: float = 1e-4
) -> Pair:
    """Return the converted model's run, all outputs fetched, beside the plain model's."""
    import cam_onnx

    plain, converted = session(model), session(cam_onnx.convert(model, layers=layers).to_bytes())
    name = plain.get_inputs()[0].name
    feeds: Mapping[str, Any] = {name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    # a fast wrong answer is no result
    for ours, theirs in zip(converted.run(None, feeds), plain.run(None, feeds), strict=False):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)
    return Pair(ours=lambda: converted.run(None, feeds), baseline=lambda: plain.run(None, feeds))


@benchmark("grad-cam-last-layer-b1", kind="ratio", goal=1.05, rounds=61)
def last_layer_b1() -> Pair:
    """EfficientNet-Lite0 converted at its default layer over the plain model, batch 1."""
    return beside_plain(DEMO.read_bytes(), (1, 3, 224, 224))


@benchmark("grad-cam-last-layer-b8", kind="ratio", goal=1.05)
def last_layer_b8() -> Pair:
    """The same with batch 8."""
    return beside_plain(DEMO.read_bytes(), (8, 3, 224, 224))


@benchmark("grad-cam-residual", kind="ratio", goal=1.05)
def residual() -> Pair:
    """The seeded network `residual` (BatchNormalization, shortcuts; 6 and 8 channels) at 512 x 512, batch 1."""
    return beside_plain(BUILDERS["residual"]().SerializeToString(), (1, 3, 512, 512))


@benchmark("input-gradient-b1", kind="ratio", goal=2.4)
def input_gradient() -> Pair:
    """EfficientNet-Lite0 with the picture itself as target layer over the plain model, batch 1.

    2.4 is the goal for dense convolutions, whose FLOPs say 2.0; a depthwise network may need 4.
    """
    return beside_plain(DEMO.read_bytes(), (1, 3, 224, 224), layers=["image"])
