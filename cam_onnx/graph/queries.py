"""Segmentation by queries: a class and a mask for each query, (N, Q, C) beside (N, Q, h, w), as MaskFormer has it.

To the target it is a detection head without boxes. The last class stands for nothing, unless each has a Sigmoid.
"""

from __future__ import annotations

from cam_onnx.autodiff.model import Model
from cam_onnx.graph.ends import outputs_of
from cam_onnx.graph.heads import Head, gives

__all__ = ["queried"]


def queried(model: Model) -> tuple[Head, bool] | None:
    """Return the head of the queries' classes, and whether that is certain.

    It is where masks are products (of queries with the features of pixels), or where names say so. Features of tokens
    beside a map of as many channels have the same shapes.
    """
    outputs = outputs_of(model)
    for mask in (o for o in outputs if len(o.sizes) == 4 and o.sizes[1] is not None):
        for output in (o for o in outputs if len(o.sizes) == 3 and o.sizes[1] == mask.sizes[1]):
            classes = output.sizes[2]
            if not isinstance(classes, int) or classes < 2:
                continue
            name = output.value.name or ""
            why = f"{name}: {classes} classes for each mask of {mask.value.name}"
            each = output.end == "sigmoid"
            head = Head(
                output.source, None, why, classes=classes if each else classes - 1,
                activation="sigmoid" if each else "last",
            )  # fmt: skip
            return head, gives(mask.source) in ("Einsum", "MatMul") or "queries" in name
    return None
