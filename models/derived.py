"""Networks of other tasks, made of the trained ones by a few nodes: nothing is trained for them.

So that what their maps should mark is known as well: keypoints, anomalies, pictures out of pictures, vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from models.synthetic import SIDE, TEXTURES

__all__ = ["PALETTE", "anomalies", "heatmaps", "painter", "vectors"]

MODELS = Path(__file__).parent
PALETTE = {"ground": (128, 128, 128), "bars": (230, 60, 60), "columns": (60, 180, 60), "checks": (60, 90, 230),
           "dots": (230, 200, 60)}  # fmt: skip
"""In which colour each texture is painted."""

Array = NDArray[Any]


def heatmaps() -> onnx.ModelProto:
    """Return a network with a heatmap for each texture, as for keypoints: texture-areas without the ground."""
    return _behind(
        "texture-areas", "heatmaps = Gather<axis=1>(classes, objects)",
        f"float[batch,{len(TEXTURES)},{SIDE},{SIDE}] heatmaps", objects=np.arange(1, 1 + len(TEXTURES)),
    )  # fmt: skip


def painter() -> onnx.ModelProto:
    """Return a network that paints each texture in a colour of its own: a picture (N, 3, H, W), 0 to 1."""
    colours = np.array(list(PALETTE.values()), np.float32) / 255
    return _behind(
        "texture-areas", "shares = Softmax<axis=1>(classes) painted = Conv(shares, palette)",
        f"float[batch,3,{SIDE},{SIDE}] painted", palette=colours.T[:, :, None, None],
    )  # fmt: skip


def anomalies(usual: Array) -> onnx.ModelProto:
    """Return a network that marks what is unlike the features of usual pictures, (N, 32, h, w), and says how much.

    The distance is Mahalanobis', as of PaDiM (arXiv:2011.08785), with one distribution for all places.
    """
    flat = np.moveaxis(usual, 1, -1).reshape(-1, usual.shape[1]).astype(np.float64)
    spread = np.cov(flat.T)
    spread += 1e-2 * spread.trace() / len(spread) * np.eye(len(spread))
    whiten = np.linalg.cholesky(np.linalg.inv(spread)).T
    return _behind(
        "textures-average",
        """
        unusual = Conv(features, whiten, middle)
        squared = Mul(unusual, unusual)
        distance = ReduceSum(squared, channel)
        anomaly_map = Resize<mode="linear">(distance, , scales)
        pred_score = ReduceMax<axes=[1,2,3], keepdims=0>(distance)
        """,
        f"float[batch] pred_score, float[batch,1,{SIDE},{SIDE}] anomaly_map",
        whiten=whiten[:, :, None, None].astype(np.float32), middle=(-whiten @ flat.mean(axis=0)).astype(np.float32),
        channel=np.array([1]), scales=np.array([1, 1, 4, 4], np.float32),
    )  # fmt: skip


def vectors() -> onnx.ModelProto:
    """Return a network that gives the pooled features alone, 32 numbers: textures-average without its last layer."""
    return _behind(
        "textures-average", "pooled = GlobalAveragePool(features) embedding = Flatten(pooled)",
        "float[batch,32] embedding",
    )  # fmt: skip


def _behind(name: str, nodes: str, outputs: str, **weights: Array) -> onnx.ModelProto:
    """Return a network with other nodes in the place of what it does behind the values that these read."""
    proto = onnx.load(str(MODELS / f"{name}.onnx"))
    [image] = proto.graph.input
    text = f'<ir_version: 8, opset_import: ["": 17]> g (float[1] image) => ({outputs}) {{ {nodes} }}'
    added = onnx.parser.parse_model(text).graph
    made = {output for node in added.node for output in node.output}
    read = {value for node in added.node for value in node.input} - made - set(weights)
    last = max(i for i, node in enumerate(proto.graph.node) if read & set(node.output))
    del proto.graph.node[last + 1 :]
    proto.graph.node.extend(added.node)
    kept = {value for node in proto.graph.node for value in node.input}
    for i in reversed(range(len(proto.graph.initializer))):
        if proto.graph.initializer[i].name not in kept:
            del proto.graph.initializer[i]
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, key) for key, array in weights.items())
    del proto.graph.output[:]
    proto.graph.output.extend(added.output)
    for value in proto.graph.output:
        value.type.tensor_type.shape.dim[0].CopyFrom(image.type.tensor_type.shape.dim[0])
    onnx.checker.check_model(proto, full_check=True)
    return proto
