"""Networks of any picture size: what they need its sizes to be, found in the graph; and lines of text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from cam_onnx import Explainer, LimitExceeded, Preprocess, RunFailed, convert
from cam_onnx.autodiff.model import load
from cam_onnx.engine import preprocess as engine
from cam_onnx.graph.inspect import inspect
from cam_onnx.graph.multiples import multiple
from models.builders import bias, he, ints, network, reals

PICTURE = np.random.default_rng(3).integers(0, 256, (37, 50, 3)).astype(np.uint8)
DOWN = """
    a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
    first = Relu(a)
    b = Conv<pads=[1,1,1,1], strides=[2,2]>(first, w2, b2)
    second = Relu(b)
    c = Conv<pads=[1,1,1,1], strides=[2,2]>(second, w2, b2)
    third = Relu(c)
"""
HEAD = """
    mask = Conv(joined, w3, b3)
    probability = Sigmoid(mask)
"""
# how what is deep comes up again, and of what the picture's sizes must be a multiple then
UP = {
    "transposed convolution": ("u = ConvTranspose<strides=[2,2]>(third, w4) joined = Add(u, second)", 8),
    "constant scales": ("u = Resize<mode=\"nearest\">(third, none, twice) joined = Concat<axis=1>(u, second)", 8),
    "two levels": (
        ("u = Resize<mode=\"nearest\">(second, none, twice) v = Resize<mode=\"nearest\">(third, none, fourfold) "
        "s = Add(u, v) joined = Add(s, first)"),
        8,
    ),
    "its own size, doubled": (
        ("s = Shape(third) l = Slice(s, two, four) d = Mul(l, two) h = Slice(s, zero, two) t = Concat<axis=0>(h, d) "
        "u = Resize<mode=\"nearest\">(third, none, none, t) joined = Add(u, second)"),
        8,
    ),
    "the other's size": (
        "s = Shape(second) u = Resize<mode=\"nearest\">(third, none, none, s) joined = Add(u, second)",
        1,
    ),
    "nothing to meet": ("u = ConvTranspose<strides=[2,2]>(third, w4) joined = Relu(u)", 1),
    "never up": ("joined = Identity(third)", 1),
    "pixels regrouped": ("u = SpaceToDepth<blocksize=2>(second) m = Conv(u, w5) joined = Add(m, third)", 8),
}  # fmt: skip


def built(up: str, picture: str = "float[N,3,H,W]") -> onnx.ModelProto:
    joined = 16 if "Concat<axis=1>" in UP[up][0] else 8
    return network(
        f"{up.replace(' ', '_').replace(',', '').replace(chr(39), '')} ({picture} image) => "
        "(float[N,1,h,w] probability)",
        f"{DOWN} {UP[up][0]} {HEAD}",
        dict(
            w1=he(8, 3, 3, 3), b1=bias(8), w2=he(8, 8, 3, 3), b2=bias(8), w3=he(1, joined, 1, 1), b3=bias(1),
            w4=he(8, 8, 2, 2), w5=he(8, 32, 1, 1), none=reals([]), twice=reals([1.0, 1, 2, 2]),
            fourfold=reals([1.0, 1, 4, 4]), zero=ints(0), two=ints(2), four=ints(4),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("up", UP)
def test_the_multiple_is_the_stride_from_which_something_comes_up_to_meet_another(up):
    steps = UP[up][1]
    assert multiple(load(built(up)).graph) == steps
    said = convert(built(up)).contract
    assert (said.preprocess.multiple if said.preprocess else 1) == steps
    explainer = Explainer(built(up))
    e = explainer.explain(PICTURE)
    assert e.saliency_map.shape == (1, 37, 50)
    assert any("37x50 pixels are fed as 40x56: the network takes multiples of 8" in n for n in e.notes) == (steps > 1)


@pytest.mark.parametrize("up", [up for up in UP if UP[up][1] > 1])
def test_without_it_the_network_fails_and_with_it_the_map_lies_on_the_whole_picture(up):
    explainer = Explainer(built(up))
    e = explainer.explain(PICTURE)
    how = explainer.contract.preprocess
    assert how is not None
    with pytest.raises(RunFailed):
        Explainer(built(up), preprocess=replace(how, size=(37, 50))).explain(PICTURE)
    same = Explainer(built(up), preprocess=replace(how, size=(40, 56))).explain(PICTURE)
    np.testing.assert_array_equal(e.saliency_map, same.saliency_map)
    given = Explainer(built(up), preprocess=replace(how, multiple=1)).explain(PICTURE)  # a whole one, of any size
    np.testing.assert_array_equal(given.saliency_map, same.saliency_map)
    fits = explainer.explain(PICTURE[:32, :48])
    assert not any("multiples" in note for note in fits.notes if "pixels are fed" in note)


def test_a_converted_file_keeps_it(tmp_path):
    convert(built("two levels")).save(tmp_path / "m.onnx")
    there, here = Explainer(tmp_path / "m.onnx"), Explainer(built("two levels"))
    assert there.contract.preprocess == here.contract.preprocess
    np.testing.assert_array_equal(there.explain(PICTURE).saliency_map, here.explain(PICTURE).saliency_map)
    assert "multiple" not in convert(built("never up"), preprocess="tf").contract.to_json()  # readers of before


def test_a_fixed_size_needs_no_multiple():
    assert convert(built("two levels", "float[N,3,32,48]"), preprocess="tf").contract.preprocess.multiple == 1
    assert Explainer(built("two levels", "float[N,3,32,48]")).contract.preprocess.size == (32, 48)


@pytest.mark.parametrize(
    ("settings", "expected", "box"),
    [
        (dict(), (37, 50), (0, 0, 37, 50)),
        (dict(multiple=8), (40, 56), (0, 0, 37, 50)),
        (dict(multiple=8, fit="crop", crop_pct=0.5), (40, 56), (0, 0, 37, 50)),
        (dict(size=(74, None)), (74, 100), (0, 0, 37, 50)),
        (dict(size=(None, 20)), (15, 20), (0, 0, 37, 50)),
        (dict(size=(74, None), multiple=32), (74, 128), (0, 0, 37, 50)),
        (dict(size=(74, None), multiple=32, fit="corner"), (74, 128), (0, 0, 37, 64)),
        (dict(size=(10, 20), multiple=32), (10, 20), (0, 0, 37, 50)),
    ],
    ids=str,
)
def test_what_is_left_to_the_picture(settings, expected, box):
    tensor, seen = engine.apply(Preprocess(**settings), PICTURE)
    assert tensor.shape == (1, 3, *expected)
    assert seen == pytest.approx(box)
    assert Preprocess.from_json(Preprocess(**settings).to_json()) == Preprocess(**settings)


def test_a_strip_does_not_become_a_picture_beyond_the_limit():
    strip = np.zeros((1, 40_000, 3), np.uint8)
    with pytest.raises(LimitExceeded, match=r"1x40000 becomes 409,600,000,000 pixels"):
        Explainer(line_reader(), preprocess={"size": (3_200, None)}).explain(strip)


def line_reader(picture: str = "float[N,3,H,W]", last: int = 2) -> onnx.ModelProto:
    """Heights are divided by 8 times `last`, widths by 2, and what is left is classified."""
    return network(
        f"lines ({picture} image) => (float[N,2] logits)",
        f"""a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
        x = Relu(a)
        b = Conv<pads=[1,1,1,1], strides=[4,1]>(x, w2, b2)
        y = Relu(b)
        c = Conv<pads=[1,1,1,1], strides=[{last},1]>(y, w2, b2)
        z = Relu(c)
        p = GlobalAveragePool(z)
        f = Flatten(p)
        logits = Gemm<transB=1>(f, w3, b3)""",
        dict(w1=he(8, 3, 3, 3), b1=bias(8), w2=he(8, 8, 3, 3), b2=bias(8), w3=he(2, 8), b3=bias(2)),
    )


def test_lines_of_text_are_told_by_strides_and_that_is_called_a_guess():
    found = Explainer(line_reader()).explain(PICTURE)
    settled = found.contract.preprocess
    assert (settled.size, settled.channels, settled.mean, settled.std) == ((48, None), "BGR", (0.5,), (0.5,))
    assert found.saliency.shape == (1, 3, 33)  # 48 x 65
    assert (
        "a guess: lines of text, since heights are divided by 16 and widths by 2" in found.contract.origin["preprocess"]
    )
    assert any("partly a guess" in note for note in found.notes)
    assert any("lines of text" in text for text in inspect(line_reader()).origin.values())
    grey = Explainer(line_reader("float[N,3,48,160]"))
    assert grey.contract.origin["preprocess"] == "a guess"  # its size is its own


@pytest.mark.parametrize(("last", "height"), [(2, 48), (4, 32), (6, 48), (8, 64), (5, 48)])
def test_a_line_is_as_high_as_what_its_height_is_divided_by(last, height):
    """Nothing is left of it in the end: PaddleOCR's first two versions read lines of 32 pixels, not of 48."""
    model = line_reader(last=last)
    assert Explainer(model).contract.preprocess.size == (48, None)  # a class of the whole line says nothing of it
    del model.graph.node[-3:]
    model.graph.node.extend(
        [
            onnx.helper.make_node("ReduceMean", ["z", "down"], ["columns"], keepdims=0),
            onnx.helper.make_node("Transpose", ["columns"], ["logits"], perm=[0, 2, 1]),
        ]
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2]), "down"))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("logits", 1, ["N", "T", 8]))
    assert Explainer(model, target="letters").contract.preprocess.size == (height, None)


