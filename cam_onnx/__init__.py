"""Grad-CAM and its relatives for ONNX models: the gradient becomes part of the file.

Names are resolved at first use, so that ``import cam_onnx`` loads neither onnx nor a runtime nor OpenCV.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cam_onnx.contract import Contract, Preprocess
    from cam_onnx.errors import (
        CamOnnxError,
        ContractError,
        Disconnected,
        InputError,
        InvalidModel,
        LayerNotFound,
        LimitExceeded,
        RunFailed,
        ScoreNotFound,
        UnknownName,
        UnsupportedOperators,
        UnsupportedOpset,
        WriteFailed,
    )
    from cam_onnx.explainer import Explainer, Explanation
    from cam_onnx.graph.convert import Converted, convert
    from cam_onnx.limits import Limits
    from cam_onnx.methods.saliency import saliency
    from cam_onnx.verification import Verification

__version__ = "0.1.0"

__all__ = [
    "CamOnnxError",
    "Contract",
    "ContractError",
    "Converted",
    "Disconnected",
    "Explainer",
    "Explanation",
    "InputError",
    "InvalidModel",
    "LayerNotFound",
    "LimitExceeded",
    "Limits",
    "Preprocess",
    "RunFailed",
    "ScoreNotFound",
    "UnknownName",
    "UnsupportedOperators",
    "UnsupportedOpset",
    "Verification",
    "WriteFailed",
    "__version__",
    "convert",
    "saliency",
]

# Where each public name lives; what is not listed is an error class.
_HOMES = {
    "Contract": "cam_onnx.contract",
    "Converted": "cam_onnx.graph.convert",
    "Explainer": "cam_onnx.explainer",
    "Explanation": "cam_onnx.explainer",
    "Limits": "cam_onnx.limits",
    "Preprocess": "cam_onnx.contract",
    "Verification": "cam_onnx.verification",
    "convert": "cam_onnx.graph.convert",
    "saliency": "cam_onnx.methods.saliency",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cam_onnx' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "cam_onnx.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
