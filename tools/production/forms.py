"""The forms of a network: each is made from the plain file by the tool that people use for it.

Calibration sees crops of one picture; whoever measures explains another one, so that values beyond the calibrated
ranges occur, as they do in production.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from cam_onnx.contract import Preprocess
from cam_onnx.engine.preprocess import apply
from cam_onnx.render.image import load

__all__ = ["FEWER", "FORMS", "QUANTISED", "by_transformers", "calibration", "make"]

Array = NDArray[Any]
Feeds = list[dict[str, Array]]
CROPS = 12


def calibration(picture: Path, model: onnx.ModelProto, preprocess: Preprocess, seed: int = 0) -> Feeds:
    """Return seeded square crops of a picture as inputs of the model."""
    pixels, rng = load(picture).pixels, np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    feeds = []
    for _ in range(CROPS):
        side = int(rng.integers(min(height, width) // 3, min(height, width) + 1))
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        tensor, _ = apply(preprocess, pixels[top : top + side, left : left + side])
        feeds.append({model.graph.input[0].name: tensor})
    return feeds


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Feeds) -> None:
        self.feeds = iter(feeds)

    def get_next(self) -> dict[str, Array] | None:
        return next(self.feeds, None)


def _static(form: QuantFormat, activations: QuantType, per_channel: bool) -> Callable[[Path, Path, Feeds], None]:
    def make(source: Path, out: Path, feeds: Feeds) -> None:
        quantize_static(
            source,
            out,
            _Reader(feeds),
            quant_format=form,
            per_channel=per_channel,
            activation_type=activations,
            weight_type=QuantType.QInt8,
            reduce_range=activations == QuantType.QUInt8,  # without VNNI, uint8 times int8 overflows at 8 bits
        )

    return make


def _dynamic(source: Path, out: Path, feeds: Feeds) -> None:
    bare = onnx.load(source)
    del bare.graph.value_info[:]  # the quantiser turns weights round and keeps the old shapes, which then contradict
    quantize_dynamic(bare, out, weight_type=QuantType.QUInt8)


def _optimised(level: str) -> Callable[[Path, Path, Feeds], None]:
    def make(source: Path, out: Path, feeds: Feeds) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(out)
        options.log_severity_level = 4
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    return make


def by_transformers(told: tuple[str, int, int], separate: bool = False) -> Callable[[Path, Path, Feeds], None]:
    def make(source: Path, out: Path, feeds: Feeds) -> None:
        from onnxruntime.transformers.fusion_options import FusionOptions
        from onnxruntime.transformers.optimizer import optimize_model

        model_type, heads, width = told
        options = FusionOptions(model_type)
        options.use_multi_head_attention = separate
        # at level 0, where the runtime has not fused anything yet: behind its fusions no attention is recognised
        made = optimize_model(
            str(source), model_type, num_heads=heads, hidden_size=width, opt_level=0, optimization_options=options
        )
        made.save_model_to_file(str(out))

    return make


def _simplified(source: Path, out: Path, feeds: Feeds) -> None:
    import onnxsim

    model, same = onnxsim.simplify(onnx.load(source))
    if not same:
        raise RuntimeError("its own check failed")
    onnx.save(model, out)


def _slimmed(source: Path, out: Path, feeds: Feeds) -> None:
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(source)), out)


def _by_onnxoptimizer(source: Path, out: Path, feeds: Feeds) -> None:
    import onnxoptimizer

    onnx.save(onnxoptimizer.optimize(onnx.load(source), onnxoptimizer.get_fuse_and_elimination_passes()), out)


def _halved(keep_io_types: bool) -> Callable[[Path, Path, Feeds], None]:
    def make(source: Path, out: Path, feeds: Feeds) -> None:
        from onnxruntime.transformers.onnx_model import OnnxModel

        model = OnnxModel(onnx.load(source))
        model.convert_float_to_float16(keep_io_types=keep_io_types)
        model.topological_sort()  # the conversion leaves its casts behind everything else
        onnx.save(model.model, out)

    return make


def _mixed(source: Path, out: Path, feeds: Feeds) -> None:
    """As onnxconverter-common writes it: what sums over many entries stays in 32 bits."""
    from onnxconverter_common import float16

    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, "GlobalAveragePool", "LayerNormalization", "ReduceMean", "Softmax"]
    try:
        made = float16.convert_float_to_float16(onnx.load(source), keep_io_types=True, op_block_list=blocked)
    except (
        ValueError
    ):  # its clearing of casts fails where a network ends in one of these: inputs and outputs of 16 bits
        made = float16.convert_float_to_float16(onnx.load(source), keep_io_types=False, op_block_list=blocked)
    onnx.save(made, out)


QUANTISED: dict[str, Callable[[Path, Path, Feeds], None]] = {
    "QDQ int8": _static(QuantFormat.QDQ, QuantType.QInt8, per_channel=False),
    "QDQ uint8 per channel": _static(QuantFormat.QDQ, QuantType.QUInt8, per_channel=True),
    "QOperator int8": _static(QuantFormat.QOperator, QuantType.QInt8, per_channel=False),
    "QOperator uint8 per channel": _static(QuantFormat.QOperator, QuantType.QUInt8, per_channel=True),
    "dynamic": _dynamic,
}
FORMS = {
    "basic": _optimised("ORT_ENABLE_BASIC"),
    "extended": _optimised("ORT_ENABLE_EXTENDED"),
    "all": _optimised("ORT_ENABLE_ALL"),
    "transformers-optimised": by_transformers(("vit", 0, 0)),
    "onnxsim": _simplified,
    "onnxslim": _slimmed,
    "onnxoptimizer": _by_onnxoptimizer,
    "float16": _halved(keep_io_types=False),
    "float16, float32 outside": _halved(keep_io_types=True),
    "float16, sums in float32": _mixed,
    **QUANTISED,
}

# of networks with seeded weights
FEWER = [form for form in FORMS if form not in ("all", "onnxoptimizer", "QDQ int8", "QOperator int8")]


def make(form: str, source: Path, out: Path, feeds: Feeds, transformer: tuple[str, int, int] | None = None) -> Path:
    """Write `source` in the given form to `out`; `transformer`: model type, heads and width of a transformer."""
    function = by_transformers(transformer) if form == "transformers-optimised" and transformer else FORMS[form]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantiser recommends preprocessing at every call
    try:
        function(source, out, feeds)
    finally:
        root.setLevel(level)
    return out


def names(patterns: Sequence[str] = ()) -> list[str]:
    """Return the forms, or those that one of the patterns occurs in."""
    return [form for form in FORMS if not patterns or any(p in form for p in patterns)]
