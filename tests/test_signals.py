"""Signals and volumes: which axis is which, a file in a picture's place, and what their maps are laid over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from cam_onnx import Contract, Explainer, convert
from cam_onnx.autodiff.model import load
from cam_onnx.axes import Axes
from cam_onnx.cli import main as command_line
from cam_onnx.graph.first_axes import first_axes
from cam_onnx.render import image
from models.builders import BUILDERS, network
from models.signals import filled, pulsed

pytest.importorskip("onnxruntime")
MODELS = Path(__file__).parent.parent / "models"
WAVE = pulsed(3, "waves", "clicks").values
BALLS = filled(2, "layers", "grains").values


def channels_last(name: str) -> onnx.ModelProto:
    """The same trained network as Keras has it: (N, L, C) or (N, D, H, W, C), turned by a first Transpose."""
    proto = onnx.load(str(MODELS / f"{name}.onnx"))
    [given] = proto.graph.input
    rank = len(given.type.tensor_type.shape.dim)
    turned = onnx.helper.make_node("Transpose", [given.name], ["turned"], perm=[0, rank - 1, *range(1, rank - 1)])
    for node in proto.graph.node:
        node.input[:] = ["turned" if x == given.name else x for x in node.input]
    proto.graph.node.insert(0, turned)
    dims = list(given.type.tensor_type.shape.dim)
    del given.type.tensor_type.shape.dim[:]
    given.type.tensor_type.shape.dim.extend([dims[0], *dims[2:], dims[1]])
    return proto


# what stands between an input and the first convolution, and the input's axes
ORDERS = {
    "channels first": ("float[N,2,30]", "u = Softmax(x) t = Identity(x)", Axes(0, 1, (2,))),
    "Keras": ("float[N,30,2]", "t = Transpose<perm=[0,2,1]>(x)", Axes(0, 2, (1,))),
    "Keras, volumes": ("float[N,5,6,7,2]", "t = Transpose<perm=[0,4,1,2,3]>(x)", Axes(0, 4, (1, 2, 3))),
    "tf2onnx, a convolution of two axes": ("float[N,30,2]",
        "u = Reshape(x, widened) t = Transpose<perm=[0,3,1,2]>(u)", Axes(0, 2, (1,))),
    "the same, unsqueezed": ("float[N,30,2]",
        "u = Unsqueeze(x, one) t = Transpose<perm=[0,3,1,2]>(u)", Axes(0, 2, (1,))),
    "time in front, as of recurrent networks": ("float[30,N,2]", "t = Transpose<perm=[1,2,0]>(x)", Axes(1, 2, (0,))),
    "scaled on the way": ("float[N,30,2]", "c = Mul(x, x) t = Transpose<perm=[0,2,1]>(c)", Axes(0, 2, (1,))),
    "a batch is added": ("float[2,30,30]", "t = Unsqueeze(x, none)", None),
    "other than moved": ("float[N,2,30]", "t = Softmax(x)", None),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
def test_the_first_convolution_says_which_axis_of_an_input_is_what(name):
    shape, nodes, axes = ORDERS[name]
    rank = 5 if "volumes" in name else 4 if "two axes" in name or "squeeze" in name or "batch" in name else 3
    proto = network(
        f"g ({shape} x) => (float[?] y)", f"{nodes} y = Conv(t, w)",
        {"w": np.ones((4, 2, *(1,) * (rank - 2)), "f4"), "widened": np.array([0, 1, 30, 2]), "one": np.array([1]),
         "none": np.array([0])},
    )  # fmt: skip
    loaded = load(proto)
    assert first_axes(loaded.values["x"]) == axes


@pytest.mark.parametrize("method", ["grad-cam", "rise", "occlusion", "integrated-gradients"])
@pytest.mark.parametrize(("name", "values"), [("pulses", WAVE), ("balls", BALLS)])
def test_channels_last_give_the_map_of_channels_first(name, values, method):
    first = Explainer(MODELS / f"{name}.onnx", method=method, providers="cpu")
    last = Explainer(channels_last(name), method=method, providers="cpu")
    given = first.contract.roles["image"]
    one = first.explain(inputs={given: values})
    other = last.explain(inputs={given: np.moveaxis(values, 1, -1)})
    assert one.saliency_map[0].shape == values.shape[2:]
    # a tenth of a percent: the transposed input is summed in another order
    np.testing.assert_allclose(other.saliency_map[0], one.saliency_map[0], atol=1e-3)


def test_a_converted_file_says_where_channels_are_elsewhere():
    text = convert(channels_last("pulses")).contract.to_json()
    assert '"input_axes":{"batch":0,"channel":2,"spatial":[1]}' in text
    assert Contract.from_json(text).input_axes == Axes(0, 2, (1,))
    assert Contract.from_json(text).to_json() == text
    assert "input_axes" not in convert(MODELS / "pulses.onnx").contract.to_json()


def test_a_wave_without_an_axis_of_channels_has_a_map_of_its_length():
    proto = onnx.load(str(MODELS / "pulses.onnx"))
    [given] = proto.graph.input
    del given.type.tensor_type.shape.dim[1]
    for node in proto.graph.node:
        node.input[:] = ["widened" if x == given.name else x for x in node.input]
    proto.graph.node.insert(0, onnx.helper.make_node("Unsqueeze", [given.name, "axis of channels"], ["widened"]))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "axis of channels"))
    found = Explainer(proto, providers="cpu").explain(inputs={given.name: WAVE[:, 0]})
    whole = Explainer(MODELS / "pulses.onnx", providers="cpu").explain(inputs={given.name: WAVE})
    np.testing.assert_allclose(found.saliency_map, whole.saliency_map, atol=1e-5)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("s.npy", WAVE)
    np.save("two.npy", np.concatenate([WAVE, WAVE[..., ::-1]]))
    np.save("v.npy", BALLS)


@pytest.mark.usefixtures("here")
def test_a_tensor_in_a_pictures_place_is_the_input():
    explainer = Explainer(MODELS / "pulses.onnx", providers="cpu")
    direct = explainer.explain(inputs={"signal": WAVE})
    for images in ("s.npy", Path("s.npy"), ["s.npy"]):
        found = explainer.explain(images)
        np.testing.assert_array_equal(found.saliency, direct.saliency)
        assert found.names == ["s"]
    assert explainer.explain("two.npy").names == ["two.0", "two.1"]
    assert [check.sample for check in explainer.verify(["s.npy", "two.npy"]).gradients] == ["s", "two.0", "two.1"]


@pytest.mark.usefixtures("here")
def test_nothing_is_guessed_of_a_prepared_picture():
    explainer = Explainer(BUILDERS["gap_linear"](), providers="cpu")
    np.save("x.npy", np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32))
    image.save("x.png", np.zeros((16, 16, 3), np.uint8))
    assert any("guess" in note for note in explainer.explain("x.png").notes)
    assert not any("guess" in note for note in explainer.explain("x.npy").notes)


@pytest.mark.usefixtures("here")
def test_the_command_takes_signals_as_it_takes_pictures(capsys):
    model = str(MODELS / "pulses.onnx")
    assert command_line(["explain", model, "s.npy", "two.npy", "-o", "out/"]) == 0
    assert {path.name for path in Path("out").glob("*.npy")} == {
        "s.saliency.npy", "two.0.saliency.npy", "two.1.saliency.npy",
    }  # fmt: skip
    assert command_line(["verify", model, "s.npy"]) == 0
    capsys.readouterr()
    image.save("p.png", np.zeros((16, 16, 3), np.uint8))
    assert command_line(["explain", model, "p.png", "-o", "out/"]) == 2
    assert "give its tensor as a .npy file in the picture's place" in capsys.readouterr().err
