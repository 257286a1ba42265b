"""Preprocessing and labels as other projects write them: what each source says, who wins, and what broken ones do."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cam_onnx
from cam_onnx import Explainer, InputError, Preprocess, cli
from cam_onnx.engine import preprocess as engine
from cam_onnx.presets import PRESETS
from cam_onnx.render import image
from cam_onnx.sources import triton, yaml
from cam_onnx.sources.beside import Beside, Unusable
from cam_onnx.sources.gather import Known, known
from cam_onnx.sources.order import SOURCES
from cam_onnx.sources.table import Said, Subject
from models.builders import BUILDERS

IMAGENET: dict[str, Any] = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SHAPE = (1, 3, "h", "w")

ULTRALYTICS = {
    "author": "Ultralytics",
    "task": "detect",
    "stride": "32",
    "imgsz": "[640, 512]",
    "names": "{0: 'person', 1: 'bicycle'}",
}
OPENVINO = {
    "model_info labels": "traffic_light car",
    "model_info mean_values": "123.675 116.28 103.53",
    "model_info scale_values": "58.395 57.12 57.375",
    "model_info reverse_input_channels": "True",
    "model_info resize_type": "fit_to_window_letterbox",
    "model_info pad_value": "128",
}
VIT = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "image_processor_type": "ViTImageProcessor",
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}
CLIP = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": {"shortest_edge": 256},
}
CONVNEXT = {
    "crop_pct": 0.875,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": {"shortest_edge": 224},
}
MOBILEVIT = {
    "crop_size": {"height": 256, "width": 256},
    "do_center_crop": True,
    "do_flip_channel_order": True,
    "do_resize": True,
    "size": {"shortest_edge": 288},
}
EFFICIENTNET = {
    "image_processor_type": "EfficientNetImageProcessor",
    "do_normalize": True,
    "do_rescale": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.25, 0.25, 0.25],
    "include_top": True,
    "rescale_factor": 1 / 127.5,
    "rescale_offset": True,
}
TIMM = {
    "architecture": "resnet18",
    "num_classes": 2,
    "pretrained_cfg": {
        "input_size": [3, 224, 224],
        "test_input_size": [3, 288, 288],
        "test_crop_pct": 0.95,
        "crop_pct": 0.875,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "label_names": ["n01440764", "n01443537"],
    },
    "label_descriptions": {"n01440764": "tench, Tinca tinca"},
}
TRITON = """
name: "resnet"  # made by hand
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "image" data_type: TYPE_FP32 format: FORMAT_NHWC dims: [ 160, 224, 3 ] } ]
output [
  { name: "logits", data_type: TYPE_FP32, dims: [ 2 ], label_filename: "names.txt" }
]
instance_group < count: 1; kind: KIND_CPU >
"""
PADDLEX = """\
Global:
  model_name: PP-LCNet_x1_0   # the small one
PreProcess:
  transform_ops:
  - ResizeImage:
      resize_short: 256
  - CropImage:
      size: 224
  - NormalizeImage:
      channel_num: 3
      mean:
      - 0.485
      - 0.456
      - 0.406
      order: ''
      scale: 0.00392156862745098
      std: [0.229, 0.224, 0.225]
  - ToCHWImage: null
PostProcess:
  Topk:
    topk: 5
    label_list:
    - "tench, Tinca tinca"
    - 'goldfish: #1'
"""
PADDLEDET = """\
mode: paddle
draw_threshold: 0.5
arch: YOLO
Preprocess:
- interp: 2
  keep_ratio: false
  target_size:
  - 640
  - 608
  type: Resize
- mean:
  - 0.0
  - 0.0
  - 0.0
  norm_type: none
  std: [1.0, 1.0, 1.0]
  type: NormalizeImage
- type: Permute
label_list:
- person
- car
"""
PADDLEOCR = """\
PreProcess:
  transform_ops:
  - DecodeImage:
      channel_first: false
      img_mode: BGR
  - NormalizeImage: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], scale: 1./255.}
PostProcess:
  name: CTCLabelDecode
  character_dict: [a, b, '0']
