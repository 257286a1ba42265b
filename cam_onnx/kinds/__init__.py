"""Kinds of targets: what is explained, where it is not simply the logit of a class.

One class a kind: an object in the library, a word on the command line, a seed in the graph
(`cam_onnx.graph.seeds`), and an entry of the contract. Those that still leave a class to choose have `of`, as
`Explainer.explain(target=)` takes it. A kind is checked when it is made, as far as that can be without the model.
"""

from __future__ import annotations

from cam_onnx.kinds.classes import Difference, Finer, Logit, Probability, ResidualSoftmax
from cam_onnx.kinds.kind import Kind
from cam_onnx.kinds.places import Area, Box, Detection, Mask, Peak, Pixel
from cam_onnx.kinds.rows import Boxes, Letters, Position
from cam_onnx.kinds.values import Expression, Similarity, Unit, Value

__all__ = [
    "Area",
    "Box",
    "Boxes",
    "Detection",
    "Difference",
    "Expression",
    "Finer",
    "Kind",
    "Letters",
    "Logit",
    "Mask",
    "Peak",
    "Pixel",
    "Position",
    "Probability",
    "ResidualSoftmax",
    "Similarity",
    "Unit",
    "Value",
]
