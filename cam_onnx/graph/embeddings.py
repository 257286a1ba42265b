"""Vectors that are no scores of classes, though they have their shape.

Those that are compared with vectors of other pictures, told by their name, or by their length of 1; and places in the
picture, told by their name.
"""

from __future__ import annotations

import re

import onnx_ir as ir

__all__ = ["are_places", "is_embedding", "is_normalised"]

_VIEWS = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
_EMBEDDINGS = {
    "embed", "embedding", "embeddings", "embeds", "feat", "feats", "feature", "feature_vector", "features",
    "image_embed", "image_embedding", "image_embeddings", "image_embeds", "image_features", "pooler_output",
    "sentence_embedding", "text_embeds", "text_features", "vector",
}  # fmt: skip
_PLACES = {
    "bbox", "bboxes", "box", "boxes", "coord", "coordinates", "coords", "keypoint", "keypoints", "kps", "kpts",
    "landmark", "landmarks", "landms", "ldmk", "ldmks",
}  # fmt: skip


def are_places(value: ir.Value) -> bool:
    """Whether an output is called what networks call places in the picture: landmarks, corners of a box."""
    return any(word in _PLACES for word in re.split(r"[^a-z]+", (value.name or "").casefold()))


def is_embedding(value: ir.Value) -> bool:
    """Whether an output is called what networks call vectors that are compared and not read."""
    return any(word in _EMBEDDINGS for word in re.split(r"[/.:\s]", (value.name or "").casefold()))


def is_normalised(value: ir.Value) -> bool:
    """Whether a vector is divided by its own length."""
    node = value.producer()
    while node is not None and node.op_type in _VIEWS and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None:
        return False
    if node.op_type == "LpNormalization":
        return True
    if node.op_type != "Div" or node.inputs[0] is None or node.inputs[1] is None:
        return False
    length: ir.Value | None = node.inputs[1]
    while length is not None and (before := length.producer()) is not None:
        if before.op_type == "ReduceL2":
            return _behind_views(before.inputs[0]) is _behind_views(node.inputs[0])
        if before.op_type not in _VIEWS | {"Clip", "Expand", "Max", "Add", "Sqrt", "ReduceSum"}:
            square = before.op_type in ("Mul", "Pow")
            return square and _behind_views(before.inputs[0]) is _behind_views(node.inputs[0])
        length = before.inputs[0]
    return False


def _behind_views(value: ir.Value | None) -> ir.Value | None:
    while value is not None and (node := value.producer()) is not None and node.op_type in _VIEWS:
        value = node.inputs[0]
    return value