"""
SHIFTED = tuple(1 + m for m in IMAGENET["mean"])
TF: dict[str, Any] = dict(scale=1 / 127.5, mean=(1.0,))

# (what is in the metadata, what lies beside, what the preprocessing is, the labels, a part of where it is from)
ROWS: list[tuple[str, dict[str, str], dict[str, Any], dict[str, Any] | None, tuple[str, ...] | None, str]] = [
    ("standard", {"Image.BitmapPixelFormat": "Bgr8", "image.nominalpixelrange": "NORMALIZED_1_1"}, {},
     dict(channels="BGR", **TF), None, "Image.*"),
    ("16 to 235", {"Image.NominalPixelRange": "NominalRange_16_235"}, {},
     dict(scale=219 / 255, mean=(-16.0,)), None, "Image.*"),
    ("ultralytics", ULTRALYTICS, {}, dict(scale=1 / 255, fit="letterbox", fill=114.0, size=(640, 512)),
     ("person", "bicycle"), "ultralytics"),
    ("ultralytics classifier", ULTRALYTICS | {"task": "classify", "imgsz": "224"}, {},
     dict(scale=1 / 255, fit="crop", size=(224, 224)), ("person", "bicycle"), "ultralytics"),
    ("openvino", OPENVINO, {}, dict(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), fit="letterbox",
     fill=128.0), ("traffic light", "car"), "model_info"),
    ("openvino embedded", {**OPENVINO, "model_info embedded_processing": "True"}, {},
     dict(fit="letterbox", fill=128.0), ("traffic light", "car"), "model_info"),
    ("deepness", {"class_names": '{"0": "tree", "1": "road"}'}, {}, None, ("tree", "road"), "Deepness"),
    ("rapidocr", {"character": "0\n90"}, {}, None, ("0", "90"), "character"),
    ("ours", {}, {"m.preprocess.json": TF}, TF, None, "m.preprocess.json"),
    ("ours, a preset", {}, {"m.preprocess.json": "tf"}, TF, None, "m.preprocess.json"),
    ("ours, short", {}, {"m.json": TF, "m.labels.txt": "a\nb\n"}, TF, ("a", "b"), "m.json"),
    ("vit", {}, {"preprocessor_config.json": VIT, "config.json": {"id2label": {"0": "cat", "1": "dog"}}},
     dict(scale=0.00392156862745098, mean=(0.5,) * 3, std=(0.5,) * 3, size=(224, 224)), ("cat", "dog"), "Hugging"),
    ("clip", {}, {"preprocessor_config.json": CLIP}, dict(scale=1 / 255, mean=tuple(CLIP["image_mean"]),
     std=tuple(CLIP["image_std"]), fit="crop", crop_pct=224 / 256, interpolation="bicubic", size=(224, 224)), None, ""),
    ("convnext", {}, {"preprocessor_config.json": CONVNEXT}, dict(scale=1 / 255, fit="crop", crop_pct=0.875,
     interpolation="bicubic", size=(224, 224), **IMAGENET), None, "Hugging"),
    ("mobilevit", {}, {"preprocessor_config.json": MOBILEVIT}, dict(scale=1 / 255, channels="BGR", fit="crop",
     crop_pct=256 / 288, size=(256, 256)), None, "Hugging"),
    ("efficientnet", {}, {"preprocessor_config.json": EFFICIENTNET}, dict(scale=1 / 127.5, mean=SHIFTED,
     std=(0.0625,) * 3), None, "Hugging"),
    ("timm", {}, {"config.json": TIMM}, dict(scale=1 / 255, fit="crop", crop_pct=0.875, interpolation="bicubic",
     size=(224, 224), **IMAGENET), ("tench, Tinca tinca", "n01443537"), "timm"),
    ("triton", {}, {"config.pbtxt": TRITON, "names.txt": "cat\ndog"}, dict(size=(160, 224), scale=1 / 255,
     **IMAGENET), ("cat", "dog"), "values and channels and fit: a guess; size and layout: config.pbtxt (Triton)"),
    ("paddlex", {}, {"inference.yml": PADDLEX}, dict(scale=0.00392156862745098, fit="crop", crop_pct=224 / 256,
     size=(224, 224), **IMAGENET), ("tench, Tinca tinca", "goldfish: #1"), "inference.yml"),
    ("paddledet", {}, {"infer_cfg.yml": PADDLEDET}, dict(scale=1 / 255, mean=(0.0,), std=(1.0,), size=(640, 608),
     interpolation="bicubic"), ("person", "car"), "infer_cfg.yml"),
    ("labels", {}, {"labels.txt": "\ufeff0 cat\r\n1 dog\r\n"}, None, ("cat", "dog"), "labels.txt"),
]  # fmt: skip


def written(folder: Path, beside: dict[str, Any], name: str = "m.onnx") -> Path:
    """Put files into a folder, and return where a model would lie in it."""
    folder.mkdir(exist_ok=True)
    for file, content in beside.items():
        (folder / file).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder / name


def asked(
    path: Path | None = None, metadata: dict[str, str] | None = None, classes: int | None = 2, **more: Any
) -> Known:
    shape = more.pop("shape", SHAPE)
    subject = Subject(metadata or {}, Beside(None if path is None else str(path)), "image", shape, "float32", classes)
    return known(subject, **more)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_a_source_says(row, tmp_path):
    _, metadata, beside, expected, labels, where = row
    found = asked(written(tmp_path, beside), metadata)
    assert found.preprocess == (None if expected is None else Preprocess(**expected))
    assert found.labels == labels
    assert where in " ".join(found.origin.values())
    assert found.notes == []


def test_every_source_is_asked_here():
    of = {name.split()[0].replace("<model>", "m") for name in SOURCES} | {"metadata"}
    rows = {key for row in ROWS for key in row[2]} | {"metadata"}
    assert {name for name in of if name not in rows} == set()
    assert sum(name.startswith("metadata") for name in SOURCES) == 5


def test_paddleocr_has_a_blank_first_and_maybe_a_space_last(tmp_path):
    for classes, expected in ((3, ("a", "b", "0")), (4, ("blank", "a", "b", "0")), (5, ("blank", "a", "b", "0", " "))):
        assert asked(metadata={"character": "a\nb\n0\n"}, classes=classes).labels == expected
        if classes > 3:
            assert asked(written(tmp_path, {"inference.yml": PADDLEOCR}), classes=classes).labels == expected
    assert "do not fit" in " ".join(asked(metadata={"character": "a\nb"}, classes=9).notes)


LINE = Preprocess(size=(48, None), channels="BGR", scale=1 / 255, mean=(0.5,), std=(0.5,), fit="corner", fill=127.5)


@pytest.mark.parametrize(
    ("shape", "size"),
    [(SHAPE, (48, None)), ((1, 3, 32, "w"), (32, None)), ((1, 3, 48, 320), (48, 320)), ((1, 3, "h", 320), (48, 320))],
)
def test_a_blank_first_makes_it_a_recogniser_which_is_fed_lines(shape, size):
    found = asked(metadata={"character": "a\nb\n0"}, classes=4, shape=shape)
    assert found.notes == []
    assert found.preprocess == replace(LINE, size=size)
    assert found.origin["preprocess"].startswith("PaddleOCR's way with recognisers")
    assert "guess" not in found.origin
    assert asked(metadata={"character": "0\n90\n180"}, classes=3, shape=shape).preprocess is None


def test_a_recognisers_own_height_in_its_inference_file(tmp_path):
    steps = PADDLEOCR.replace("NormalizeImage: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], scale: 1./255.}",
                              "RecResizeImg: {image_shape: [3, 40, 320]}")  # fmt: skip
    found = asked(written(tmp_path, {"inference.yml": steps}), classes=4)
    assert found.preprocess == replace(LINE, size=(40, None))
    broken = asked(written(tmp_path, {"inference.yml": steps.replace("[3, 40, 320]", "40")}), classes=4)
    assert "image_shape is 40, expected channels, height and width" in broken.notes[0]


def test_layout_of_triton_is_where_the_shape_says_nothing(tmp_path):
    path = written(tmp_path, {"config.pbtxt": TRITON, "names.txt": "a\nb", "preprocessor_config.json": VIT})
    found = asked(path, shape=(1, "a", "b", "c"))
    assert (found.preprocess.layout, found.preprocess.size) == ("NHWC", (224, 224))
    assert "layout: config.pbtxt" in found.origin["preprocess"]


# -- who wins ---------------------------------------------------------------------------------------------------------


def test_flag_then_ours_then_embedded_then_beside_then_a_guess(tmp_path):
    metadata = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}
    beside = {"m.preprocess.json": TF, "preprocessor_config.json": VIT}
    steps = [(dict(mean=7.0), metadata, beside, (7.0,)), (None, metadata, beside, (1.0,)),
             (None, metadata, {"preprocessor_config.json": VIT}, (0.0,)), (None, {}, {"preprocessor_config.json": VIT},
             (0.5,) * 3)]  # fmt: skip
    for number, (flags, inside, files, mean) in enumerate(steps):
        found = asked(written(tmp_path / str(number), files), inside, given=flags)
        assert found.preprocess.mean == mean
        assert "guess" not in found.origin
    assert asked().preprocess is None


def test_what_belongs_together_is_of_one_source(tmp_path):
    """A mean without its scale would be nobody's; a fit of another source is taken."""
    path = written(tmp_path, {"preprocessor_config.json": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3},
                              "config.json": TIMM})  # fmt: skip
    found = asked(path, {"Image.NominalPixelRange": "Normalized_0_1"}, given=dict(channels="BGR"))
    assert found.preprocess == Preprocess(
        channels="BGR", scale=1 / 255, fit="crop", crop_pct=0.875, interpolation="bicubic", size=(224, 224)
    )
    assert found.origin["preprocess"] == (
        "values: metadata Image.* (ONNX); channels: given; fit and size: config.json (timm)"
    )


