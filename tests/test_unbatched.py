"""Pictures without a batch axis: (C, H, W), (H, W, C), 8 bits with the preprocessing inside; and what is none."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cam_onnx import Explainer, InputError, LayerNotFound, cli, convert
from cam_onnx.contract import Contract
from cam_onnx.graph.inspect import inspect
from cam_onnx.methods import METHODS
from cam_onnx.render import image
from models.builders import BUILDERS, bias, he, ints, network, reals

PICTURE = np.random.default_rng(3).integers(0, 256, (40, 32, 3)).astype(np.uint8)
NETWORK = """
    a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w1, b1)
    features = Relu(a)
    pooled = GlobalAveragePool(features)
    flat = Flatten(pooled)
    logits = Gemm<transB=1>(flat, w2, b2)
"""
# (signature, what stands before and behind the network)
FORMS = {
    "batched": ("float[N,3,16,16] image) => (float[N,5] logits", "x = Identity(image)", ""),
    "chw": ("float[3,16,16] image) => (float[1,5] logits", "x = Unsqueeze(image, zero)", ""),
    "hwc": ("float[16,16,3] image) => (float[5] scores", "t = Transpose<perm=[2,0,1]>(image) x = Unsqueeze(t, zero)",
            "scores = Squeeze(logits, zero)"),
    "reshaped": ("float[3,16,16] image) => (float[5] scores", "x = Reshape(image, whole)",
                 "scores = Reshape(logits, minus)"),
    "three classes": ("float[3,16,16] image) => (float[3] scores", "x = Unsqueeze(image, zero)",
                      "s = Slice(logits, zero, three, one) scores = Squeeze(s, zero)"),
}  # fmt: skip


def built(form: str) -> onnx.ModelProto:
    signature, before, behind = FORMS[form]
    rng = np.random.default_rng(1)
    values = dict(
        zero=ints(0), one=ints(1), three=ints(3), whole=ints(1, 3, 16, 16), minus=ints(-1),
        w1=he(8, 3, 3, 3)(rng).astype("f4"), b1=bias(8)(rng).astype("f4"), w2=he(5, 8)(rng).astype("f4"),
        b2=bias(5)(rng).astype("f4"),
    )  # fmt: skip
    return network(f"{form.replace(' ', '_')} ({signature})", f"{before} {NETWORK} {behind}", values)


def eight_bits() -> onnx.ModelProto:
    """8-bit pixels (H, W, 3) of any size, with their preprocessing inside."""
    return network(
        "eight_bits (uint8[H,W,3] image) => (float[5] probabilities)",
        f"""f = Cast<to=1>(image)
        n = Div(f, scale)
        t = Transpose<perm=[2,0,1]>(n)
        x = Unsqueeze(t, zero)
        {NETWORK}
        scores = Squeeze(logits, zero)
        probabilities = Softmax(scores)""",
        dict(zero=ints(0), scale=reals(255.0), w1=he(8, 3, 3, 3), b1=bias(8), w2=he(5, 8), b2=bias(5)),
    )


@pytest.mark.parametrize("form", [form for form in FORMS if form != "batched"])
def test_a_picture_without_a_batch_has_the_map_of_a_batch_of_one(form):
    explainer, batched = Explainer(built(form)), Explainer(built("batched"))
    assert explainer.contract.unbatched == ("HWC" if form == "hwc" else "CHW")
    e, expected = explainer.explain(PICTURE, target=1), batched.explain(PICTURE, target=1)
    np.testing.assert_allclose(e.saliency_map, expected.saliency_map, atol=1e-5)
    np.testing.assert_allclose(e.logits[0], expected.logits[0, : e.logits.shape[1]], rtol=1e-5)
    assert e.logits.shape == (1, 3 if form == "three classes" else 5)
    several = explainer.explain([PICTURE, PICTURE[::-1]], target=1)
    np.testing.assert_allclose(several.saliency_map[0], e.saliency_map[0], atol=1e-6)
    nested = explainer.explain(PICTURE, target=[[1, 2]])
    np.testing.assert_allclose(nested.saliency_map[0], e.saliency_map[0], atol=1e-5)
    assert np.abs(np.subtract(nested.saliency_map[1], e.saliency_map[0])).max() > 0.01
    assert explainer.verify(PICTURE).ok


def test_8_bits_of_any_size_with_the_preprocessing_inside():
    explainer = Explainer(eight_bits())
    e = explainer.explain(PICTURE)
    assert (explainer.contract.preprocess.dtype, explainer.contract.preprocess.layout) == ("uint8", "NHWC")
    assert explainer.contract.preprocess.scale == 1
    assert e.saliency.shape == (1, 20, 16)
    given = explainer.explain(inputs={"image": PICTURE})
    np.testing.assert_array_equal(given.saliency, e.saliency)


def test_its_own_tensor_is_given_as_the_model_has_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(built("chw"), "m.onnx")
    image.save("p.png", PICTURE)
    x = np.random.default_rng(0).standard_normal((3, 16, 16)).astype(np.float32)
    np.save("x.npy", x)
    e = Explainer("m.onnx").explain(inputs={"image": x})
    assert cli.main(["explain", "m.onnx", "--input", "image=x.npy", "-o", "o/"]) == 0
    np.testing.assert_array_equal(np.load("o/x.saliency.npy"), e.saliency[0])
    assert cli.main(["convert", "m.onnx"]) == 0
    assert cli.main(["explain", "m.cam.onnx", "p.png", "-o", "p/"]) == 0
    np.testing.assert_array_equal(np.load("p/p.saliency.npy"), Explainer("m.onnx").explain(PICTURE).saliency[0])


def test_values_before_the_batch_axis_are_no_layers():
    report = inspect(eight_bits())
    assert [c.name for c in report.candidates] == ["a", "features"]
    assert Contract.from_json(convert(eight_bits()).contract.to_json()).unbatched == "HWC"
    with pytest.raises(LayerNotFound, match="'n' .* is not known to have spatial axes"):
        Explainer(eight_bits(), layers="n")


OTHERS = {"d-rise", "expected-gradients"}  # of a detector; of references
AT_THE_PICTURE = [name for name, entry in METHODS.items() if entry.at == "input" and name not in OTHERS]


@pytest.mark.parametrize("form", ["chw", "hwc"])
@pytest.mark.parametrize("method", ["guided-grad-cam", *AT_THE_PICTURE])
def test_methods_at_the_picture_have_the_map_of_a_batch_of_one(method, form):
    e, expected = (Explainer(built(f), method=method).explain(PICTURE, target=1) for f in (form, "batched"))
    assert expected.saliency.any()
    np.testing.assert_allclose(e.saliency, expected.saliency, atol=1e-5 * np.abs(expected.saliency).max())


def test_the_gradient_at_the_picture_is_checked_against_differences():
    explainer = Explainer(built("chw"), method="gradient")
    assert explainer.contract.unbatched == "CHW"
    assert explainer.verify(PICTURE).ok
    several = explainer.explain([PICTURE, PICTURE[::-1]], target=1)
    np.testing.assert_array_equal(several.saliency[0], explainer.explain(PICTURE, target=1).saliency[0])


def test_methods_that_change_the_picture_run_one_at_a_time():
    maps = [Explainer(built(form), method="score-cam").explain(PICTURE, target=1) for form in ("chw", "batched")]
    np.testing.assert_allclose(maps[0].saliency, maps[1].saliency, atol=1e-5)
    smooth = [Explainer(built(form)).explain(PICTURE, target=1, smooth="noise") for form in ("chw", "batched")]
    np.testing.assert_allclose(smooth[0].saliency_map, smooth[1].saliency_map, atol=1e-4)


def test_a_signal_of_three_axes_is_no_picture():
    explainer = Explainer(BUILDERS["signal_1d"]())
    assert explainer.contract.unbatched == ""
    with pytest.raises(InputError, match="no input that a picture fits"):
        explainer.explain(PICTURE)
