"""Preprocessing: the arithmetic against a literal twin, the box against the picture, guess and resolve as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cam_onnx.contract import Preprocess
from cam_onnx.engine.preprocess import apply
from cam_onnx.errors import InputError
from cam_onnx.inputs import guess, resolve
from cam_onnx.methods import saliency_map
from cam_onnx.render import image

MODELS = Path(__file__).parents[2] / "models"
IMAGENET: dict[str, Any] = dict(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
PICTURE = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_a_value_is_pixel_times_scale_minus_mean_over_std(channels, layout, dtype):
    tensor, box = apply(Preprocess(channels=channels, layout=layout, dtype=dtype, **IMAGENET), PICTURE)
    assert tensor.dtype == dtype
    assert box == (0, 0, 9, 7)
    tensor = tensor if layout == "NCHW" else tensor.transpose(0, 3, 1, 2)
    assert tensor.shape == (1, 3, 9, 7)
    for c, y, x in np.ndindex(3, 9, 7):
        pixel = float(PICTURE[y, x, "RGB".index(channels[c])])
        expected = (pixel * IMAGENET["scale"] - IMAGENET["mean"][c]) / IMAGENET["std"][c]
        assert tensor[0, c, y, x] == pytest.approx(
            expected, rel=1e-3 if dtype == "float16" else 1e-5, abs=2e-3 if dtype == "float16" else 1e-6
        )


def test_grey_is_the_luminance():
    tensor, _ = apply(Preprocess(channels="GRAY"), PICTURE)
    assert tensor.shape == (1, 1, 9, 7)
    np.testing.assert_allclose(tensor[0, 0], PICTURE @ [0.299, 0.587, 0.114], atol=0.51)


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
def test_uint8_is_raw_pixels(fit):
    tensor, _ = apply(Preprocess(size=(7, 7), fit=fit, dtype="uint8", layout="NHWC", fill=114), PICTURE)
    assert tensor.dtype == np.uint8
    assert tensor.shape == (1, 7, 7, 3)
    if fit == "crop":
        np.testing.assert_array_equal(tensor[0], PICTURE[1:8])
    if fit == "letterbox":
        assert (tensor[0, :, 0] == 114).all()


def test_the_picture_is_not_changed_and_the_tensor_is_contiguous():
    before = PICTURE.copy()
    for layout in ("NCHW", "NHWC"):
        tensor, _ = apply(Preprocess(size=(5, 5), fit="letterbox", channels="BGR", layout=layout), PICTURE)
        assert tensor.flags.c_contiguous
    np.testing.assert_array_equal(PICTURE, before)


def test_crop_is_torchvisions_resize_and_center_crop():
    """Resize(256) of 300 x 451 makes 256 x 384; CenterCrop(224) takes rows 16.. and columns 80.."""
    picture = np.random.default_rng(1).integers(0, 256, (300, 451, 3), dtype=np.uint8)
    tensor, box = apply(Preprocess(size=(224, 224), fit="crop", crop_pct=0.875), picture)
    expected = image.resize(picture, (256, 384))[16:240, 80:304]
    np.testing.assert_array_equal(tensor[0].transpose(1, 2, 0), expected)
    rows, columns = 300 / 256, 451 / 384
    assert box == pytest.approx((16 * rows, 80 * columns, 240 * rows, 304 * columns))


def test_letterbox_keeps_the_aspect_ratio_and_fills_the_rest():
    picture = np.full((100, 50, 3), 200, np.uint8)
    tensor, box = apply(Preprocess(size=(40, 60), fit="letterbox", fill=114, mean=(14,), std=(10,)), picture)
    assert (tensor[0, :, :, 20:40] == np.float32(18.6)).all()
    assert (tensor[0, :, :, :20] == 10).all()
    assert (tensor[0, :, :, 40:] == 10).all()
    assert box == (0, -50, 100, 100)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    fit=st.sampled_from(["stretch", "crop", "letterbox"]),
    shape=st.tuples(st.integers(60, 100), st.integers(60, 100)),
    size=st.sampled_from([(56, 56), (48, 64), (64, 48)]),
    crop_pct=st.sampled_from([1.0, 0.875]),
    corner=st.tuples(st.floats(0.3, 0.6), st.floats(0.3, 0.6)),
)
def test_a_bright_patch_is_where_the_map_says(fit, shape, size, crop_pct, corner):
    """The "network" is the input's brightness itself: laid back over the box, its peak must meet the patch."""
    y, x = (int(c * n) for c, n in zip(corner, shape, strict=True))
    picture = np.zeros((*shape, 3), np.uint8)
    picture[y : y + 12, x : x + 12] = 255
    tensor, box = apply(Preprocess(size=size, fit=fit, crop_pct=crop_pct, fill=0), picture)
    (drawn,), _ = saliency_map(tensor.mean(axis=1), relu=True, size=shape, box=box)
    warm = drawn / drawn.sum()
    seen_y, seen_x = np.nonzero(picture[..., 0] * (drawn > 0))
    assert (warm * np.arange(shape[0])[:, None]).sum() == pytest.approx(seen_y.mean(), abs=0.5)
    assert (warm * np.arange(shape[1])).sum() == pytest.approx(seen_x.mean(), abs=0.5)


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 10000), (10000, 1)])
def test_extreme_pictures_work_without_taking_the_memory(fit, shape):
    """1 x 10,000 resized as a whole until it covers 224 x 224 would have 655 million pixels."""
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    tensor, box = apply(Preprocess(size=(224, 224), fit=fit, crop_pct=0.875), picture)
    assert tensor.shape == (1, 3, 224, 224)
    assert np.isfinite(tensor).all()
    assert ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) == pytest.approx((shape[0] / 2, shape[1] / 2), abs=1)