def test_values_that_nobody_says_are_called_a_guess():
    found = asked(metadata={"Image.BitmapPixelFormat": "Bgr8"})
    assert found.preprocess == Preprocess(channels="BGR", scale=1 / 255, **IMAGENET)
    assert found.origin["guess"].startswith("preprocessing is partly a guess (values and fit: a guess; channels: meta")


def test_the_models_own_size_wins_over_what_others_say_of_it():
    found = asked(metadata=ULTRALYTICS, shape=(1, 3, 320, 320))
    assert found.preprocess.size == (320, 320)
    with pytest.raises(InputError, match="size"):
        asked(metadata=ULTRALYTICS, shape=(1, 3, 320, 320), given=dict(size=(64, 64)))


def test_timms_second_size_has_its_own_crop(tmp_path):
    found = asked(written(tmp_path, {"config.json": TIMM}), shape=(1, 3, 288, 288))
    assert (found.preprocess.size, found.preprocess.crop_pct) == ((288, 288), 0.95)


def test_what_contradicts_the_input_is_left_out_and_said(tmp_path):
    path = written(tmp_path, {"preprocessor_config.json": VIT})
    found = asked(path, shape=(1, 1, 28, 28))
    assert found.preprocess is None
    assert "preprocessor_config.json (Hugging Face) is not used: mean has 3 entries" in found.notes[0]
    eight = known(Subject({}, Beside(str(path)), "image", (1, 8, 8, 3), "uint8", 2))
    assert eight.preprocess is None
    assert "make floats" in eight.notes[0]


