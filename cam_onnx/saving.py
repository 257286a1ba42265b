"""An explanation as files: all are made in memory first, and taken back if one of them cannot be written."""

from __future__ import annotations

import io
import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx import files
from cam_onnx.errors import WriteFailed, shown
from cam_onnx.render.image import encode
from cam_onnx.render.regions import THRESHOLD
from cam_onnx.targets import spoken

if TYPE_CHECKING:
    from cam_onnx.explanation import Explanation

__all__ = ["described", "said", "save"]


def save(
    explanation: Explanation,
    folder: str | os.PathLike[str],
    alpha: float,
    colormap: str,
    regions: bool | float = False,
) -> list[str]:
    """Write four files per sample into `folder`; see `Explanation.save`."""
    folder = os.fspath(folder)
    contents: dict[str, bytes] = {}
    for i, stem in enumerate(stems(explanation)):
        one = explanation[i]
        made = {}
        if one.has_overlay:
            made["overlay"] = f"{stem}.overlay.png"
            contents[made["overlay"]] = encode(one.overlay(alpha, colormap, regions), ".png")
        if one.drawn(0).ndim == 2:
            made["heatmap"] = f"{stem}.heatmap.png"
            contents[made["heatmap"]] = encode(one.heatmap(colormap), ".png")
        made["saliency"] = f"{stem}.saliency.npy"
        contents[made["saliency"]] = npy(one.saliency[0])
        data = {**one.to_dict(regions), "files": made, "colormap": colormap}
        text = json.dumps(finite(data), indent=1, ensure_ascii=False) + "\n"
        contents[f"{stem}.explanation.json"] = text.encode("utf-8", "backslashreplace")
    new_folder = not os.path.isdir(folder)
    if new_folder:
        try:
            os.mkdir(folder)
        except OSError as error:
            raise WriteFailed(f"{shown(folder)}: cannot make this folder ({error.strerror})") from None
    written: list[str] = []
    try:
        for name, content in contents.items():
            path = os.path.join(folder, name)
            is_new = not os.path.exists(path)
            files.write(path, content)
            written += [path] if is_new else []
    except BaseException:
        for path in written:
            os.unlink(path)
        if new_folder:
            os.rmdir(folder)
        raise
    return [os.path.join(folder, name) for name in contents]


def described(explanation: Explanation, regions: bool | float = False) -> dict[str, Any]:
    """Return what can be said in JSON of one sample (the first); see `Explanation.to_dict`."""
    index, entry = int(explanation.classes[0]), int(explanation.target[0])
    probabilities, each = explanation.probabilities, explanation.contract.each
    place = {} if not each else {"row": entry // each, "box": explanation.boxes[0]}
    found = {
        "name": explanation.names[0],
        "method": explanation.method,
        "layers": list(explanation.layers),
        "target": {
            "index": index,
            "name": explanation.label(index),
            "kind": explanation.contract.target.get("kind"),
            "explained": said(explanation),
            "score": float(explanation.score[0]),
            "probability": None if probabilities is None else float(probabilities[0, entry]),
            **place,
        },
        "top": [{"index": i, "name": name, "probability": p} for i, name, p in explanation.top()[0]],
        "blank": explanation.reasons[0],
        "provider": explanation.provider,
        "seconds": {step: round(seconds, 6) for step, seconds in explanation.timings.items()},
        "notes": explanation.notes,
        "preprocess": None if explanation.contract.preprocess is None else asdict(explanation.contract.preprocess),
        "origin": explanation.contract.origin,
        "model_sha256": explanation.contract.source_sha256,
        "tool": explanation.contract.tool,
    }
    if regions is not False:
        level = THRESHOLD if regions is True else regions
        warm = [region.to_dict() for region in explanation[0].regions(level)]
        found["regions"] = {"threshold": level, "found": warm}
    return found


def said(one: Explanation) -> str:
    """Return what was explained of one sample (the first), in words."""
    index, each = int(one.classes[0]), one.contract.each
    text = spoken(one.contract, index, one.label(index), one.logits.shape[1])
    if not each:
        return text
    if one.contract.target.get("kind") == "letters":
        return f"{text} at position {int(one.target[0]) // each}"
    box = one.boxes[0] if one.boxes else None
    return text if box is None else f"{text} in the box {' '.join(f'{edge:.0f}' for edge in box)}"


def stems(explanation: Explanation) -> list[str]:
    """Return one file name stem per sample, each different: its name, with the target where names repeat."""
    names = explanation.names
    found: list[str] = []
    each = explanation.contract.each
    numbers = range(len(names)) if each else explanation.target  # of boxes and letters, in their order
    for name, target in zip(names, numbers, strict=True):
        stem = f"{name}.{target}" if names.count(name) > 1 else name
        unique, count = stem, 1
        while unique in found:
            count += 1
            unique = f"{stem}_{count}"
        found.append(unique)
    return found


def npy(array: NDArray[Any]) -> bytes:
    """Return the array as a .npy file's bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