def test_arrays_that_are_no_pictures_are_refused():
    with pytest.raises(InputError, match="uint8"):
        apply(Preprocess(), PICTURE.astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        (("batch", 3, 224, 224), "float32", Preprocess(size=(224, 224), **IMAGENET)),
        ((1, 3, 192, 256), "float16", Preprocess(size=(192, 256), dtype="float16", **IMAGENET)),
        ((None, 299, 299, 3), "float32", Preprocess(size=(299, 299), layout="NHWC", **IMAGENET)),
        ((1, 3, "h", "w"), "float32", Preprocess(**IMAGENET)),
        ((1, 3, 224, 3), "float32", Preprocess(size=(224, 3), **IMAGENET)),
        (("n", "h", "w", 3), "uint8", Preprocess(layout="NHWC", dtype="uint8")),
        (("n", "c", "h", "w"), "float32", Preprocess(**IMAGENET)),
        ((1, 1, 28, 28), "float32", Preprocess(size=(28, 28), channels="GRAY", scale=1 / 255)),
        (
            (1, 28, 28, 1),
            "float64",
            Preprocess(size=(28, 28), channels="GRAY", layout="NHWC", scale=1 / 255, dtype="float64"),
        ),
    ],
)
def test_guess(shape, dtype, expected):
    guessed, text = guess(shape, dtype)
    assert guessed == expected
    assert "guess" in text
    assert "preprocess=" in text
    assert text.isprintable()


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((1, 128), "float32", r"input \(1, 128\) float32: it has 2 axes"),
        ((3, 224, 224), "float32", "3 axes"),
        ((1, 12, 64, 64), "float32", "neither axis 1 nor axis 3"),
        ((1, 3, 224, 224), "int64", "input of int64"),
        ((1, 3, 224, 224), "string", "input of string"),
    ],
)
def test_an_input_that_is_no_picture_is_refused(shape, dtype, words):
    with pytest.raises(InputError, match=words):
        guess(shape, dtype)
    with pytest.raises(InputError, match=words):
        resolve(Preprocess(), shape, dtype)


@pytest.mark.parametrize(
    ("given", "shape", "dtype", "expected"),
    [
        ({}, ("n", 3, 224, 200), "float32", {"size": (224, 200)}),
        ({}, ("n", 224, 200, 3), "float16", {"size": (224, 200), "layout": "NHWC", "dtype": "float16"}),
        ({"layout": "NHWC"}, ("n", 3, 224, 200), "float32", {"size": (224, 200), "layout": "NCHW"}),
        ({"layout": "NHWC"}, ("n", "h", "w", "c"), "float32", {"size": None, "layout": "NHWC"}),
        ({"size": (10, 20)}, ("n", 3, "h", "w"), "float32", {"size": (10, 20)}),
        ({"size": (10, 20)}, ("n", 3, 10, "w"), "float32", {"size": (10, 20)}),
        ({}, ("n", 3, 224, "w"), "float32", {"size": (224, None)}),
        ({"size": (10, None)}, ("n", 3, "h", "w"), "float32", {"size": (10, None)}),
        ({"size": (224, 224)}, ("n", 3, 224, 224), "uint8", {"size": (224, 224), "dtype": "uint8"}),
        ({"layout": "NHWC"}, (1, 3, 224, 3), "float32", {"size": (3, 224), "layout": "NHWC"}),
        ({"channels": "GRAY"}, (1, 1, 28, 28), "float32", {"channels": "GRAY", "size": (28, 28)}),
    ],
)
def test_resolve(given, shape, dtype, expected):
    resolved = resolve(Preprocess(**given), shape, dtype)
    assert {name: getattr(resolved, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("given", "shape", "dtype", "words"),
    [
        (
            {"size": (200, 224)},
            ("n", 3, 224, 224),
            "float32",
            r"size \(200, 224\).*input is \(n, 3, 224, 224\) float32",
        ),
        ({"size": (200, 224)}, ("n", 3, 224, "w"), "float32", r"size \(200, 224\)"),
        ({"channels": "GRAY"}, ("n", 3, 224, 224), "float32", "channels GRAY makes 1"),
        ({}, ("n", 1, 28, 28), "float32", "channels RGB makes 3"),
        ({"scale": 1 / 255}, ("n", 3, 224, 224), "uint8", "make floats"),
    ],
)
def test_what_contradicts_the_model_is_refused(given, shape, dtype, words):
    with pytest.raises(InputError, match=words):
        resolve(Preprocess(**given), shape, dtype)


@pytest.mark.parametrize(("name", "label", "probability"), [("chelsea", 285, 0.77), ("coffee", 967, 0.90)])
def test_the_demo_network_sees_what_it_was_trained_on(name, label, probability):
    """Egyptian cat and espresso, with the probabilities of the network's own preprocessing."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(MODELS / "efficientnet-lite0.onnx", providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    preprocess = resolve(Preprocess(scale=1, mean=(127,), std=(128,), interpolation="bicubic"), entry.shape, "float32")
    tensor, _ = apply(preprocess, image.load(MODELS / "pictures" / f"{name}.png").pixels)
    logits = session.run(None, {entry.name: tensor})[0][0].astype(float)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    assert probabilities.argmax() == label
    assert probabilities[label] == pytest.approx(probability, abs=0.01)