# -- broken ones ------------------------------------------------------------------------------------------------------

BROKEN = [
    ("m.preprocess.json", "{", "not JSON"),
    ("m.preprocess.json", '{"std": 0}', "std"),
    ("m.preprocess.json", '{"colour": "RGB"}', "unknown 'colour'"),
    ("m.preprocess.json", "[" * 100_000, "not JSON"),
    ("preprocessor_config.json", "[]", "expected a JSON object, got list"),
    ("preprocessor_config.json", '{"size": {"height": -1, "width": 2}}', "size is"),
    ("preprocessor_config.json", '{"do_normalize": true, "image_mean": ["a"], "image_std": 1}', "image_mean is 'a'"),
    ("preprocessor_config.json", '{"rescale_factor": 1e999}', "rescale_factor is 'inf'"),
    ("preprocessor_config.json", '{"rescale_factor": ' + "9" * 5000 + "}", "preprocessor_config.json"),
    ("config.json", '{"id2label": {"1": "a"}}', "not every class"),
    ("config.json", '{"mean": [0, 0], "std": [1, 1]}', "mean has 2 entries"),
    ("config.json", '{"mean": 0, "std": 1, "crop_mode": "round"}', "crop_mode is 'round'"),
    ("config.json", '{"mean": 0, "std": 1, "crop_pct": 7}', "crop_pct is 7"),
    ("config.pbtxt", "input [ { name: ", "cut off"),
    ("config.pbtxt", "input ]", "unexpected ']'"),
    ("config.pbtxt", "a {" * 1000, "nested too deeply"),
    ("config.pbtxt", "a: [" * 1000, "nested too deeply"),
    ("config.pbtxt", "a: \x00", "unexpected"),
    ("config.pbtxt", 'output { label_filename: "../secret.txt" }', "outside of the model's folder"),
    ("config.pbtxt", 'output { label_filename: "none.txt" }', "no such file"),
    ("inference.yml", "PreProcess: &anchor", "line 1: not understood"),
    ("inference.yml", "a: 'b", "line 1: a quotation"),
    ("inference.yml", "a:\n\t- b", "line 2: a tab"),
    ("inference.yml", "a: 1\na: 2", "line 2: 'a' twice"),
    ("inference.yml", "- " * 1000 + "a", "nested too deeply"),
    ("inference.yml", "PreProcess:\n  transform_ops:\n  - 7", "a transformation is 7"),
    ("inference.yml", "PreProcess:\n  transform_ops:\n  - CropImage:\n      size: big", "a size is big"),
    ("inference.yml", "PreProcess:\n  transform_ops:\n  - NormalizeImage:\n      std: 0\n", "std"),
    ("labels.txt", "only one", "not used: 1 names, 2 classes"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "content", "words"), BROKEN)
