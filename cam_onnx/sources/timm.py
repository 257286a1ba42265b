"""timm: ``config.json`` as it stands on the Hub, with ``pretrained_cfg``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cam_onnx.preprocess import INTERPOLATIONS
from cam_onnx.sources.beside import Unusable
from cam_onnx.sources.table import Said, Subject, mapping, names, number, numbers

__all__ = ["config"]

MODES = {"center": "crop", "squash": "stretch", "border": "letterbox"}


def config(subject: Subject) -> Iterator[Said]:
    """``(x / 255 - mean) / std`` after a crop of ``crop_pct``; label names may be codes with descriptions beside."""
    text = subject.beside.text("config.json", up=True)
    if text is None:
        return
    told = mapping(text)
    inner = told.get("pretrained_cfg", told)
    if not isinstance(inner, dict):
        raise Unusable("pretrained_cfg is no object")
    if not {"mean", "std"} <= inner.keys():
        return
    fields: dict[str, Any] = dict(
        channels="RGB",
        scale=1 / 255,
        mean=numbers(inner["mean"], "mean"),
        std=numbers(inner["std"], "std"),
    )
    mode = inner.get("crop_mode") or "center"
    if mode not in MODES:
        raise Unusable(f"crop_mode is {str(mode)[:60]!r}, expected one of {', '.join(MODES)}")
    fields["fit"] = MODES[mode]
    if mode == "border":
        fields["fill"] = 255 * sum(fields["mean"]) / len(fields["mean"])
    if inner.get("interpolation") in INTERPOLATIONS:
        fields["interpolation"] = inner["interpolation"]
    tested = _size(inner, "test_input_size")
    size = tested if tested is not None and subject.shape is not None and _is(subject, tested) else None
    share = inner.get("test_crop_pct") if size is not None else None
    fields["crop_pct"] = number(share or inner.get("crop_pct") or 1.0, "crop_pct")
    fields["size"] = size or _size(inner, "input_size")
    yield Said("config.json (timm)", fields, _labels({**inner, **told}))


def _size(told: dict[str, Any], key: str) -> tuple[int, int] | None:
    said = told.get(key)
    if said is None:
        return None
    if not isinstance(said, list) or len(said) != 3 or not all(isinstance(n, int) and n > 0 for n in said):
        raise Unusable(f"{key} is {str(said)[:60]}, expected channels, height and width")
    return said[1], said[2]


def _is(subject: Subject, size: tuple[int, int]) -> bool:
    shape = list(subject.shape or ())
    return size in ((*shape[2:4],), (*shape[1:3],))


def _labels(told: dict[str, Any]) -> tuple[str, ...] | None:
    if not told.get("label_names"):
        return None
    labels = names(told["label_names"], "label_names")
    described = told.get("label_descriptions")
    if labels and isinstance(described, dict):
        labels = tuple(str(described.get(label, label)) for label in labels)
    return labels
