"""``python -m tools.exporters.detectors [NAME...]``: torchvision's detectors, seeded, explained with no option.

What is found is put into docs/exporters.md; rows that are not asked for stay as they are.

Files stay in build/detectors/ until ``--again``. Exit 1 where a best box is not the file's first, or verify disagrees.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from cam_onnx import Explainer, Explanation, Verification
from cam_onnx.autodiff.model import load
from cam_onnx.graph.detectors import find
from cam_onnx.graph.heads import Head
from tools.exporters import page
from tools.said import said

__all__ = ["DETECTORS", "KEYS", "OPSET", "built", "export", "first", "main", "picture", "probability", "verdicts"]

ROOT = Path(__file__).parent.parent.parent
KEPT = ROOT / "build" / "detectors"
HEADER = (
    "| network | exporter | candidates | layers | same class | box: difference, pixels | score: difference | verify "
    "| largest error |\n|---|---|---:|---:|---|---:|---:|---|---:|\n"
)
OPSET = 17
SATURATED = 0.999  # many boxes are then first, and gradients are rounding
SMALL = {"min_size": 128, "max_size": 128}
# the side of the picture, and what the builder is told
DETECTORS: dict[str, tuple[int, dict[str, int]]] = {
    "ssdlite320_mobilenet_v3_large": (320, {}),
    "ssd300_vgg16": (300, {}),
    "retinanet_resnet50_fpn": (128, SMALL),
    "fcos_resnet50_fpn": (128, SMALL),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (128, SMALL),
    "maskrcnn_resnet50_fpn": (128, SMALL),
    "keypointrcnn_resnet50_fpn": (128, SMALL),
}
KEYS = [f"`{name}`" for name in DETECTORS]


def picture(size: int) -> np.ndarray[Any, Any]:
    """Return seeded pixels, (3, size, size)."""
    return np.random.default_rng(0).random((3, size, size), dtype=np.float32)


def built(name: str) -> Any:
    """Return a detector of torchvision with seeded weights; heads are scaled so that no score is saturated."""
    import torch
    from torchvision.models import detection

    size, options = DETECTORS[name]
    threshold = "box_score_thresh" if "rcnn" in name else "score_thresh"
    torch.manual_seed(0)
    classes = 2 if "keypoint" in name else 5
    model = getattr(detection, name)(
        weights=None, weights_backbone=None, num_classes=classes, **{threshold: 1e-4}, **options
    ).eval()
    with torch.no_grad():
        for norm in [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]:
            norm.momentum = 1.0
            norm.train()
        model.backbone(torch.rand(4, 3, size, size) * 2 - 1)
        model.eval()
        for label, module in model.named_modules():
            if isinstance(module, torch.nn.Conv2d) and module.weight.std() < 0.011 and "box" not in label:
                torch.nn.init.normal_(module.weight, std=0.03)
        if name == "ssd300_vgg16":
            for module in model.head.classification_head.module_list:
                module.weight.mul_(0.05)
        if "retinanet" in name:
            model.head.classification_head.cls_logits.weight.mul_(0.0005)
            model.head.regression_head.bbox_reg.weight.mul_(0.001)
        if "rcnn" in name:
            model.rpn.head.cls_logits.weight.mul_(0.1)
            model.rpn.head.bbox_pred.weight.mul_(0.02)
            model.roi_heads.box_predictor.cls_score.weight.mul_(0.001)
            model.roi_heads.box_predictor.bbox_pred.weight.mul_(0.0005)
    return model


def export(name: str, out: Path) -> None:
    """Write the file of `built`."""
    import torch

    model, (size, _) = built(name), DETECTORS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, ([torch.rand(3, size, size)],), str(out), dynamo=False, opset_version=OPSET)


def first(data: bytes, pixels: np.ndarray[Any, Any]) -> tuple[Any, Any, Any]:
    """Return the boxes, scores and labels that the file itself gives, as it sorts them."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: pixels})
    boxes = next(v for v in found if v.ndim == 2)
    scores = next(v for v in found if v.ndim == 1 and v.dtype == np.float32)
    return boxes, scores, next(v for v in found if v.ndim == 1 and v.dtype == np.int64)


def probability(explanation: Explanation) -> float:
    """Return the explained score as the file writes it."""
    value = float(explanation.score[0])
    if explanation.contract.activation == "sigmoid":
        return float(1 / (1 + np.exp(-value)))
    return float(np.exp(value)) if explanation.logits.max() <= 0 else value


def verdicts(check: Verification) -> tuple[str, str]:
    """Return how many layers' gradients got which verdict, and the largest error."""
    found = [c.verdict for c in check.gradients]
    errors = [c.error for c in check.gradients if not np.isnan(c.error)]
    verdict = ", ".join(f"{found.count(v)} {v}" for v in dict.fromkeys(found))
    verdict += "" if check.outputs_hold else "; outputs differ"
    return verdict, f"{max(errors):.2%}" if errors else "-"


def measured(data: bytes, size: int) -> tuple[list[str], bool]:
    """Return the cells behind the exporter's, and whether all is as it should be."""
    pixels = picture(size)
    boxes, scores, labels = first(data, pixels)
    explainer, head = Explainer(data), find(load(data))
    assert isinstance(head, Head)
    given = {explainer.contract.roles["image"]: pixels[None]}
    found = explainer.explain(inputs=given)
    assert found.boxes is not None
    assert found.classes is not None
    box = float(np.abs(np.subtract(found.boxes[0], boxes[0])).max())
    score = abs(probability(found) - float(scores[0]))
    same = bool(found.classes[0] == labels[0])
    check = explainer.verify(inputs=given)
    verdict, error = verdicts(check)
    saturated = float(scores[0]) > SATURATED
    verdict += "; **the score is saturated**: nothing is told by this row" if saturated else ""
    cells = [f"{found.logits.shape[1] // head.classes:,}", str(len(found.contract.layers)), "yes" if same else "**no**"]
    cells += [f"{box:.0e}", f"{score:.0e}", verdict, error]
    return cells, same and box < 1e-3 * size and score <= 1e-3 * float(scores[0]) and check.ok and not saturated


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.exporters.detectors", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of networks (default: all)")
    parser.add_argument("--again", action="store_true", help="export anew what has a file")
    options = parser.parse_args(argv)
    KEPT.mkdir(parents=True, exist_ok=True)
    good = True
    for name, (size, _) in DETECTORS.items():
        if options.names and name not in options.names:
            continue
        file = KEPT / f"{name}.onnx"
        try:
            if options.again or not file.exists():
                export(name, file)
            cells, fine = measured(file.read_bytes(), size)
        except Exception as error:  # noqa: BLE001 - a row that fails says so, and the others are measured
            cells, fine = ["", "", "", "", "", f"**failed**: {said(error, ROOT).replace('|', '/')}", ""], False
        good &= fine
        row = f"| {' | '.join([f'`{name}`', f'dynamo=False, opset {OPSET}', *cells])} |"
        print(row, flush=True)
        page.put("detectors", HEADER, KEYS, {f"`{name}`": row})
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