def test_a_broken_file_is_a_note_and_the_next_source_is_taken(file, content, words, tmp_path):
    (tmp_path / "secret.txt").write_text("a secret\nof two lines")
    path = written(tmp_path / "model", {"classes.txt": "x\ny", file: content})
    found = asked(path, {"Image.NominalPixelRange": "Normalized_1_1"})
    [note] = found.notes
    assert file in note
    assert words in note
    assert note.isprintable()
    assert found.preprocess == Preprocess(**TF)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"Image.BitmapPixelFormat": "Cmyk"}, "image.bitmappixelformat is 'cmyk'"),
        (ULTRALYTICS | {"names": "__import__('os').abort()"}, "names is no literal"),
        (ULTRALYTICS | {"names": "(" * 100_000}, "names is no literal"),
        (ULTRALYTICS | {"names": "{0: 'a', 2: 'b'}"}, "not every class"),
        (ULTRALYTICS | {"imgsz": "[1, 2, 3]"}, "imgsz is"),
        (OPENVINO | {"model_info mean_values": "a b c"}, "mean_values is 'a'"),
        (OPENVINO | {"model_info resize_type": "none"}, "resize_type is 'none'"),
        (OPENVINO | {"model_info scale_values": "0"}, "std"),
        ({"class_names": "7"}, "expected a list of class names, got int"),
    ],
    ids=str,
)
def test_broken_metadata_is_a_note(metadata, words):
    found = asked(metadata=metadata)
    assert any(words in note for note in found.notes), found.notes
    assert found.preprocess is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_a_folder_and_a_large_file_are_notes(tmp_path):
    os.mkfifo(tmp_path / "preprocessor_config.json")
    (tmp_path / "config.json").mkdir()
    with open(tmp_path / "labels.txt", "wb") as file:
        file.truncate(1 << 30)
    (tmp_path / "inference.yml").write_bytes(b"\xff\xfe\x00")
    found = asked(tmp_path / "m.onnx")
    assert [note.split(" is not used")[0] for note in found.notes] == [
        "preprocessor_config.json (Hugging Face)", "config.json (Hugging Face)", "config.json (timm)",
        "inference.yml (PaddleX)", "labels.txt",
    ]  # fmt: skip


