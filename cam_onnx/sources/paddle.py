"""PaddlePaddle: ``inference.yml`` of PaddleX, PaddleClas and PaddleOCR, ``infer_cfg.yml`` of PaddleDetection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cam_onnx.inputs import extents
from cam_onnx.sources.beside import Unusable
from cam_onnx.sources.table import Said, Subject, names, number, numbers
from cam_onnx.sources.yaml import parse

__all__ = ["inference", "line_of_text"]

FILES = ("inference.yml", "infer_cfg.yml")
INTERPOLATIONS = {0: "nearest", 1: "bilinear", 2: "bicubic", 3: "area", 4: "lanczos"}  # of OpenCV


def inference(subject: Subject) -> Iterator[Said]:
    """The list of transformations, and the names of the post-processing."""
    for name in FILES:
        text = subject.beside.text(name)
        if text is None:
            continue
        told = parse(text)
        if not isinstance(told, dict):
            raise Unusable(f"{name} is no mapping")
        lowered = {str(key).casefold(): value for key, value in told.items()}
        steps = lowered.get("preprocess") or []
        if isinstance(steps, dict):
            steps = steps.get("transform_ops") or []
        if not isinstance(steps, list):
            raise Unusable("its transformations are no list")
        fields: dict[str, Any] = {}
        for step in steps:
            kind, options = _step(step)
            if kind in STEPS:
                STEPS[kind](options, fields)
        fields.pop("short", None)
        if "scale" in fields:
            fields.setdefault("channels", "RGB")
        labels = _labels(lowered, subject)
        if fields or labels:
            yield Said(f"{name} (PaddleX)", fields, labels)


def _step(step: Any) -> tuple[str, dict[str, Any]]:
    """Return a transformation's name and options: ``{Name: {...}}``, or ``{type: Name, ...}``."""
    if isinstance(step, dict) and isinstance(step.get("type"), str):
        return step["type"], step
    if isinstance(step, dict) and len(step) == 1:
        [(kind, options)] = step.items()
        return kind, options if isinstance(options, dict) else {}
    raise Unusable(f"a transformation is {str(step)[:60]}")


def _decode(options: dict[str, Any], fields: dict[str, Any]) -> None:
    if options.get("img_mode") in ("RGB", "BGR"):
        fields["channels"] = options["img_mode"]


def _resize(options: dict[str, Any], fields: dict[str, Any]) -> None:
    if "resize_short" in options:
        short = number(options["resize_short"], "resize_short")
        if short <= 0:
            raise Unusable(f"resize_short is {short:g}")
        fields |= dict(fit="crop", crop_pct=1.0)
        fields["short"] = short
    elif options.get("size", options.get("target_size")) is not None:
        fields["size"] = _size(options.get("size", options.get("target_size")))
        fields["fit"] = "corner" if options.get("keep_ratio") else "stretch"
        if options.get("keep_ratio"):
            fields["fill"] = 0.0
    if options.get("interp") in INTERPOLATIONS:
        fields["interpolation"] = INTERPOLATIONS[options["interp"]]


def _crop(options: dict[str, Any], fields: dict[str, Any]) -> None:
    fields["size"] = _size(options.get("size", options.get("crop_size")))
    short = fields.pop("short", None)
    fields |= dict(fit="crop", crop_pct=1.0 if short is None else min(1.0, fields["size"][0] / short))


def _normalize(options: dict[str, Any], fields: dict[str, Any]) -> None:
    scale: Any = options.get("scale")
    if isinstance(scale, str) and scale.replace(" ", "").rstrip(".") in ("1/255", "1./255", "1.0/255", "1/255.0"):
        scale = 1 / 255
    if scale is None:
        scale = 1 / 255 if options.get("is_scale", True) else 1.0
    mean, std = ((0.0,), (1.0,)) if options.get("norm_type") == "none" else (options.get("mean"), options.get("std"))
    fields["scale"] = number(scale, "scale")
    fields["mean"] = numbers(0.0 if mean is None else mean, "mean")
    fields["std"] = numbers(1.0 if std is None else std, "std")


def line_of_text(subject: Subject, height: int = 48) -> dict[str, Any]:
    """Return how PaddleOCR feeds a recogniser: lines of one height (48 from its third version on), BGR from -1 to 1."""
    own, _ = extents(subject.shape or (0, 0, None, None), "NCHW")
    return dict(
        channels="BGR", scale=1 / 255, mean=(0.5,), std=(0.5,), size=(own or height, None), fit="corner", fill=127.5
    )


def _line(options: dict[str, Any], fields: dict[str, Any]) -> None:
    shape = options.get("image_shape")
    if not isinstance(shape, list) or len(shape) != 3:
        raise Unusable(f"image_shape is {str(shape)[:60]}, expected channels, height and width")
    fields |= line_of_text(Subject(), _size(shape[1:])[0]) | {"channels": fields.get("channels", "BGR")}


STEPS = {
    "DecodeImage": _decode,
    "ReadImage": lambda options, fields: _decode({"img_mode": options.get("format")}, fields),
    "ResizeImage": _resize,
    "Resize": _resize,
    "CropImage": _crop,
    "Crop": _crop,
    "NormalizeImage": _normalize,
    "Normalize": _normalize,
    "RecResizeImg": _line,
}


def _size(said: Any) -> tuple[int, int]:
    pair = said if isinstance(said, list) else [said, said]
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise Unusable(f"a size is {str(said)[:60]}, expected height and width")
    return pair[0], pair[1]


def _labels(told: dict[str, Any], subject: Subject) -> tuple[str, ...] | None:
    if told.get("label_list"):
        return names(told["label_list"], "label_list")
    after = told.get("postprocess")
    if not isinstance(after, dict):
        return None
    if after.get("character_dict"):
        found = names(after["character_dict"], "character_dict") or ()
        forms = (("blank", *found), ("blank", *found, " "))
        return next((form for form in forms if subject.fits(len(form))), found)
    for options in after.values():
        if isinstance(options, dict) and options.get("label_list"):
            return names(options["label_list"], "label_list")
    return None
