"""Hugging Face: ``preprocessor_config.json`` and ``config.json`` beside the file, or above its folder ``onnx/``.

What an image processor does is spread over flags with defaults that its class knows; here the flags that are written
count, and an entry without its flag is taken as done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cam_onnx.sources.beside import Unusable
from cam_onnx.sources.table import Said, Subject, mapping, names, number, numbers

__all__ = ["config", "processor"]

RESAMPLES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "area", 5: "bilinear"}  # of PIL
SIDE = 384  # from here on ConvNext's processor cuts nothing


def processor(subject: Subject) -> Iterator[Said]:
    """The image processor."""
    text = subject.beside.text("preprocessor_config.json", up=True)
    if text is None:
        return
    told = mapping(text)
    inner = told.get("image_processor", told)
    if not isinstance(inner, dict):
        raise Unusable("image_processor is no object")
    fields, doubts = _values(inner), list[str]()
    fields["channels"] = "BGR" if inner.get("do_flip_channel_order") else "RGB"
    _geometry(inner, fields, doubts)
    yield Said("preprocessor_config.json (Hugging Face)", fields, doubts=tuple(doubts))


def config(subject: Subject) -> Iterator[Said]:
    """``id2label``; names that only count (LABEL_0) are none."""
    text = subject.beside.text("config.json", up=True)
    if text is None:
        return
    told = mapping(text).get("id2label")
    if told is None:
        return
    labels = names(told, "id2label")
    if labels and any(label != f"LABEL_{index}" for index, label in enumerate(labels)):
        yield Said("config.json (Hugging Face)", labels=labels)


def _values(told: Mapping[str, Any]) -> dict[str, Any]:
    scale = number(told.get("rescale_factor", 1 / 255), "rescale_factor") if told.get("do_rescale", True) else 1.0
    offset = 1.0 if told.get("rescale_offset") and told.get("do_rescale", True) else 0.0
    mean: tuple[float, ...] = (offset,)
    std: tuple[float, ...] = (1.0,)
    if told.get("do_normalize", "image_mean" in told) and told.get("image_mean") is not None:
        mean = tuple(each + offset for each in numbers(told["image_mean"], "image_mean"))
        std = numbers(told.get("image_std", 1.0), "image_std")
        if str(told.get("image_processor_type", "")).startswith("EfficientNet") and told.get("include_top", True):
            std = tuple(each * each for each in std)  # its processor divides once more
    return dict(scale=scale, mean=mean, std=std)


def _geometry(told: Mapping[str, Any], fields: dict[str, Any], doubts: list[str]) -> None:
    resized = _sizes(told.get("size"), "size") if told.get("do_resize", True) else None
    cut = _sizes(told.get("crop_size"), "crop_size") if told.get("do_center_crop") else None
    if "crop_pct" in told and resized is not None and resized[2]:  # ConvNext
        share = number(told["crop_pct"] or 1, "crop_pct")
        fields["fit"] = "crop" if resized[0] < SIDE else "stretch"
        fields |= dict(crop_pct=share if resized[0] < SIDE else 1.0, size=resized[:2])
    elif cut is not None and resized is not None:
        fields |= dict(fit="crop", crop_pct=min(1.0, cut[0] / resized[0]), size=cut[:2])
        if not resized[2] and isinstance(told.get("size"), dict):
            doubts.append("it resizes without keeping the ratio before its crop, which is taken as a plain crop")
    elif cut is not None:
        fields |= dict(fit="crop", size=cut[:2])
    elif resized is not None and not resized[2]:
        fields |= dict(fit="stretch", size=resized[:2])
    elif resized is not None and not told.get("do_pad"):
        fields["fit"] = "crop" if "longest_edge" not in told["size"] else "stretch"
    resample = told.get("resample", 2)
    if "fit" in fields and isinstance(resample, int) and resample in RESAMPLES:
        fields["interpolation"] = RESAMPLES[resample]


def _sizes(said: Any, what: str) -> tuple[int, int, bool] | None:
    """Return height, width, and whether only the shortest edge is fixed."""
    if said is None:
        return None
    if isinstance(said, dict):
        edge = said.get("shortest_edge")
        pair = [edge, edge] if edge is not None else [said.get("height"), said.get("width")]
    else:
        edge = None
        pair = list(said) if isinstance(said, (list, tuple)) else [said, said]
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise Unusable(f"{what} is {str(said)[:60]}, expected height and width")
    height, width = (int(str(n)) for n in pair)
    return height, width, edge is not None
