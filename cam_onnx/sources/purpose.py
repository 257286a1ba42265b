"""What a model is for, as files beside it say: a class of transformers, or a timm model without classes.

Where the graph leaves open what a model does, that settles it. What the graph says itself stands, also against a file
that belongs to another model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cam_onnx.sources.beside import Beside, Unusable
from cam_onnx.sources.table import mapping

__all__ = ["Purpose", "purpose"]

# the end of an architecture's name in transformers -> the task, as `graph.task` calls it; the first that fits
ARCHITECTURES = {
    "ForImageClassification": "classification",
    "ForDepthEstimation": "depth estimation",
    "ForSemanticSegmentation": "semantic segmentation",
    "ForPoseEstimation": "keypoints",
    "WithProjection": "image embedding",
    "Model": "image embedding",
}


@dataclass(frozen=True)
class Purpose:
    """A task, "" if nothing says one, and what says it."""

    task: str = ""
    where: str = ""


def purpose(beside: Beside) -> Purpose:
    """Return what ``config.json`` says; of a file that cannot be read there is a note elsewhere."""
    try:
        text = beside.text("config.json", up=True)
        told = {} if text is None else mapping(text)
    except Unusable:
        return Purpose()
    return _of_transformers(told) or _of_timm(told) or Purpose()


def _of_transformers(told: dict[str, Any]) -> Purpose | None:
    listed = told.get("architectures")
    first = listed[0] if isinstance(listed, list) and listed else None
    if not isinstance(first, str):
        return None
    task = next((task for end, task in ARCHITECTURES.items() if first.endswith(end)), None)
    return None if task is None else Purpose(task, f"config.json (Hugging Face) says {first[:60]}")


def _of_timm(told: dict[str, Any]) -> Purpose | None:
    if not isinstance(told.get("architecture"), str) or told.get("num_classes") != 0:
        return None
    return Purpose("image embedding", "config.json (timm) says that there are no classes")
