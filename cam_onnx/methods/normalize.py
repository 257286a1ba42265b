"""From saliency to a map that can be drawn. The order is fixed: ReLU at the layer's resolution, upsampling,
one normalisation at image resolution.

Normalising at low resolution and again at full resolution, or stretching a map that is zero or constant,
makes rounding look like evidence; such a map stays zero here and comes with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cam_onnx.errors import InputError
from cam_onnx.render.upsample import coverage, upsample

__all__ = ["FUSIONS", "fuse", "saliency_map"]

ROUNDING = 16 * float(np.finfo(np.float32).eps)  # spread over magnitude; a sum over K channels rounds this much
TINY = float(np.finfo(np.float32).tiny)

Size = tuple[int, ...]
Box = tuple[float, ...]


def saliency_map(
    saliency: ArrayLike,
    *,
    relu: bool,
    size: Size | Sequence[Size] | None = None,
    box: Box | Sequence[Box | None] | None = None,
    normalize: str | None = "minmax",
) -> tuple[NDArray[Any] | list[NDArray[Any]], list[str | None]]:
    """Return maps at image resolution, and per sample the reason why a map is blank.

    Parameters
    ----------
    saliency : array (N, *S)
        Signed.
    relu : bool
        Drop what is negative, at the layer's resolution. Otherwise the map stays signed.
    size : tuple, or one tuple per sample, or None
        Of the result, one entry per spatial axis; None keeps the layer's resolution.
    box : tuple, or one per sample, or None
        The rectangle of the picture that the network saw, see `cam_onnx.render.upsample.upsample`.
    normalize : {"minmax", None}
        "minmax" with `relu`: (m - min) / (max - min), range [0, 1]. Without: m / max(abs(m)), range [-1, 1],
        zero stays zero. Both over the pixels that the network saw; the others are 0. None: raw values.

    Returns
    -------
    maps : array (N, *size), or a list of arrays where `size` is one per sample
    reasons : list of (str or None)
        A text beginning with "all zero", "nothing positive is left after ReLU", "not finite" or "constant"; the
        map is then zero (with ``normalize=None`` only the one that is not finite; the others keep their values).

    Raises
    ------
    InputError
        No spatial axis, sizes that do not fit, or an unknown `normalize`.
    """
    if normalize not in ("minmax", None):
        raise InputError(f"normalize is {normalize!r}, expected 'minmax' or None")
    values = np.asarray(saliency)
    if values.ndim < 2 or 0 in values.shape[1:]:
        raise InputError(f"saliency has shape {values.shape}, expected (N, *S) with at least one spatial axis")
    values = values.astype(np.result_type(values.dtype, np.float32), copy=False)
    one_each = size is not None and not all(isinstance(n, (int, np.integer)) for n in size)
    sizes: Any = size if one_each else [size or values.shape[1:]] * len(values)
    boxes: Any = box if box is not None and not _is_box(box) else [box] * len(values)
    if len(sizes) != len(values) or len(boxes) != len(values):
        raise InputError(f"{len(values)} maps, but {len(sizes)} sizes and {len(boxes)} boxes")
    maps, reasons = [], []
    for sample, out, rectangle in zip(values, sizes, boxes, strict=True):
        drawn, reason = _one(sample, relu, tuple(out), rectangle, normalize)
        maps.append(drawn)
        reasons.append(reason)
    if one_each:
        return maps, reasons
    return (np.stack(maps) if maps else np.zeros((0, *sizes), values.dtype)), reasons


FUSIONS: dict[str, Any] = {"mean": np.mean, "product": np.prod, "max": np.max}


def fuse(maps: Sequence[ArrayLike], how: str = "mean") -> NDArray[Any]:
    """Return the mean, product or maximum of the normalised maps of several layers.

    Not normalised again: where the layers disagree the largest value is below 1, and that is what it means.
    A layer whose map is blank votes for nothing, so it counts with its zeros.

    Raises
    ------
    InputError
        No maps, or maps of different shapes; `how` is none of these.
    """
    if how not in FUSIONS:
        raise InputError(f"fusion is {how!r}, expected one of {', '.join(FUSIONS)}")
    arrays = [np.asarray(one) for one in maps]
    shapes = sorted({one.shape for one in arrays})
    if len(shapes) != 1:
        raise InputError(f"fuse: expected maps of one shape, got {shapes or 'none'}")
    fused: NDArray[Any] = FUSIONS[how](np.stack(arrays), axis=0)
    return fused


def _one(
    sample: NDArray[Any], relu: bool, size: Size, box: Box | None, normalize: str | None
) -> tuple[NDArray[Any], str | None]:
    finite = np.isfinite(sample)
    if not finite.all():
        count = sample.size - int(finite.sum())
        return np.zeros(size, sample.dtype), (
            f"not finite: {count} of {sample.size} values are NaN or infinite; look at the model's weights and at the "
            "preprocessing"
        )
    reason = _blank(sample)
    if relu and (reason is None or reason.startswith("constant")):
        # what is positive by less than the rounding of the negative values is not evidence either
        if sample.max() <= ROUNDING * -sample.min():
            reason = "nothing positive is left after ReLU: every position speaks against the score"
        sample = np.maximum(sample, 0)
    drawn = upsample(sample, size, box)
    if normalize is None:
        return drawn, reason
    seen = coverage(size, box)
    part = drawn[seen]
    if reason is None:
        reason = (
            _blank(part, " within the picture") if part.size else "all zero: the network saw nothing of the picture"
        )
    if reason is not None:
        return np.zeros_like(drawn), reason
    if relu:  # in place: what the network did not see is zero already, and stays so
        low, high = part.min(), part.max()
        part -= low
        part /= high - low
        np.clip(part, 0, 1, out=part)
    else:
        part /= max(part.max(), -part.min())
    return drawn, None


def _blank(values: NDArray[Any], where: str = "") -> str | None:
    """Say why finite `values` hold nothing to draw, or None."""
    low, high = float(values.min()), float(values.max())
    largest = max(-low, high)
    if largest < TINY:
        return f"all zero{where}" + (f" (largest absolute value {largest:.1e})" if largest else "")
    if high - low <= ROUNDING * largest:
        return f"constant{where}: every value is {high:.6g} up to rounding"
    return None


def _is_box(box: Any) -> bool:
    return all(isinstance(edge, (int, float, np.integer, np.floating)) for edge in box)