def test_a_link_out_of_the_models_folder_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("root:x\nuser:y")
    path = written(tmp_path / "model", {})
    (path.parent / "labels.txt").symlink_to(tmp_path / "secret")
    found = asked(path)
    assert found.labels is None
    assert "outside of the model's folder" in found.notes[0]


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(alphabet="ab:-[]{}'\"#\n ,.&|0é\t", max_size=80), st.sampled_from([yaml.parse, triton.parse]))
def test_text_of_any_kind_is_read_or_refused(text, parse):
    with suppress(Unusable):  # and nothing else
        parse(text)


def test_the_small_yaml_reads_what_pyyaml_reads():
    pyyaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    nested = "a: {b: 1, c: null}\nd:\n- - 1\n  - [x, 2.5]\n- e: ~\n  f: TRUE\n"
    for text in (PADDLEX, PADDLEDET, PADDLEOCR, nested):
        assert yaml.parse(text) == pyyaml.safe_load(text)


# -- from a file to a map ---------------------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "p.png"
    image.save(str(path), np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8))
    return str(path)


def test_a_converted_file_needs_no_side_files(tmp_path, picture, capsys, monkeypatch):
    """What was found beside the model is in the converted file: alone in another folder it gives the same map."""
    names = {str(i): f"class {i}" for i in range(5)}
    beside = {"preprocessor_config.json": CLIP | {"crop_size": 16, "size": 20}, "config.json": {"id2label": names}}
    path = written(tmp_path / "model", beside)
    onnx.save(BUILDERS["gap_linear"](), path)
    alone = tmp_path / "alone" / "m.onnx"
    alone.parent.mkdir()
    cam_onnx.convert(path).save(alone)
    here, there = Explainer(path).explain(picture), Explainer(alone).explain(picture)
    np.testing.assert_array_equal(here.saliency_map, there.saliency_map)
    assert here.top() == there.top()
    assert there.contract.preprocess.crop_pct == 16 / 20
    assert there.contract.origin == here.contract.origin
    assert not any("guess" in note for note in there.notes)
    bare = tmp_path / "bare.onnx"
    onnx.save(BUILDERS["gap_linear"](), bare)
    guessed = Explainer(bare).explain(picture)
    assert any("guess" in note for note in guessed.notes)
    assert np.abs(np.subtract(guessed.saliency_map, here.saliency_map)).max() > 0.05


def test_a_converted_file_that_says_nothing_is_asked_about_like_a_plain_one(tmp_path, picture):
    path = written(tmp_path / "model", {})
    cam_onnx.convert(BUILDERS["gap_linear"]()).save(path)
    assert Explainer(path).contract.origin == {"preprocess": "a guess"}
    written(path.parent, {"m.preprocess.json": TF, "labels.txt": "a\nb\nc\nd\ne"})
    found = Explainer(path)
    assert found.contract.preprocess == replace(PRESETS["tf"].preprocess, size=(16, 16))
    assert found.contract.labels == tuple("abcde")
    assert found.contract.origin == {"preprocess": "m.preprocess.json", "labels": "labels.txt"}
    given = Explainer(path, preprocess={"fit": "letterbox"}, labels=["v", "w", "x", "y", "z"])
    assert given.contract.preprocess == replace(PRESETS["tf"].preprocess, size=(16, 16), fit="letterbox")
    assert given.contract.origin["preprocess"] == (
        "values and channels: m.preprocess.json; fit: given"
    )  # fmt: skip
    assert given.contract.labels == tuple("vwxyz")


