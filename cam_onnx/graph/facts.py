"""What is known of a model's pictures and classes: asked of all sources, with what only the graph knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from cam_onnx.autodiff.model import Model
from cam_onnx.contract import Preprocess
from cam_onnx.graph.locate import Score
from cam_onnx.graph.multiples import multiple
from cam_onnx.graph.normalised import normalised
from cam_onnx.graph.unbatched import unbatched
from cam_onnx.graph.usual import usual
from cam_onnx.options import Settings
from cam_onnx.sources.beside import of_source
from cam_onnx.sources.gather import Known, known
from cam_onnx.sources.table import Subject

__all__ = ["facts"]


def facts(
    model: Model,
    source: Any,
    picture: ir.Value | None,
    score: Score | None,
    settings: Mapping[str, Any],
    each: int = 0,
) -> Known:
    """Return what is known.

    Parameters
    ----------
    model : Model
    source : path, bytes or onnx.ModelProto
        What it was loaded from.
    picture : onnx_ir.Value or None
        The input that a picture goes to.
    score : Score or None
        What is explained.
    settings : dict
        "preprocess" and "labels", as far as the caller says them.
    each : int
        Of how many classes each row of the scores is, where there are rows.

    Raises
    ------
    InputError
        What the caller says does not fit the model.
    """
    value = None if score is None else model.values.get(score.name)
    dims = [] if value is None or value.shape is None else [d for d in value.shape if isinstance(d, int)]
    shaped = picture is not None and picture.shape is not None and picture.dtype is not None and picture.name
    given: Settings = settings.get("preprocess")
    subject = Subject(
        metadata={entry.key: entry.value for entry in model.proto.metadata_props},
        beside=of_source(source),
        image=(picture.name or "") if picture is not None else "",
        shape=_shape(picture) if shaped else None,
        dtype=_dtype(picture) if shaped else "float32",
        classes=each or (None if score is None else score.classes),
        widths=tuple(dims),
    )
    inside = None if isinstance(given, Preprocess) or not shaped else normalised(model, picture)
    hint = None if isinstance(given, Preprocess) or not shaped else usual(model, subject)
    steps = 1 if all(isinstance(d, int) for d in (subject.shape or ())[1:]) else multiple(model.graph)
    return known(subject, given, settings.get("labels"), inside, hint=hint, multiple=steps)


def _shape(value: ir.Value | None) -> tuple[int | str | None, ...]:
    assert value is not None
    assert value.shape is not None
    dims = tuple(d if isinstance(d, int) else d.value for d in value.shape)
    return (1, *dims) if unbatched(value) else dims


def _dtype(value: ir.Value | None) -> str:
    assert value is not None
    assert value.dtype is not None
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(value.dtype.name, value.dtype.name.lower())
