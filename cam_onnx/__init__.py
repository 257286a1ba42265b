"""Grad-CAM and its relatives for ONNX models: the gradient becomes part of the file.

Names are resolved at first use, so that ``import cam_onnx`` loads neither onnx nor a runtime nor OpenCV.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cam_onnx.contract import Contract
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
    from cam_onnx.graph.convert import convert
    from cam_onnx.graph.converted import Converted
    from cam_onnx.kinds import (
        Area,
        Box,
        Boxes,
        Detection,
        Difference,
        Expression,
        Finer,
        Letters,
        Logit,
        Mask,
        Peak,
        Pixel,
        Position,
        Probability,
        ResidualSoftmax,
        Similarity,
        Unit,
        Value,
    )
    from cam_onnx.limits import Limits
    from cam_onnx.methods.saliency import saliency
    from cam_onnx.preprocess import Preprocess
    from cam_onnx.verification import Verification

__version__ = "0.1.0"

__all__ = [
    "Area",
    "Box",
    "Boxes",
    "CamOnnxError",
    "Contract",
    "ContractError",
    "Converted",
    "Detection",
    "Difference",
    "Disconnected",
    "Explainer",
    "Explanation",
    "Expression",
    "Finer",
    "InputError",
    "InvalidModel",
    "LayerNotFound",
    "Letters",
    "LimitExceeded",
    "Limits",
    "Logit",
    "Mask",
    "Peak",
    "Pixel",
    "Position",
    "Preprocess",
    "Probability",
    "ResidualSoftmax",
    "RunFailed",
    "ScoreNotFound",
    "Similarity",
    "Unit",
    "UnknownName",
    "UnsupportedOperators",
    "UnsupportedOpset",
    "Value",
    "Verification",
    "WriteFailed",
    "__version__",
    "convert",
    "saliency",
]

# Where each public name lives; what is not listed is an error class.
_HOMES = {
    "Area": "cam_onnx.kinds",
    "Box": "cam_onnx.kinds",
    "Boxes": "cam_onnx.kinds",
    "Detection": "cam_onnx.kinds",
    "Contract": "cam_onnx.contract",
    "Converted": "cam_onnx.graph.converted",
    "Difference": "cam_onnx.kinds",
    "Explainer": "cam_onnx.explainer",
    "Explanation": "cam_onnx.explainer",
    "Expression": "cam_onnx.kinds",
    "Finer": "cam_onnx.kinds",
    "Letters": "cam_onnx.kinds",
    "Limits": "cam_onnx.limits",
    "Logit": "cam_onnx.kinds",
    "Mask": "cam_onnx.kinds",
    "Peak": "cam_onnx.kinds",
    "Pixel": "cam_onnx.kinds",
    "Position": "cam_onnx.kinds",
    "Preprocess": "cam_onnx.preprocess",
    "Probability": "cam_onnx.kinds",
    "ResidualSoftmax": "cam_onnx.kinds",
    "Similarity": "cam_onnx.kinds",
    "Unit": "cam_onnx.kinds",
    "Value": "cam_onnx.kinds",
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
