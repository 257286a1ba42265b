"""From what a network did to maps. Importing this package registers every family of methods."""

from __future__ import annotations

from cam_onnx.methods import gradient, activation, perturbation, occlusion, attribution, path, composed  # isort: skip
from cam_onnx.methods import relevance, full_gradient, attention  # isort: skip
from cam_onnx.methods.needs import NEEDS
from cam_onnx.methods.normalize import fuse, saliency_map
from cam_onnx.methods.saliency import saliency, weights
from cam_onnx.methods.table import METHODS, Method, Noted, find, method, without_gradient

__all__ = [
    "METHODS",
    "NEEDS",
    "Method",
    "Noted",
    "activation",
    "attention",
    "attribution",
    "composed",
    "find",
    "full_gradient",
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
