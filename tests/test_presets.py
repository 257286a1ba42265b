"""Preprocessing by name, from the option to the map that lies where the picture is bright."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import cam_onnx
from cam_onnx import InputError, Preprocess, UnknownName, cli, inputs
from cam_onnx.engine import preprocess
from cam_onnx.options import read_preprocess
from cam_onnx.presets import PRESETS
from cam_onnx.render import image
from models.builders import BUILDERS

ROOT = Path(__file__).parent.parent

# A pixel (200, 100, 0) as the training code turns it into numbers, by hand from its own documentation.
PIXEL = (200, 100, 0)
EXPECTED: dict[str, list[float]] = {
    "imagenet": [(200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (0 - 0.406) / 0.225],
    "imagenet-inception": [200 / 255 * 2 - 1, 100 / 255 * 2 - 1, -1],
    "tf": [200 / 127.5 - 1, 100 / 127.5 - 1, -1],
    "caffe-bgr": [0 - 103.939, 100 - 116.779, 200 - 123.68],
    "clip": [
        (200 / 255 - 0.48145466) / 0.26862954,
        (100 / 255 - 0.4578275) / 0.26130258,
        (0 - 0.40821073) / 0.27577711,
    ],
    "raw-255": [200, 100, 0],
    "unit": [200 / 255, 100 / 255, 0],
}


def test_every_preset_is_checked_here():
    assert EXPECTED.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_preset_is_the_formula_of_its_training_code(name, layout):
    shape = (1, 3, 8, 8) if layout == "NCHW" else (1, 8, 8, 3)
    settled = inputs.resolve(PRESETS[name].preprocess, shape, "float32")
    assert settled.size == (8, 8)
    tensor, _ = preprocess.apply(settled, np.full((20, 30, 3), PIXEL, np.uint8))
    assert tensor.shape == shape
    values = tensor.reshape(3, -1).T if layout == "NCHW" else tensor.reshape(-1, 3)
    np.testing.assert_allclose(values, np.tile(EXPECTED[name], (64, 1)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_leaves_the_size_to_the_model(name):
    assert PRESETS[name].preprocess.size is None
    open_ = inputs.resolve(PRESETS[name].preprocess, ("N", 3, None, None), "float32")
    tensor, box = preprocess.apply(open_, np.zeros((21, 34, 3), np.uint8))
    assert tensor.shape == (1, 3, 21, 34), "nothing is cut from a picture that keeps its size"
    assert box == (0, 0, 21, 34)


def test_only_raw_pixels_go_into_uint8():
    assert inputs.resolve(PRESETS["raw-255"].preprocess, (1, 8, 8, 3), "uint8").dtype == "uint8"
    with pytest.raises(InputError, match="make floats, but the model's input is"):
        inputs.resolve(PRESETS["imagenet"].preprocess, (1, 8, 8, 3), "uint8")


def test_a_grey_input_says_what_to_set():
    with pytest.raises(InputError, match="set GRAY"):
        inputs.resolve(PRESETS["unit"].preprocess, (1, 1, 8, 8), "float32")
    grey = replace(PRESETS["unit"].preprocess, channels="GRAY")
    assert inputs.resolve(grey, (1, 1, 8, 8), "float32").size == (8, 8)


# -- names and files --------------------------------------------------------------------------------------------------


def test_a_file_does_not_shadow_a_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("imagenet").write_text('{"scale": 7}')
    assert read_preprocess("imagenet") is PRESETS["imagenet"].preprocess
    assert read_preprocess("./imagenet") == read_preprocess(Path("imagenet")) == Preprocess(scale=7)
    Path("mine").write_text('{"scale": 8}')
    assert read_preprocess("mine") == Preprocess(scale=8), "a name that is no preset is a file if there is one"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("imagnet", "did you mean 'imagenet'?"),
        ("ImageNet", "did you mean 'imagenet'?"),
        ("caffe", "did you mean 'caffe-bgr'?"),
        ("torch", "(presets: imagenet, imagenet-inception, tf, caffe-bgr, clip, raw-255, unit; a file: JSON)"),
    ],
)
def test_a_wrong_name_lists_what_there_is(name, words):
    with pytest.raises(UnknownName, match=re.escape(words)):
        read_preprocess(name)


def test_a_missing_file_is_said_as_one():
    with pytest.raises(InputError, match=r"preprocessing file none\.json: no such file"):
        read_preprocess("none.json")


def test_help_and_documentation_list_the_presets(capsys):
    assert cli.main(["explain", "--help"]) == 0
    listed = re.sub(r"-\s+", "-", capsys.readouterr().out)
    documented = (ROOT / "docs" / "preprocessing.md").read_text(encoding="utf-8")
    for name, preset in PRESETS.items():
        assert name in listed
        assert f"| `{name}` | `{preset.formula}` |" in documented
        assert preset.users in documented


def test_a_converted_file_needs_no_options(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(BUILDERS["gap_linear"](), "m.onnx")
    image.save("p.png", np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8))
    assert cli.main(["convert", "m.onnx", "--preprocess", "clip"]) == 0
    assert cli.main(["explain", "m.cam.onnx", "p.png", "-o", "a.png"]) == 0
    assert "guess" not in capsys.readouterr().err
    assert cli.main(["explain", "m.onnx", "p.png", "-o", "b.png", "--preprocess", "clip"]) == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    with cam_onnx.Explainer("m.cam.onnx") as explainer:
        assert explainer.contract.preprocess == replace(PRESETS["clip"].preprocess, size=(16, 16))


def test_single_options_change_a_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(BUILDERS["gap_linear"](), "m.onnx")
    assert cli.main(["convert", "m.onnx", "--preprocess", "imagenet", "--fit", "letterbox", "--size", "16"]) == 0
    with cam_onnx.Explainer("m.cam.onnx") as explainer:
        assert explainer.contract.preprocess == replace(
            PRESETS["imagenet"].preprocess, fit="letterbox", size=(16, 16)
        )  # fmt: skip


# -- the map lies where the picture is --------------------------------------------------------------------------------

SIZE = (120, 80)  # portrait: height, width
CELLS = 8  # of gap_linear's features, over 16 pixels of input


def seeing_brightness() -> bytes:
    """Return gap_linear with weights of one sign, so that class 0 is what is bright."""
    model = BUILDERS["gap_linear"]()
    for tensor in model.graph.initializer:
        weight = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.abs(weight) * (weight.ndim > 1), tensor.name))
    data: bytes = model.SerializeToString()
    return data


def patch(row: float, column: float, radius: int = 6) -> np.ndarray:
    """Return a dark portrait picture with a bright square around a point, given as parts of height and width."""
    picture = np.zeros((*SIZE, 3), np.uint8)
    y, x = int(row * SIZE[0]), int(column * SIZE[1])
    picture[max(0, y - radius) : y + radius, max(0, x - radius) : x + radius] = 255
    return picture


def centre(values: np.ndarray) -> tuple[float, float]:
    """Return where the map is at its largest: the mean position of what lies within a tenth of it."""
    found = np.argwhere(values >= 0.9 * values.max())
    return float(found[:, 0].mean()), float(found[:, 1].mean())


# one layer cell, in pixels of the picture: (height, width)
CELL = {
    "stretch": (SIZE[0] / CELLS, SIZE[1] / CELLS),
    "crop": (SIZE[1] / CELLS, SIZE[1] / CELLS),
    "letterbox": (SIZE[0] / CELLS, SIZE[0] / CELLS),
}


@pytest.mark.parametrize("fit", CELL)
@pytest.mark.parametrize("point", [(0.35, 0.25), (0.5, 0.5), (0.6, 0.75), (0.7, 0.3)], ids=str)
def test_a_bright_patch_is_where_the_map_says(fit, point):
    settings = replace(PRESETS["unit"].preprocess, fit=fit, interpolation="area", fill=0)
    with cam_onnx.Explainer(seeing_brightness(), preprocess=settings) as explainer:
        found = explainer.explain(patch(*point), target=0)
    assert found.saliency_map[0].shape == SIZE
    y, x = centre(found.saliency_map[0])
    tall, wide = CELL[fit]
    assert abs(y - point[0] * SIZE[0]) <= tall, (y, point[0] * SIZE[0])
    assert abs(x - point[1] * SIZE[1]) <= wide, (x, point[1] * SIZE[1])


def test_what_a_crop_does_not_see_has_no_map():
    settings = replace(PRESETS["unit"].preprocess, fit="crop")
    with cam_onnx.Explainer(seeing_brightness(), preprocess=settings) as explainer:
        drawn = explainer.explain(np.full((*SIZE, 3), 200, np.uint8), target=0).saliency_map[0]
    assert drawn[:20].max() == drawn[100:].max() == 0, "the picture is 80 wide: 40 rows are cut off"
    assert (drawn[20:100] > 0).mean() > 0.9, "all but the smallest, which min-max puts at 0"


# -- EXIF -------------------------------------------------------------------------------------------------------------


def jpeg_lying(upright: np.ndarray, orientation: int) -> bytes:
    """Return a JPEG as a phone writes it: pixels as the sensor saw them, and how to turn them in its EXIF."""
    stored = {1: upright, 3: np.rot90(upright, 2), 6: np.rot90(upright, 1), 8: np.rot90(upright, 3)}[orientation]
    data = image.encode(np.ascontiguousarray(stored), ".jpg")
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0" + b"MM\0*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_overlay_of_a_turned_picture_is_upright(orientation, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("m.onnx").write_bytes(seeing_brightness())
    Path("p.jpg").write_bytes(jpeg_lying(patch(0.25, 0.3), orientation))
    arguments = ["explain", "m.onnx", "p.jpg", "-o", "out/", "--preprocess", "unit", "--target", "0"]
    assert cli.main(arguments) == 0
    said = capsys.readouterr().err
    assert ("turned upright (EXIF orientation" in said) == (orientation != 1)
    overlay = image.load("out/p.overlay.png").pixels
    heatmap = image.load("out/p.heatmap.png").pixels
    assert overlay.shape == heatmap.shape == (*SIZE, 3)
    y, x = centre(overlay.astype(float).max(axis=2))
    assert abs(y - 0.25 * SIZE[0]) <= CELL["stretch"][0]
    assert abs(x - 0.3 * SIZE[1]) <= CELL["stretch"][1]
    warm = heatmap[..., 0].astype(float) - heatmap[..., 2]
    y, x = centre(warm - warm.min())
    assert abs(y - 0.25 * SIZE[0]) <= CELL["stretch"][0]
    assert abs(x - 0.3 * SIZE[1]) <= CELL["stretch"][1]
