"""``python -m tools.exporters.heads [NAME...]``: heads of the package transformers, seeded, explained with no option.

Small configurations, exported by both of PyTorch's exporters. What is found is put into docs/exporters.md; rows that
are not asked for stay as they are. Where a file leaves open what it does, it is told what the error lists, and the row
says so. Exit 1 where what is explained is not what the file's own outputs say, or verify does not agree.
"""

from __future__ import annotations

import argparse
import io
import logging
import math
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from cam_onnx import Explainer, Explanation
from cam_onnx.errors import ScoreNotFound
from cam_onnx.graph.inspect import inspect
from tools.exporters import page
from tools.exporters.detectors import verdicts
from tools.said import said

__all__ = ["EXPORTERS", "HEADER", "HEADS", "KEYS", "Exported", "Found", "Head", "export", "main", "measured"]

Array = np.ndarray[Any, Any]

ROOT = Path(__file__).parent.parent.parent
HEADER = (
    "| network | exporter | task | score | layers | beside the file's outputs | verify | largest error |\n"
    "|---|---|---|---|---|---|---|---:|\n"
)
EXPORTERS = {"dynamo=False": 17, "dynamo=True": 20}


@dataclass(frozen=True)
class Found:
    """What is explained beside what the outputs say: whether it is the same choice, and how far numbers are apart."""

    same: bool
    score: float
    box: float | None = None  # pixels

    @property
    def fine(self) -> bool:
        return self.same and self.score < 1e-4 and (self.box is None or self.box < 1e-2)

    def __str__(self) -> str:
        box = "" if self.box is None else f", box {self.box:.0e} pixels apart"
        return f"{'the same' if self.same else '**another**'}, score {self.score:.0e} apart{box}"


Beside = Callable[[Explanation, Mapping[str, Array]], Found]


@dataclass(frozen=True)
class Head:
    """A network: how it is made of the package, the outputs that are exported, the picture's height and width.

    `beside` compares an explanation with them. `told` is the target where the file does not say what it does.
    """

    make: Callable[[Any], Any]
    outputs: tuple[str, ...]
    size: tuple[int, int]
    beside: Beside
    told: str = ""


# -- what the outputs say ---------------------------------------------------------------------------------------------


def _best(logits: Array, found: Explanation) -> Found:
    """The largest of classes, (C,), or of the classes of each box or query, (B, C): numbered row by row."""
    return Found(bool(found.target[0] == logits.argmax()), abs(float(found.score[0] - logits.max())))


def _classes(found: Explanation, outputs: Mapping[str, Array]) -> Found:
    return _best(outputs["logits"][0], found)


def _area(found: Explanation, outputs: Mapping[str, Array]) -> Found:
    """The class with the largest area, and the mean of its logit there."""
    logits = outputs["logits"][0]
    first = logits.argmax(axis=0)
    cls = np.bincount(first.ravel(), minlength=len(logits)).argmax()
    score = logits[cls][first == cls].mean()
    return Found(bool(found.target[0] == cls), abs(float(found.score[0] - score)))


def _boxes(scores: Callable[[Array], Array]) -> Beside:
    """The best class of all boxes, its score, and its box."""

    def beside(found: Explanation, outputs: Mapping[str, Array]) -> Found:
        chosen, picture = scores(outputs["logits"][0]), outputs["pixel_values"]
        x, y, width, height = outputs["pred_boxes"][0][_row(chosen)] * np.tile(picture.shape[:-3:-1], 2)
        corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        return replace(_best(chosen, found), box=float(np.abs(np.subtract(found.boxes[0], corners)).max()))

    return beside


def _queries(found: Explanation, outputs: Mapping[str, Array]) -> Found:
    """The query that is surest of a class, that class, and its score."""
    return _best(_but_nothing(outputs["class_queries_logits"][0]), found)


