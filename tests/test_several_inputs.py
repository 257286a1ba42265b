"""Models with more inputs than the picture: which one it is, and what the others get, given or usual."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cam_onnx import Explainer, InputError, cli, convert
from cam_onnx.render import image
from models.builders import bias, he, ints, network, reals

PICTURE = np.random.default_rng(3).integers(0, 256, (40, 32, 3)).astype(np.uint8)
BACK = """
    features = Relu(c)
    pooled = GlobalAveragePool(features)
    flat = Flatten(pooled)
"""
WEIGHTS = dict(w1=he(8, 3, 3, 3), b1=bias(8))


def with_a_table() -> onnx.ModelProto:
    """A picture, and seven numbers beside it that come first."""
    return network(
        "table (float[N,7] table, float[N,3,16,16] image) => (float[N,5] logits)",
        f"""c = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1) {BACK}
        both = Concat<axis=1>(flat, table)
        logits = Gemm<transB=1>(both, w2, b2)""",
        dict(**WEIGHTS, w2=he(5, 15), b2=bias(5)),
    )


def with_a_mask() -> onnx.ModelProto:
    """A mask of rank 4 in front of the picture."""
    return network(
        "mask (float[N,1,16,16] mask, float[N,3,16,16] image) => (float[N,5] logits)",
        f"""x = Mul(image, mask)
        c = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w1, b1) {BACK}
        logits = Gemm<transB=1>(flat, w2, b2)""",
        dict(**WEIGHTS, w2=he(5, 8), b2=bias(5)),
    )


def with_sizes() -> onnx.ModelProto:
    """As PaddleDetection has it: im_shape, image, scale_factor; its first score is the picture's height."""
    return network(
        "sizes (float[N,2] im_shape, float[N,3,16,16] image, float[N,2] scale_factor) => (float[N,5] logits)",
        f"""c = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1) {BACK}
        own = Gemm<transB=1>(flat, w2, b2)
        real = Div(im_shape, scale_factor)
        height = Gather<axis=1>(real, zero)
        shown = Mul(height, first)
        logits = Add(own, shown)""",
        dict(**WEIGHTS, w2=he(5, 8), b2=bias(5), zero=ints(0), first=reals([1.0, 0, 0, 0, 0])),
    )


def test_a_picture_and_the_others_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(with_a_table(), "m.onnx")
    image.save("p.png", PICTURE)
    table = np.arange(7, dtype=np.float32)[None]
    np.save("t.npy", table)
    explainer = Explainer("m.onnx")
    e = explainer.explain("p.png", inputs={"table": table})
    assert e.pictures[0] is not None
    assert any("guess" in note for note in e.notes)
    other = explainer.explain("p.png", inputs={"table": 0 * table})
    assert not np.allclose(e.logits, other.logits)
    assert cli.main(["explain", "m.onnx", "p.png", "--input", "table=t.npy", "-o", "o/"]) == 0
    np.testing.assert_array_equal(np.load("o/p.saliency.npy"), e.saliency[0])
    assert cli.main(["verify", "m.onnx", "p.png", "--input", "table=t.npy"]) == 0
    capsys.readouterr()
    assert cli.main(["explain", "m.onnx", "p.png", "-o", "o.png"]) == 2
    assert "input 'table' (float32, [N, 7]) is missing" in capsys.readouterr().err


def test_one_sample_of_an_input_serves_several_pictures():
    table = np.arange(7, dtype=np.float32)[None]
    explainer = Explainer(with_a_table())
    pictures = [PICTURE, PICTURE[::-1]]
    both = explainer.explain(pictures, inputs={"table": table})
    each = [explainer.explain(picture, inputs={"table": table}) for picture in pictures]
    np.testing.assert_allclose(both.saliency, np.concatenate([e.saliency for e in each]), atol=1e-6)
    rows = explainer.explain(pictures, inputs={"table": np.stack([table[0], 2 * table[0]])})
    np.testing.assert_allclose(rows.logits[0], each[0].logits[0], atol=1e-6)
    assert not np.allclose(rows.logits[1], each[1].logits[0])


def test_the_picture_is_the_input_of_three_channels():
    assert convert(with_a_mask()).contract.roles["image"] == "image"
    e = Explainer(with_a_mask()).explain(PICTURE, inputs={"mask": np.ones((1, 1, 16, 16), np.float32)})
    assert e.saliency.shape == (1, 8, 8)
    denoted = with_a_mask()
    denoted.graph.input[0].type.denotation = "IMAGE"
    assert convert(denoted).contract.roles["image"] == "mask"


def test_sizes_that_detectors_are_told_follow_from_the_picture_and_are_said():
    explainer = Explainer(with_sizes())
    e = explainer.explain(PICTURE)
    ratio = 16 / 40, 16 / 32
    given = {"im_shape": np.float32([[16, 16]]), "scale_factor": np.float32([ratio])}
    np.testing.assert_allclose(e.logits, explainer.explain(PICTURE, inputs=given).logits, rtol=1e-6)
    plain = explainer.explain(PICTURE, inputs={**given, "scale_factor": np.float32([[1, 1]])})
    assert e.logits[0, 0] - plain.logits[0, 0] == pytest.approx(40 - 16, rel=1e-4)
    assert any("'im_shape' follows from the picture: [16.0, 16.0]" in note for note in e.notes)
    assert len([note for note in e.notes if "follows" in note]) == 2
    assert not any("follows" in note for note in plain.notes)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"image": np.zeros((1, 3, 16, 16), np.float32)}, "give either images or inputs="),
        ({"tabel": np.zeros((1, 7), np.float32)}, "did you mean 'table'"),
        ({"table": np.zeros((1, 6), np.float32)}, "dimension 1 is 6, expected 7"),
        ({"table": np.zeros((1, 7))}, "expected float32, got float64"),
    ],
    ids=str,
)
def test_what_does_not_fit_beside_a_picture_is_refused(inputs, words):
    with pytest.raises(InputError, match=words):
        Explainer(with_a_table()).explain(PICTURE, inputs=inputs)