def test_weights_that_stand_among_the_inputs_have_no_grid():
    """As exporters wrote them up to opset 9: a kernel of 2x2 is no grid, though what it makes may have 2x2 places."""
    plain = built("transposed convolution", "float[1,3,8,8]")
    listed = onnx.ModelProto()
    listed.CopyFrom(plain)
    for tensor in plain.graph.initializer:
        listed.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    found, expected = ({c.name: c.stride for c in inspect(model).candidates} for model in (listed, plain))
    assert found == expected
    assert found["u"] == (4, 4)


def reader(declared: str) -> onnx.ModelProto:
    """A text recogniser as CRNN's code is exported: rows put together for the last layer and apart again."""
    return network(
        f"reader (float[N,1,16,W] image) => ({declared} logits)",
        """a = Conv<pads=[1,1,1,1], strides=[4,4]>(image, w1, b1)
        b = Relu(a)
        features = Conv<strides=[4,1]>(b, w2, b2)
        steps = Squeeze(features, two)
        turned = Transpose<perm=[2,0,1]>(steps)
        s = Shape(turned)
        t = Gather<axis=0>(s, at0)
        n = Gather<axis=0>(s, at1)
        c = Gather<axis=0>(s, at2)
        tn = Mul(t, n)
        tn1 = Unsqueeze(tn, zero)
        c1 = Unsqueeze(c, zero)
        rows = Concat<axis=0>(tn1, c1)
        flat = Reshape(turned, rows)
        each = Gemm<transB=1>(flat, w3, b3)
        t1 = Unsqueeze(t, zero)
        n1 = Unsqueeze(n, zero)
        apart = Concat<axis=0>(t1, n1, minus)
        logits = Reshape(each, apart)""",
        dict(
            w1=he(8, 1, 3, 3), b1=bias(8), w2=he(8, 8, 4, 1), b2=bias(8), w3=he(6, 8), b3=bias(6), zero=ints(0),
            two=ints(2), at0=reals(0, "int64"), at1=reals(1, "int64"), at2=reals(2, "int64"), minus=ints(-1),
        ),
    )  # fmt: skip


def test_a_reader_of_lines_is_known_though_its_file_declares_another_rank():
    """ONNX Runtime believes what is declared, and refuses what is written for what comes out."""
    wrong, right = (Explainer(reader(declared)) for declared in ("float[N,S]", "float[T,N,6]"))
    picture = PICTURE[:32]
    for explainer in (wrong, right):
        assert explainer.contract.task == "text recognition (CTC)"
        assert explainer.contract.preprocess.size == (16, None)
        assert explainer.contract.preprocess.channels == "GRAY"
        assert explainer.contract.each == 6
    one, other = (explainer.explain(picture) for explainer in (wrong, right))
    assert len(one) == len(other) > 0
    np.testing.assert_array_equal(one.saliency_map, other.saliency_map)
    np.testing.assert_array_equal(one.classes, other.classes)
    assert inspect(reader("float[N,S]")).task_why.endswith("at every position along pictures of one height")
