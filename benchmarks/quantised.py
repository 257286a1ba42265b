"""What the explanation of a quantised network costs: beside the quantised network itself, and beside the float one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Pair, benchmark
from benchmarks.networks import DEMO, session

__all__: list[str] = []

FORMS = {"qoperator": "QOperator uint8 per channel", "qdq": "QDQ uint8 per channel"}


@cache
def sessions(form: str) -> tuple[Any, Any, Any]:
    """Return sessions of the float network, of its quantised form, and of that form converted."""
    import onnx

    import cam_onnx
    from tools.production.forms import calibration, make
    from tools.production.measure import CALIBRATED

    settings = cam_onnx.Preprocess.from_json(DEMO.with_suffix(".json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        path = make(FORMS[form], DEMO, Path(folder) / "form.onnx", calibration(CALIBRATED, onnx.load(DEMO), settings))
        data, converted = path.read_bytes(), cam_onnx.convert(path).to_bytes()
    return session(DEMO.read_bytes()), session(data), session(converted)


def beside(form: str, ours: int, baseline: int) -> Pair:
    opened = sessions(form)
    feeds = {"image": np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)}
    one, other = opened[ours], opened[baseline]
    return Pair(ours=lambda: one.run(None, feeds), baseline=lambda: other.run(None, feeds))


def form(name: str, prepare: Callable[[], Pair], means: str, goal: float | None) -> None:
    prepare.__doc__ = means
    benchmark(name, kind="ratio", goal=goal, rounds=31)(prepare)


for short, whole in FORMS.items():
    for name, (ours, baseline, goal), means in (
        ("grad-cam", (2, 1, 1.1), "converted at its default layer over itself"),
        ("plain-beside-float", (1, 0, None), "itself over the float network"),
        ("grad-cam-beside-float", (2, 0, None), "converted over the float network: below 1 where the form itself is"),
    ):
        form(f"{short}/{name}", partial(beside, short, ours, baseline), f"EfficientNet-Lite0, {whole}: {means}.", goal)
