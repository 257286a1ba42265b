"""From activations and gradients to maps. Importing this package registers every family of methods."""

from __future__ import annotations

from cam_onnx.methods import gradient, activation  # isort: skip (the order of the registry)
from cam_onnx.methods.normalize import fuse, saliency_map
from cam_onnx.methods.saliency import saliency, weights
from cam_onnx.methods.table import METHODS, Method, find, method

__all__ = [
    "METHODS",
    "Method",
    "activation",
    "find",
    "fuse",
    "gradient",
    "method",
    "saliency",
    "saliency_map",
    "weights",
]
