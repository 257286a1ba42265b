"""What exporters write into the file itself: keys of ONNX, ultralytics, OpenVINO, PaddleOCR and Deepness."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from cam_onnx.sources.beside import Unusable
from cam_onnx.sources.paddle import line_of_text
from cam_onnx.sources.table import Said, Subject, mapping, names, number, numbers

__all__ = ["deepness", "openvino", "paddleocr", "standard", "ultralytics"]

LONGEST = 4 << 20  # characters of a literal

# Image.BitmapPixelFormat and Image.NominalPixelRange of the standard: keys and values ignore case
FORMATS = {"gray8": "GRAY", "rgb8": "RGB", "bgr8": "BGR", "rgba8": "RGB", "bgra8": "BGR"}
RANGES: dict[str, dict[str, Any]] = {
    "nominalrange_0_255": dict(scale=1.0),
    "normalized_0_1": dict(scale=1 / 255),
    "normalized_1_1": dict(scale=1 / 127.5, mean=(1.0,)),
    "nominalrange_16_235": dict(scale=219 / 255, mean=(-16.0,)),
}

# model_info resize_type of OpenVINO's Model API
RESIZES = {"standard": "stretch", "fit_to_window": "corner", "fit_to_window_letterbox": "letterbox", "crop": "crop"}


def standard(subject: Subject) -> Iterator[Said]:
    """The standard's own keys for images: order of channels and range of values."""
    said = {key.casefold(): value.strip().casefold() for key, value in subject.metadata.items()}
    fields: dict[str, Any] = {}
    for key, table in (("image.bitmappixelformat", FORMATS), ("image.nominalpixelrange", RANGES)):
        if key in said:
            if said[key] not in table:
                raise Unusable(f"{key} is {said[key][:60]!r}")
            found = table[said[key]]
            fields |= found if isinstance(found, dict) else {"channels": found}
    linear = said.get("image.colorspacegamma") == "linear"
    if fields or linear:
        doubts = ("Image.ColorSpaceGamma says linear light; pixels are fed as the picture's file has them",)
        yield Said("metadata Image.* (ONNX)", fields, doubts=doubts if linear else ())


def ultralytics(subject: Subject) -> Iterator[Said]:
    """``names``, ``imgsz``, ``task``: Python literals. RGB / 255, letterboxed, or for classifiers cut to the middle."""
    told = subject.metadata
    if told.get("author") != "Ultralytics" and not {"names", "task", "stride"} <= told.keys():
        return
    fields: dict[str, Any] = dict(channels="RGB", scale=1 / 255)
    fields |= dict(fit="crop", crop_pct=1.0) if told.get("task") == "classify" else dict(fit="letterbox", fill=114.0)
    if "imgsz" in told:
        sizes = literal(told["imgsz"], "imgsz")
        sizes = [sizes, sizes] if isinstance(sizes, int) else sizes
        if not isinstance(sizes, (list, tuple)) or len(sizes) != 2 or not all(isinstance(n, int) for n in sizes):
            raise Unusable(f"imgsz is {told['imgsz'][:60]!r}, expected [height, width]")
        fields["size"] = tuple(sizes)
    if told.get("channels", "3").strip() == "1":
        fields["channels"] = "GRAY"
    labels = names(literal(told["names"], "names"), "names") if "names" in told else None
    yield Said("metadata of ultralytics", fields, labels)


def openvino(subject: Subject) -> Iterator[Said]:
    """OpenVINO's Model API: ``(pixel - mean_values) / scale_values``; pixels are BGR unless they are reversed."""
    told = {key.removeprefix("model_info "): value.strip() for key, value in subject.metadata.items()
            if key.startswith("model_info ")}  # fmt: skip
    if not told:
        return
    fields: dict[str, Any] = {}
    if truth(told.get("embedded_processing", "")):
        fields |= dict(scale=1.0)
    elif "mean_values" in told or "scale_values" in told:
        for key, name in (("mean_values", "mean"), ("scale_values", "std")):
            if told.get(key):
                fields[name] = numbers(told[key].replace(",", " ").split(), key)
        fields["scale"] = 1.0
    if "reverse_input_channels" in told:
        fields["channels"] = "RGB" if truth(told["reverse_input_channels"]) else "BGR"
    if "resize_type" in told:
        if told["resize_type"] not in RESIZES:
            raise Unusable(f"resize_type is {told['resize_type'][:60]!r}")
        fields["fit"] = RESIZES[told["resize_type"]]
        fields["fill"] = number(told.get("pad_value") or 0, "pad_value")
    labels = None
    if told.get("labels"):
        labels = tuple(name.replace("_", " ") for name in told["labels"].split())
    if fields or labels:
        yield Said("metadata model_info (OpenVINO)", fields, labels)


def paddleocr(subject: Subject) -> Iterator[Said]:
    """One character or label a line. Recognisers have the blank of CTC first, and often a space last.

    PaddleOCR and RapidOCR feed all recognisers in one way, which no file spells out. Of classifiers with `character`
    (orientations) the labels are all there is.
    """
    if "character" not in subject.metadata:
        return
    lines = tuple(subject.metadata["character"].replace("\r\n", "\n").split("\n"))
    while lines and not lines[-1]:
        lines = lines[:-1]
    forms = (lines, ("blank", *lines), ("blank", *lines, " "))
    fitting = [form for form in forms if subject.fits(len(form))]
    if not fitting:
        raise Unusable(f"{len(lines):,} characters do not fit the model's scores")
    yield Said("metadata character (PaddleOCR)", labels=fitting[0])
    if fitting[0] != lines:
        yield Said("PaddleOCR's way with recognisers, which metadata character says it is", line_of_text(subject))


def deepness(subject: Subject) -> Iterator[Said]:
    """QGIS' Deepness: a JSON object or a literal from index to name."""
    text = subject.metadata.get("class_names")
    if text:
        try:
            found: Any = mapping(text)
        except Unusable:
            found = literal(text, "class_names")
        yield Said("metadata class_names (Deepness)", labels=names(found, "class_names"))


def literal(text: str, what: str) -> Any:
    """Return a Python literal; nothing is evaluated.

    Raises
    ------
    Unusable
    """
    if len(text) > LONGEST:
        raise Unusable(f"{what} has {len(text):,} characters")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise Unusable(f"{what} is no literal ({type(error).__name__}): {text[:60]!r}") from None


def truth(text: str) -> bool:
    return text.strip().casefold() in ("true", "yes", "1")
