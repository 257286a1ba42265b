"""The rules, one family a file. Importing this fills `cam_onnx.autodiff.table.RULES`.

To add an operator: one entry in its family's file, one row in ``tests/autodiff/cases.py``.
"""

from cam_onnx.autodiff.rules import (
    arithmetic,
    contrib,
    contrib_attention,
    control_flow,
    convolution,
    deformable,
    elementwise,
    indexing,
    layout,
    linear,
    normalization,
    pooling,
    quantization,
    quantized_entries,
    recurrent,
    reduction,
    regions,
    resize,
    sampling,
    sequences,
    signal,
    softmax,
)

__all__ = [
    "arithmetic",
    "contrib",
    "contrib_attention",
    "control_flow",
    "convolution",
    "deformable",
    "elementwise",
    "indexing",
    "layout",
    "linear",
    "normalization",
    "pooling",
    "quantization",
    "quantized_entries",
    "recurrent",
    "reduction",
    "regions",
    "resize",
    "sampling",
    "sequences",
    "signal",
    "softmax",
]
