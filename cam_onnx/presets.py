"""Preprocessing by name: what the usual training code did to a picture.

A preset says what happens to pixels and how a picture gets the network's size; size, layout and type are the model's
own and are filled in from its input. docs/preprocessing.md has this table, with a test that it is this one.
"""

from __future__ import annotations

from dataclasses import dataclass

from cam_onnx.contract import Preprocess

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    """A named `Preprocess`, with its formula (x: pixels 0..255) and who trains like that."""

    preprocess: Preprocess
    formula: str
    users: str


def _centred(mean: tuple[float, ...], std: tuple[float, ...], interpolation: str, crop_pct: float) -> Preprocess:
    return Preprocess(fit="crop", crop_pct=crop_pct, interpolation=interpolation, scale=1 / 255, mean=mean, std=std)


# 224 of 256 pixels, as torchvision and timm evaluate
PRESETS: dict[str, Preset] = {
    "imagenet": Preset(
        _centred((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear", 0.875),
        "(x/255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]",
        "torchvision and most of timm: ResNet, DenseNet, MobileNetV2, ConvNeXt; Keras' mode 'torch'",
    ),
    "imagenet-inception": Preset(
        _centred((0.5,), (0.5,), "bicubic", 0.875),
        "(x/255 - 0.5) / 0.5",
        "timm's Inception, ViT and MLP-Mixer weights of Google's origin",
    ),
    "tf": Preset(
        Preprocess(scale=1 / 127.5, mean=(1.0,)),
        "x/127.5 - 1",
        "Keras' mode 'tf': MobileNet, MobileNetV2, Xception, InceptionV3, ResNetV2",
    ),
    "caffe-bgr": Preset(
        Preprocess(channels="BGR", mean=(103.939, 116.779, 123.68)),
        "BGR: x - [103.939, 116.779, 123.68]",
        "Keras' mode 'caffe': VGG16, VGG19, ResNet50; Caffe's own models",
    ),
    "clip": Preset(
        _centred((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), "bicubic", 1.0),
        "(x/255 - [0.4815, 0.4578, 0.4082]) / [0.2686, 0.2613, 0.2758]",
        "CLIP, OpenCLIP and what was fine-tuned from them",
    ),
    "raw-255": Preset(
        Preprocess(),
        "x",
        "models that normalise inside: Keras' EfficientNet, MobileNetV3 and ConvNeXt; most uint8 models",
    ),
    "unit": Preset(
        Preprocess(scale=1 / 255),
        "x/255",
        "models trained on ToTensor or Rescaling(1/255) alone; YOLO classifiers and small networks of one's own",
    ),
}
