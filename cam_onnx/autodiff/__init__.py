"""Reverse-mode differentiation of ONNX graphs; it knows nothing of CAM.

`gradient` adds a derivative to a model; `table` holds the rules and takes new ones.
"""

from cam_onnx.autodiff.gradient import gradient
from cam_onnx.autodiff.table import RULES, Table, broadcast, each, missing, zero

__all__ = ["RULES", "Table", "broadcast", "each", "gradient", "missing", "zero"]
