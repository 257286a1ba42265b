"""A map that is blank because the gradient is zero: one more run says where on the way it was lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cam_onnx.engine import Engine, batches
from cam_onnx.errors import CamOnnxError
from cam_onnx.explanation import Array, LayerExplanation

if TYPE_CHECKING:
    from cam_onnx.graph.lost import Probe

__all__ = ["with_places"]


def with_places(
    reasons: Sequence[str | None],
    layers: Mapping[str, LayerExplanation],
    feeds: Mapping[str, Array],
    samples: int,
    owner: Sequence[int],
    targets: Any,
    make: Callable[[], tuple[Probe, Engine]],
) -> list[str | None]:
    """Return the reasons, where the gradient is zero with the operator that it ends at.

    Explanation i is about sample ``owner[i]`` of `feeds` and class ``targets[i]``. `make` is called once, if at all.
    What keeps the additional run from being done (no onnx, memory, time) keeps the reason as it is.
    """
    found = list(reasons)
    blank = [i for i, reason in enumerate(reasons) if reason and reason.startswith("all zero")]
    gradients = [layer.gradients for layer in layers.values() if layer.gradients is not None]
    blank = [i for i in blank if any(not np.any(gradient[i]) for gradient in gradients)]
    if not blank:
        return found
    try:
        probe, engine = make()
        for i in blank:
            one = {name: v[owner[i]][None] if v.ndim and len(v) == samples else v for name, v in feeds.items()}
            part, _ = next(batches.chunks(engine, one, 1, probe.target))
            given = {**part, probe.target: np.array([targets[i]], np.int64)}
            shown = engine.run(given, list(probe.gradients.values()))
            text = probe.said({value: not np.any(shown[output]) for value, output in probe.gradients.items()})
            found[i] = f"{reasons[i]}: {text}" if text else reasons[i]
    except (CamOnnxError, ImportError):
        pass
    return found
