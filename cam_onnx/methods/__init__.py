"""From what a network did to maps. Importing this package registers every family of methods."""

from __future__ import annotations

from cam_onnx.methods import gradient, activation, perturbation, occlusion, attribution, path, composed, relevance  # isort: skip
from cam_onnx.methods.normalize import fuse, saliency_map
from cam_onnx.methods.saliency import saliency, weights
from cam_onnx.methods.table import METHODS, NEEDS, Method, Noted, find, method, without_gradient

__all__ = [
    "METHODS",
    "NEEDS",
    "Method",
    "Noted",
    "activation",
    "attribution",
    "composed",
    "find",
    "fuse",
    "gradient",
    "method",
    "occlusion",
    "path",
    "perturbation",
    "relevance",
    "saliency",
    "saliency_map",
    "weights",
    "without_gradient",
]
