"""Recurrent networks that are handed their past: which input is the signal."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from cam_onnx import Explainer
from cam_onnx.autodiff.model import load
from cam_onnx.graph.inspect import inspect
from cam_onnx.graph.locate import picture_input
from models.builders import bias, he, ints, network

CONVOLUTIONS = """
    wave = Unsqueeze(input, one)
    a = Conv<strides=[8], pads=[4,4]>(wave, w1, b1)
    b = Relu(a)
    c = Conv<strides=[2], pads=[1,1]>(b, w2, b2)
    features = Relu(c)
"""
WEIGHTS: dict[str, Any] = dict(
    zero=ints(0), one=ints(1), w1=he(8, 1, 16), b1=bias(8), w2=he(8, 8, 3), b2=bias(8), w3=he(1, 8), b3=bias(1),
)  # fmt: skip


def voice() -> onnx.ModelProto:
    """As voice detectors are: a wave (N, T), the state of an LSTM (2, N, C) and a sampling rate, in another order."""
    return network(
        "voice (float[2,N,8] state, int64 sr, float[N,T] input) => (float[N,1] output, float[2,N,8] stateN)",
        f"""{CONVOLUTIONS}
        steps = Transpose<perm=[2,0,1]>(features)
        h, c0 = Split<axis=0, num_outputs=2>(state)
        all, h1, c1 = LSTM<hidden_size=8>(steps, wi, wr, bl, nothing, h, c0)
        stateN = Concat<axis=0>(h1, c1)
        last = Squeeze(h1, zero)
        logit = Gemm<transB=1>(last, w3, b3)
        output = Sigmoid(logit)""".replace("nothing, h", ", h"),
        dict(**WEIGHTS, wi=he(1, 32, 8), wr=he(1, 32, 8), bl=lambda rng: rng.standard_normal((1, 64)) * 0.1),
    )


def cell() -> onnx.ModelProto:
    """The same with the cell written out: its state is told by the name of what it becomes."""
    return network(
        "cell (float[1,N,8] state, float[N,T] input) => (float[N,1] output, float[1,N,8] stateN)",
        f"""{CONVOLUTIONS}
        mean = ReduceMean<keepdims=0>(features, two)
        before = Squeeze(state, zero)
        own = Gemm<transB=1>(before, w4, b2)
        sum = Add(mean, own)
        next = Tanh(sum)
        stateN = Unsqueeze(next, zero)
        logit = Gemm<transB=1>(next, w3, b3)
        output = Sigmoid(logit)""",
        dict(**WEIGHTS, two=ints(2), w4=he(8, 8)),
    )


@pytest.mark.parametrize("built", [voice, cell])
def test_the_signal_is_the_wave_and_not_the_state(built):
    picture = picture_input(load(built()))
    assert picture is not None
    assert picture.name == "input"
    report = inspect(built())
    assert report.score == "logit"
    assert report.layer == "features"
    assert report.task == "binary classification"
    explainer = Explainer(built())
    assert explainer.contract.roles["image"] == "input"
    state = np.zeros((2 if built is voice else 1, 1, 8), np.float32)
    others = {"state": state, **({"sr": np.array(16000)} if built is voice else {})}
    maps = []
    for start in (300, 140):
        wave = np.zeros((1, 512), np.float32)
        wave[0, start : start + 40] = np.sin(np.arange(40))
        maps.append(explainer.explain(inputs={"input": wave, **others}, relu=False).saliency[0])
    assert maps[0].shape == (32,)
    apart = np.abs(maps[0] - maps[0][0])
    assert 18 <= apart.argmax() <= 21  # at stride 16
    if built is cell:  # which takes the mean, so that a wave that comes earlier has its map earlier
        np.testing.assert_allclose(maps[1][1:20], maps[0][11:30], atol=1e-5)


def test_a_picture_is_no_state_whatever_comes_out_of_it():
    """Named like one, and with another input beside it."""
    model = network(
        "denoised (float[N,3,H,W] x, float[N,1] sigma) => (float[N,3,H,W] x_out)",
        "a = Conv<pads=[1,1,1,1]>(x, w1, b1) s = Unsqueeze(sigma, axes) x_out = Mul(a, s)",
        dict(w1=he(3, 3, 3, 3), b1=bias(3), axes=ints(2, 3)),
    )
    found = picture_input(load(model))
    assert found is not None
    assert found.name == "x"
    assert "image to image" in " ".join(inspect(model).problems)


def test_a_signal_that_is_denoised_is_no_state_where_nothing_else_could_be_the_signal():
    model = network(
        "cleaned (float[N,1,T] x, float sigma) => (float[N,1,T] x_out)",
        "a = Conv<pads=[1,1]>(x, w1, b1) x_out = Mul(a, sigma)",
        dict(w1=he(1, 1, 3), b1=bias(1)),
    )
    found = picture_input(load(model))
    assert found is not None
    assert found.name == "x"


def reader(steps: str) -> onnx.ModelProto:
    """Columns of lines of text, as a sequence (T, N, C)."""
    return network(
        "reader (float[N,1,8,24] image) => (float[12,N,5] letters)",
        f"""
        a = Conv<pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
        features = Relu(a)
        pooled = ReduceMean<keepdims=0>(features, two)
        columns = Transpose<perm=[2,0,1]>(pooled)
        {steps}
        letters = MatMul(read, w2)
        """,
        dict(w1=he(6, 1, 3, 3), b1=bias(6), two=ints(2), w2=he(6, 5, fan=6), one=ints(1), wi=he(1, 18, 6, fan=6),
             wr=he(1, 18, 6, fan=6)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "layers", "told"),
    [
        ("all = GRU<hidden_size=6>(columns, wi, wr) read = Squeeze(all, one)", "features", True),
        ("read = Tanh(columns)", "features", False),
    ],
)
def test_letters_that_are_read_of_the_whole_line_are_noted(steps, layers, told):
    explainer = Explainer(reader(steps), layers=layers, target="letters")
    assert any("every letter is read of the whole line (GRU)" in note for note in explainer.notes) is told
    line = np.random.default_rng(0).normal(size=(1, 1, 8, 24)).astype(np.float32)
    found = explainer.explain(inputs={"image": line})
    reaches = [np.abs(one).sum(axis=(0, 1)) > 0 for one in found.gradients]  # columns
    rows = [int(target) // 5 for target in found.target]
    for columns, row in zip(reaches, rows, strict=True):
        assert list(np.flatnonzero(columns)) == (list(range(row + 1)) if told else [row])