def test_single_options_lie_over_what_is_found(tmp_path, picture, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "model", {"m.preprocess.json": TF})
    onnx.save(BUILDERS["gap_linear"](), path)
    assert cli.main(["convert", str(path), "-o", "m.cam.onnx", "--channels", "BGR"]) == 0
    assert Explainer("m.cam.onnx").contract.preprocess == Preprocess(channels="BGR", size=(16, 16), **TF)
    assert cli.main(["convert", str(path), "-o", "n.cam.onnx", "--mean", "3"]) == 0
    assert Explainer("n.cam.onnx").contract.preprocess == Preprocess(mean=(3.0,), size=(16, 16))


def test_hugging_faces_cache_and_a_read_only_folder(tmp_path, picture):
    """Model and side files are links into one folder of hashes; the model lies in onnx/, its description above."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    (snapshot / "onnx").mkdir(parents=True)
    onnx.save(BUILDERS["gap_linear"](), blobs / "aa")
    (blobs / "bb").write_text(json.dumps(CLIP | {"crop_size": 16, "size": 20}))
    (snapshot / "onnx" / "model.onnx").symlink_to("../../../blobs/aa")
    (snapshot / "preprocessor_config.json").symlink_to("../../blobs/bb")
    for folder in (snapshot / "onnx", snapshot, blobs):
        folder.chmod(0o555)
    try:
        found = Explainer(snapshot / "onnx" / "model.onnx")
        assert found.contract.preprocess.crop_pct == 16 / 20
        assert found.notes == []
        assert found.explain(picture).saliency_map.max() == 1
    finally:
        for folder in (blobs, snapshot, snapshot / "onnx"):
            folder.chmod(0o755)


def test_tritons_version_folder(tmp_path):
    path = written(tmp_path / "1", {}, "model.onnx")
    written(tmp_path, {"config.pbtxt": TRITON, "names.txt": "cat\ndog"})
    assert asked(path).labels == ("cat", "dog")


def test_the_map_of_what_is_found_is_the_map_of_what_is_given(tmp_path, picture):
    path = written(tmp_path / "model", {"inference.yml": PADDLEX.replace("size: 224", "size: 14")})
    onnx.save(BUILDERS["residual"](), path)
    found = Explainer(path).explain(picture)
    how = Preprocess(size=(14, 14), fit="crop", crop_pct=14 / 256, scale=0.00392156862745098, **IMAGENET)
    given = Explainer(BUILDERS["residual"](), preprocess=how).explain(picture)
    np.testing.assert_array_equal(found.saliency_map, given.saliency_map)


def test_the_corner_fit_fills_right_and_below():
    pixels = np.full((100, 50, 3), 200, np.uint8)
    tensor, box = engine.apply(Preprocess(size=(40, 60), fit="corner", fill=114), pixels)
    assert (tensor[0, :, :, :20] == 200).all()
    assert (tensor[0, :, :, 20:] == 114).all()
    assert box == (0, 0, 100, 150)


# -- names of ImageNet ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "index"), [(1000, 285), (1001, 286)])
def test_a_thousand_classes_are_imagenets_and_that_is_said(classes, index):
    found = asked(classes=classes)
    assert found.labels[index] == "Egyptian cat"
    assert len(found.labels) == classes
    assert "labels are a guess: ImageNet's names" in found.notes[0]
    assert "guess" in found.origin["labels"]


def test_of_another_number_nobody_knows_the_names():
    assert asked(classes=999) == Known()


# -- normalisation inside the graph -----------------------------------------------------------------------------------


def inside(nodes: str, constants: dict[str, Any]) -> onnx.ModelProto:
    """Return gap_linear with nodes between its input and the rest."""
    model = BUILDERS["gap_linear"]()
    for node in model.graph.node:
        node.input[:] = ["x" if name == "image" else name for name in node.input]
    first = onnx.parser.parse_graph(f"g (float[N,3,16,16] image) => (float[N,3,16,16] x) {{{nodes}}}").node
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*first, *rest])
    for name, value in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
    return model


PLANES = [[[[123.675]], [[116.28]], [[103.53]]]], [[[[58.395]], [[57.12]], [[57.375]]]]


@pytest.mark.parametrize(
    ("nodes", "constants", "scale"),
    [
        ("y = Div(image, d) x = Sub(y, s)", dict(d=127.5, s=1.0), 1.0),
        ("y = Sub(image, m) x = Div(y, d)", dict(m=PLANES[0], d=PLANES[1]), 1.0),
        ("y = Mul(image, f) x = Identity(y)", dict(f=1 / 255), 1.0),
        ("x = Sub(image, m)", dict(m=PLANES[0]), 1.0),
        ("y = Sub(image, m) x = Mul(y, d)", dict(m=0.45, d=1 / 0.225), 1 / 255),
    ],
    ids=str,
)
def test_a_graph_that_normalises_wants_pixels_and_that_is_called_a_guess(nodes, constants, scale, picture):
    explainer = Explainer(inside(nodes, constants))
    assert explainer.contract.preprocess == Preprocess(scale=scale, size=(16, 16))
    notes = explainer.explain(picture).notes
    assert any("partly a guess (values: the graph normalises its input itself" in note for note in notes)


def test_a_graph_that_does_nothing_to_its_input_says_nothing():
    for name in ("gap_linear", "nhwc", "residual", "signal_1d"):
        assert "guess" not in cam_onnx.convert(BUILDERS[name]()).contract.origin


def test_a_side_file_beside_a_graph_that_normalises_is_doubted(tmp_path):
    path = written(tmp_path, {"preprocessor_config.json": VIT})
    found = asked(path, graph=Said("the graph normalises its input itself (Div)", dict(scale=1.0)))
    assert found.preprocess.mean == (0.5,) * 3
    assert "may say the same once more" in found.notes[0]


def test_inspect_says_what_is_found_and_where(tmp_path, capsys):
    path = written(tmp_path, {"m.preprocess.json": TF, "labels.txt": "a\nb\nc\nd\ne", "config.json": "{"})
    onnx.save(BUILDERS["gap_linear"](), path)
    assert cli.main(["inspect", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "preprocessing: RGB 16x16 by stretch, bilinear, x/127.5 - 1, NCHW float32 (m.preprocess.json)" in out
    assert "labels: labels.txt" in out
    assert "config.json (timm) is not used: not JSON" in err
    cam_onnx.convert(path).save(tmp_path / "c.onnx")
    assert cli.main(["inspect", str(tmp_path / "c.onnx")]) == 0
    assert "labels: labels.txt" in capsys.readouterr().out


# -- optimum itself ---------------------------------------------------------------------------------------------------


@pytest.mark.zoo
def test_what_optimum_exports_needs_no_option(tmp_path):
    """Sizes that the file leaves open, preprocessing and names of classes are in the files that optimum puts beside it.

    A picture that needs no resizing is seen as the package's own processor sees it.
    """
    exporter = pytest.importorskip("optimum.exporters.onnx", reason="optimum-onnx is not installed")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    names = dict(enumerate(["ant", "bee", "cat", "dog", "elk"]))
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=48, num_attention_heads=4, num_hidden_layers=3, image_size=64, patch_size=8, intermediate_size=96,
        id2label=names, label2id={name: i for i, name in names.items()},
    )  # fmt: skip
    network = transformers.ViTForImageClassification(config).eval()
    processor = transformers.ViTImageProcessor(
        size={"height": 64, "width": 64}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25]
    )
    for part in (network, processor):
        part.save_pretrained(tmp_path / "source")
    exporter.main_export(str(tmp_path / "source"), tmp_path / "file", task="image-classification", do_validation=False)
    explainer = Explainer(tmp_path / "file" / "model.onnx")
    assert explainer.contract.origin == {
        "labels": "config.json (Hugging Face)", "preprocess": "preprocessor_config.json (Hugging Face)"
    }  # fmt: skip
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with torch.no_grad():
        expected = network(**processor(picture, return_tensors="pt")).logits.numpy()
    found = explainer.explain(picture)
    np.testing.assert_allclose(found.logits, expected, atol=1e-5)
    assert found.label(int(found.target[0])) == names[int(expected.argmax())]
    assert found.saliency.shape == (1, 8, 8)
    assert explainer.verify(picture).ok
