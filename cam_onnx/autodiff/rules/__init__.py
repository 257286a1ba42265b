"""The rules, one family a file. Importing this fills `cam_onnx.autodiff.table.RULES`.

To add an operator: one entry in its family's file, one row in ``tests/autodiff/cases.py``.
"""

from cam_onnx.autodiff.rules import (
    arithmetic,
    contrib,
    control_flow,
    convolution,
    elementwise,
    indexing,
    layout,
    linear,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
    sampling,
    signal,
)

__all__ = [
    "arithmetic",
    "contrib",
    "control_flow",
    "convolution",
    "elementwise",
    "indexing",
    "layout",
    "linear",
    "normalization",
    "pooling",
    "quantization",
    "recurrent",
    "reduction",
    "resize",
    "sampling",
    "signal",
]