def _row(chosen: Array) -> int:
    return int(chosen.argmax() // chosen.shape[1])


def _but_nothing(logits: Array) -> Array:
    """Logarithms of a softmax whose last class is that there is nothing."""
    below = logits - logits.max(axis=-1, keepdims=True)
    logarithms: Array = (below - np.log(np.exp(below).sum(axis=-1, keepdims=True)))[:, :-1]
    return logarithms


def _each(logits: Array) -> Array:
    """A sigmoid keeps the order."""
    return logits


def _peak(found: Explanation, outputs: Mapping[str, Array]) -> Found:
    """The keypoint with the largest value of all heatmaps."""
    return _best(outputs["heatmaps"][0].max(axis=(1, 2)), found)


def _similar(found: Explanation, outputs: Mapping[str, Array]) -> Found:
    one, other = (vector / np.linalg.norm(vector) for vector in (outputs["image_embeds"][0], outputs["reference"][0]))
    return Found(True, abs(float(found.score[0] - one @ other)))


# -- networks ---------------------------------------------------------------------------------------------------------

_TOWER = dict(hidden_size=48, num_attention_heads=4, num_hidden_layers=3)


def _resnet(family: Any, levels: int) -> Any:
    return family(
        embedding_size=16, hidden_sizes=[16, 24, 32, 48], depths=[1] * 4, layer_type="basic",
        out_features=[f"stage{i + 1}" for i in range(4 - levels, 4)],
    )  # fmt: skip


def _detr(package: Any, family: str) -> Any:
    config = getattr(package, f"{family}Config")(
        backbone_config=_resnet(package.ResNetConfig, 1), d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, num_queries=12,
        num_labels=5,
    )  # fmt: skip
    return getattr(package, f"{family}ForObjectDetection")(config)


def _rt_detr(package: Any) -> Any:
    config = package.RTDetrConfig(
        backbone_config=_resnet(package.RTDetrResNetConfig, 3), encoder_hidden_dim=32, encoder_in_channels=[24, 32, 48],
        encoder_ffn_dim=64, encoder_attention_heads=4, d_model=32, decoder_in_channels=[32] * 3, decoder_ffn_dim=64,
        decoder_layers=2, decoder_attention_heads=4, num_queries=12, num_labels=5, num_denoising=0,
    )  # fmt: skip
    return package.RTDetrForObjectDetection(config)


def _yolos(package: Any) -> Any:
    config = package.YolosConfig(
        image_size=[64, 96], patch_size=8, intermediate_size=96, num_detection_tokens=10, num_labels=5, **_TOWER
    )
    return package.YolosForObjectDetection(config)


def _segformer(package: Any) -> Any:
    config = package.SegformerConfig(
        hidden_sizes=[16, 24, 32, 48], depths=[1] * 4, num_attention_heads=[1, 2, 2, 4], decoder_hidden_size=32,
        num_labels=5,
    )  # fmt: skip
    return package.SegformerForSemanticSegmentation(config)


def _stages(package: Any) -> Any:
    return package.SwinConfig(
        image_size=128, embed_dim=16, depths=[1] * 4, num_heads=[1, 2, 2, 4], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip


def _maskformer(package: Any) -> Any:
    decoder = package.DetrConfig(
        d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=64, decoder_ffn_dim=64, num_queries=8,
    )  # fmt: skip
    config = package.MaskFormerConfig(
        backbone_config=_stages(package), decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32,
        num_labels=5,
    )  # fmt: skip
    return package.MaskFormerForInstanceSegmentation(config)


def _mask2former(package: Any) -> Any:
    config = package.Mask2FormerConfig(
        backbone_config=_stages(package), feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=64, encoder_layers=2, decoder_layers=3, num_attention_heads=4, dim_feedforward=64,
        num_queries=8, num_labels=5,
    )  # fmt: skip
    return package.Mask2FormerForUniversalSegmentation(config)


def _clip(package: Any) -> Any:
    config = package.CLIPVisionConfig(image_size=64, patch_size=8, intermediate_size=96, projection_dim=20, **_TOWER)
    return package.CLIPVisionModelWithProjection(config)


def _dinov2(package: Any) -> Any:
    config = package.Dinov2WithRegistersConfig(
        image_size=64, patch_size=8, mlp_ratio=2, num_register_tokens=4, num_labels=5, **_TOWER
    )
    return package.Dinov2WithRegistersForImageClassification(config)


def _vit(package: Any) -> Any:
    config = package.ViTConfig(image_size=64, patch_size=8, intermediate_size=96, num_labels=5, **_TOWER)
    return package.ViTForImageClassification(config)


def _swin(package: Any) -> Any:
    config = package.SwinConfig(
        image_size=64, patch_size=4, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=5,
    )  # fmt: skip
    return package.SwinForImageClassification(config)


def _vitpose(package: Any, simple: bool) -> Any:
    backbone = package.VitPoseBackboneConfig(
        image_size=[64, 48], patch_size=[8, 8], mlp_ratio=2, num_experts=1, out_indices=[3], **_TOWER
    )
    config = package.VitPoseConfig(backbone_config=backbone, num_labels=5, scale_factor=4, use_simple_decoder=simple)
    return package.VitPoseForPoseEstimation(config)


BOXES, QUERIES = ("logits", "pred_boxes"), ("class_queries_logits", "masks_queries_logits")
HEADS: dict[str, Head] = {
    "DetrForObjectDetection": Head(lambda p: _detr(p, "Detr"), BOXES, (128, 128), _boxes(_but_nothing)),
    "ConditionalDetrForObjectDetection": Head(lambda p: _detr(p, "ConditionalDetr"), BOXES, (128, 128), _boxes(_each)),
    "RTDetrForObjectDetection": Head(_rt_detr, BOXES, (128, 128), _boxes(_each)),
    "YolosForObjectDetection": Head(_yolos, BOXES, (64, 96), _boxes(_but_nothing)),
    "SegformerForSemanticSegmentation": Head(_segformer, ("logits",), (128, 128), _area),
    "MaskFormerForInstanceSegmentation": Head(_maskformer, QUERIES, (128, 128), _queries),
    "Mask2FormerForUniversalSegmentation": Head(_mask2former, QUERIES, (128, 128), _queries),
    "CLIPVisionModelWithProjection": Head(_clip, ("image_embeds",), (64, 64), _similar, "similar:FILE.npy"),
    "Dinov2WithRegistersForImageClassification": Head(_dinov2, ("logits",), (64, 64), _classes),
    "ViTForImageClassification": Head(_vit, ("logits",), (64, 64), _classes),
    "SwinForImageClassification": Head(_swin, ("logits",), (64, 64), _classes),
    "VitPoseForPoseEstimation": Head(lambda p: _vitpose(p, True), ("heatmaps",), (64, 48), _peak),
    "VitPoseForPoseEstimation, classic decoder": Head(lambda p: _vitpose(p, False), ("heatmaps",), (64, 48), _peak),
}
KEYS = [f"`{name}` | {exporter}, opset {opset}" for name in HEADS for exporter, opset in EXPORTERS.items()]


# -- measured ---------------------------------------------------------------------------------------------------------


def export(name: str, exporter: str) -> bytes:
    """Return a network's file, with seeded weights that keep values at their size from layer to layer.

    As the package draws them, the picture changes what a detector says by its fourth digit or, of RT-DETR, not at all.
    """
    import torch
    import transformers

    class Only(torch.nn.Module):  # type: ignore[misc, unused-ignore]
        """The fields that have a name among the outputs."""

        def __init__(self) -> None:
            super().__init__()
            self.network = HEADS[name].make(transformers)

        def forward(self, pixels: Any) -> tuple[Any, ...]:
            found = self.network(pixel_values=pixels)
            return tuple(getattr(found, field) for field in HEADS[name].outputs)

    torch.manual_seed(0)
    model, written = Only().eval(), io.BytesIO()
    model.network.set_attn_implementation("eager")
    names: dict[str, Any] = {"input_names": ["pixel_values"], "output_names": [*HEADS[name].outputs]}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        _draw(model)
        model(torch.randn(4, 3, *HEADS[name].size))  # settles statistics
        given = (torch.zeros(1, 3, *HEADS[name].size),)
        names["opset_version"] = EXPORTERS[exporter]
        if exporter == "dynamo=False":
            torch.onnx.export(model, given, written, dynamo=False, **names)
            return written.getvalue()
        program = torch.onnx.export(model, given, dynamo=True, verbose=False, **names)
        assert program is not None
        data: bytes = program.model_proto.SerializeToString()
        return data


def _draw(model: Any) -> None:
    """Draw all weights, and have each normalisation of a batch take its statistics from the first pictures it sees."""
    import torch

    def settle(module: Any, given: tuple[Any, ...]) -> None:
        module.running_mean.copy_(given[0].mean((0, 2, 3)))
        module.running_var.copy_(given[0].var((0, 2, 3)))
        hooks.pop(module).remove()

    hooks: dict[Any, Any] = {}
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight)
        elif isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            gain = 2 if isinstance(module, torch.nn.Conv2d) else 1  # a Relu behind takes half
            torch.nn.init.normal_(module.weight, std=math.sqrt(gain / module.weight[0].numel()))
        elif hasattr(module, "running_mean"):
            hooks[module] = module.register_forward_pre_hook(settle)


@dataclass(frozen=True)
class Exported:
    """What was found in a file: the task, score and layers, what is explained beside the outputs, and verify's words.

    `asks`: what had to be told, since the file leaves open what it does.
    """

    task: str
    score: str
    layers: str
    found: Found
    verdict: str
    error: str
    fine: bool
    asks: str = ""


def measured(name: str, data: bytes) -> Exported:
    """Return what is found in a network's file."""
    head = HEADS[name]
    pictures = np.random.default_rng(0).standard_normal((2, 1, 3, *head.size)).astype(np.float32)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    outputs, others = (dict(zip(head.outputs, session.run(None, {"pixel_values": x}), strict=True)) for x in pictures)
    outputs |= {"pixel_values": pictures[0], "reference": others[head.outputs[0]]}
    given, asks = {"pixel_values": pictures[0]}, ""
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "FILE.npy"
        np.save(reference, outputs["reference"][0])
        try:
            explainer = Explainer(data, providers="cpu")
        except ScoreNotFound as error:
            what = f"{head.told.partition(':')[0]}:"
            if not head.told or what not in str(error):
                raise
            told = head.told.replace(reference.name, str(reference))
            explainer, asks = Explainer(data, target=told, providers="cpu"), head.told
        explanation = explainer.explain(inputs=given)
        check = explainer.verify(inputs=given)
    beside = head.beside(explanation, outputs)
    layers = "; ".join(
        f"`{layer}`, {' × '.join(map(str, found.saliency.shape[1:]))}" for layer, found in explanation.layers.items()
    )
    fine = beside.fine and check.ok and explanation.reasons == [None]
    score = "" if asks else inspect(data).score or ""
    return Exported(explanation.contract.task, score, layers, beside, *verdicts(check), fine, asks)


def row(name: str, exporter: str) -> tuple[list[str], bool]:
    """Return the cells behind the exporter's, and whether all is as it should be."""
    blank = [""] * (HEADER.splitlines()[0].count(" | ") - 2)
    try:
        data = export(name, exporter)
        onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - what PyTorch does not write, or ONNX Runtime not run, is no fault here
        return [f"no file that runs: {_short(error)}", *blank], True
    try:
        found = measured(name, data)
    except Exception as error:  # noqa: BLE001 - a row that fails says so, and the others are measured
        return [f"**failed**: {_short(error)}", *blank], False
    task = f"asked, told `{found.asks}`" if found.asks else found.task
    score = f"`{found.score}`" if found.score else "-"
    return [task, score, found.layers, str(found.found), found.verdict, found.error], found.fine


def _short(error: Exception) -> str:
    text = said(error, ROOT).replace("|", "/")
    return text if len(text) < 160 else f"{text[:160]} ..."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tools.exporters.heads", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of networks (default: all)")
    names = parser.parse_args(argv).names
    logging.disable(logging.WARNING)
    good = True
    for name, exporter in ((n, e) for n in HEADS for e in EXPORTERS if not names or n in names):
        key = f"`{name}` | {exporter}, opset {EXPORTERS[exporter]}"
        cells, fine = row(name, exporter)
        good &= fine
        line = f"| {' | '.join([key, *cells])} |"
        print(line, flush=True)
        page.put("heads", HEADER, KEYS, {key: line})
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
