"""Signals and volumes: which axis is which, a file in a picture's place, and what their maps are laid over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from cam_onnx import Contract, Explainer, InputError, convert
from cam_onnx.autodiff.model import load
from cam_onnx.axes import Axes
from cam_onnx.cli import main as command_line
from cam_onnx.graph.first_axes import first_axes, widened_axes
from cam_onnx.render import image, tensors
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
    "steps of a recurrent layer": ("float[N,30,2]",
        "s = Transpose<perm=[1,0,2]>(x) a, b = GRU<hidden_size=2>(s, wr, rr) t = Squeeze(b, none)", Axes(0, 2, (1,))),
    "steps, batch first": ("float[N,30,2]",
        "a, last = GRU<hidden_size=2, layout=1>(x, wr, rr) t = Squeeze(last, one)", Axes(0, 2, (1,))),
    "entries of a list": ("float[N,30,2]", "t = MatMul(x, wm)", Axes(0, 2, (1,))),
    "a batch is added": ("float[2,30,30]", "t = Unsqueeze(x, none)", None),
    "frames before channels, each a picture": ("float[N,8,3,6,6]", "t = Reshape(x, pictures)", Axes(0, 2, (1, 3, 4))),
    "frames behind channels, each a picture": ("float[N,3,8,6,6]",
        "u = Transpose<perm=[0,2,1,3,4]>(x) t = Reshape(u, pictures)", None),
    "other than moved": ("float[N,2,30]", "t = Softmax(x)", None),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
def test_the_first_convolution_says_which_axis_of_an_input_is_what(name):
    shape, nodes, axes = ORDERS[name]
    pictures = any(word in name for word in ("two axes", "squeeze", "batch is", "frames"))
    rank = 5 if "volumes" in name else 4 if pictures else 3
    proto = network(
        f"g ({shape} x) => (float[?] y)", f"{nodes} y = Conv(t, w)",
        {"w": np.ones((4, 2, *(1,) * (rank - 2)), "f4"), "widened": np.array([0, 1, 30, 2]), "one": np.array([1]),
         "pictures": np.array([-1, 3, 6, 6]), "none": np.array([0]), "wr": np.ones((1, 6, 2), "f4"),
         "rr": np.ones((1, 6, 2), "f4"), "wm": np.ones((2, 2), "f4")},
    )  # fmt: skip
    assert first_axes(load(proto).values["x"]) == axes


@pytest.mark.parametrize(
    ("shape", "nodes", "expected"),
    [
        ("float[N,30]", "t = Unsqueeze(x, one)", True),
        ("float[N,30]", "p = Pad(x, pads) u = Unsqueeze(p, two) t = Transpose<perm=[0,2,1]>(u)", True),
        ("float[N,30]", "t = Reshape(x, widened)", True),
        ("float[30,2]", "t = Unsqueeze(x, none)", False),
        ("float[N,1,30]", "t = Identity(x)", False),
        ("float[N,30]", "r = Relu(x) s = Softmax(r) t = Unsqueeze(s, one)", False),
    ],
)
def test_a_wave_is_told_by_the_axis_of_channels_that_it_is_given(shape, nodes, expected):
    proto = network(
        f"g ({shape} x) => (float[?] y)", f"{nodes} y = Conv(t, w)",
        {"w": np.ones((4, 1, 3), "f4"), "widened": np.array([-1, 1, 30]), "one": np.array([1]), "two": np.array([2]),
         "none": np.array([0]), "pads": np.array([0, 1, 0, 1])},
    )  # fmt: skip
    assert (widened_axes(load(proto).values["x"]) is not None) is expected


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


def test_what_a_recurrent_network_ends_with_is_no_grid():
    """Its last state, (1, N, 16), stands where a signal of 16 steps would: maps were drawn of its entries."""
    rng = np.random.default_rng(0)
    proto = network(
        "g (float[N,50,6] signal) => (float[N,5] logits)",
        """
        steps = Transpose<perm=[1,0,2]>(signal)
        all, last, cell = LSTM<hidden_size=16>(steps, w, r)
        state = Squeeze(last, zero)
        logits = MatMul(state, v)
        """,
        {"w": rng.normal(size=(1, 64, 6)).astype("f4"), "r": rng.normal(size=(1, 64, 16)).astype("f4") / 4,
         "zero": np.array([0]), "v": rng.normal(size=(16, 5)).astype("f4")},
    )  # fmt: skip
    explainer = Explainer(proto, providers="cpu")
    assert list(explainer.explain(inputs={"signal": np.zeros((2, 50, 6), "f4")}).layers) == ["steps"]
    x = rng.normal(size=(2, 50, 6)).astype("f4")
    assert [m.shape for m in explainer.explain(inputs={"signal": x}).saliency_map] == [(50,), (50,)]
    # what was seen last weighs most in a state that forgets
    found = Explainer(proto, method="gradient", providers="cpu").explain(inputs={"signal": x})
    drawn = np.abs(found.saliency).mean(axis=0)
    assert drawn[-10:].mean() > 3 * drawn[:10].mean()


def wave() -> onnx.ModelProto:
    """The trained network for (N, 512), as networks of sound have it."""
    proto = onnx.load(str(MODELS / "pulses.onnx"))
    [given] = proto.graph.input
    del given.type.tensor_type.shape.dim[1]
    for node in proto.graph.node:
        node.input[:] = ["widened" if x == given.name else x for x in node.input]
    proto.graph.node.insert(0, onnx.helper.make_node("Unsqueeze", [given.name, "axis of channels"], ["widened"]))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "axis of channels"))
    return proto


@pytest.mark.parametrize("method", ["grad-cam", "score-cam", "rise", "integrated-gradients", "lrp", "full-grad"])
def test_a_wave_is_a_signal_of_one_channel_to_every_method(method):
    found = Explainer(wave(), method=method, providers="cpu").explain(inputs={"signal": WAVE[:, 0]})
    whole = Explainer(MODELS / "pulses.onnx", method=method, providers="cpu").explain(inputs={"signal": WAVE})
    np.testing.assert_array_equal(found.saliency_map, whole.saliency_map)
    np.testing.assert_array_equal(found.overlay(), whole.overlay())


def test_gradients_at_a_wave_are_verified_and_its_file_says_what_it_is(tmp_path):
    np.save(tmp_path / "s.npy", WAVE[:, 0])
    explainer = Explainer(wave(), layers="signal", providers="cpu")
    assert explainer.contract.without_channels
    assert '"without_channels":true' in explainer.contract.to_json()
    assert explainer.verify(tmp_path / "s.npy").ok
    batch = explainer.explain(inputs={"signal": np.concatenate([WAVE[:, 0], -WAVE[:, 0]])})
    assert [m.shape for m in batch.saliency_map] == [(512,), (512,)]
    # a batch of two is summed in another order
    np.testing.assert_allclose(explainer.explain(tmp_path / "s.npy").saliency, batch.saliency[:1], rtol=1e-4)
    np.save(tmp_path / "three.npy", WAVE)
    with pytest.raises(InputError, match=r"expected rank 2"):
        explainer.explain(tmp_path / "three.npy")


def spectrograms() -> onnx.ModelProto:
    """(N, T, F), time first and without channels, as audio transformers take it: it is turned to (N, 1, F, T)."""
    rng = np.random.default_rng(0)
    return network(
        "g (float[N,40,24] spectrogram) => (float[N,3] logits)",
        """
        u = Unsqueeze(spectrogram, one)
        turned = Transpose<perm=[0,1,3,2]>(u)
        a = Conv<strides=[4,4], kernel_shape=[4,4]>(turned, w)
        features = Relu(a)
        p = GlobalAveragePool(features)
        f = Flatten(p)
        logits = MatMul(f, v)
        """,
        {"one": np.array([1]), "w": rng.normal(size=(8, 1, 4, 4)).astype("f4"), "v": rng.random((8, 3)).astype("f4")},
    )


@pytest.mark.parametrize("method", ["grad-cam", "layer-cam", "occlusion", "gradient"])
def test_a_spectrogram_without_channels_has_a_map_that_moves_with_what_is_in_it(method):
    explainer = Explainer(spectrograms(), method=method, providers="cpu")
    assert explainer.contract.input_axes == Axes(0, 1, (3, 2))
    x = np.zeros((2, 40, 24), np.float32)
    tone = np.random.default_rng(1).normal(size=(4, 4)).astype("f4")
    x[0, 8:12, 4:8], x[1, 28:32, 16:20] = tone, tone
    found = explainer.explain(inputs={"spectrogram": x})
    one, other = found.saliency_map
    assert one.shape == (24, 40)  # frequency down, time across, as the network has it
    assert found[0].overlay().shape == (24, 40, 3)
    for drawn, place in ((one, (slice(2, 10), slice(6, 14))), (other, (slice(14, 22), slice(26, 34)))):
        assert np.abs(drawn[place]).mean() > 3 * np.abs(drawn).mean()
    if method == "gradient":
        assert explainer.verify(inputs={"spectrogram": x[:1]}).ok


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
    assert {path.name.removesuffix(".overlay.png") for path in Path("out").glob("*.png")} == {"s", "two.0", "two.1"}
    assert command_line(["verify", model, "s.npy"]) == 0
    capsys.readouterr()
    image.save("p.png", np.zeros((16, 16, 3), np.uint8))
    assert command_line(["explain", model, "p.png", "-o", "out/"]) == 2
    assert "give its tensor as a .npy file in the picture's place" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_map_that_is_no_picture_has_no_file_of_its_own(capsys):
    """A layer of three axes behind an input of one: there is nothing of which it could be drawn."""
    proto = network(
        "g (float[N,60] x) => (float[N,4] y)",
        """
        v = Reshape(x, volume)
        a = Conv(v, w)
        r = Relu(a)
        p = GlobalAveragePool(r)
        f = Flatten(p)
        y = MatMul(f, b)
        """,
        {"volume": np.array([-1, 1, 3, 4, 5]), "w": np.ones((8, 1, 2, 2, 2), "f4"), "b": np.eye(8, 4, dtype="f4")},
    )
    onnx.save(proto, "m.onnx")
    np.save("x.npy", np.random.default_rng(0).standard_normal((1, 60)).astype(np.float32))
    assert command_line(["explain", "m.onnx", "x.npy", "-o", "o.png"]) == 2
    assert "x.npy: its map is not one picture; give -o a folder" in capsys.readouterr().err
    assert command_line(["explain", "m.onnx", "x.npy", "-o", "out/"]) == 0
    assert {path.name for path in Path("out").iterdir()} == {"x.saliency.npy", "x.explanation.json"}


def test_a_signal_is_drawn_before_its_map():
    explainer = Explainer(MODELS / "pulses.onnx", providers="cpu")
    [drawn] = explainer.explain(inputs={"signal": WAVE}).saliency_map
    picture = explainer.explain(inputs={"signal": WAVE}).overlay(alpha=1.0)
    assert picture.shape == (72, 512, 3)
    assert (picture.min(axis=(0, 2)) < 120).all()  # the curve's ink, in every column
    levels = picture.astype(int).sum(axis=2).argmin(axis=0)
    assert np.corrcoef(levels, WAVE[0, 0])[0, 1] < -0.9  # the larger a value, the higher it stands
    top = picture[0].astype(int)
    quiet = (drawn == 0) & (WAVE[0, 0] < WAVE.max())
    assert quiet.sum() > 100
    assert (top[quiet] == 255).all()
    assert (top[drawn > 0.8].min(axis=1) < 60).mean() > 0.9


def test_a_volume_is_drawn_as_slices_of_itself_below_the_map():
    found = Explainer(MODELS / "balls.onnx", providers="cpu").explain(inputs={"volume": BALLS})
    plain = found.overlay(alpha=0.0)
    assert plain.shape == (144, 6 * 144 + 5 * 4, 3)
    assert (plain[..., 0] == plain[..., 1]).all()  # grey
    tiles = [plain[3::6, i * 148 + 3 : i * 148 + 144 : 6, 0] for i in range(6)]
    depths = [int(np.argmin([np.abs(_scaled(BALLS[0, 0])[z] - tile).max() for z in range(24)])) for tile in tiles]
    assert depths == sorted(set(depths))
    peak = int(np.unravel_index(found.saliency_map[0].argmax(), (24, 24, 24))[0])
    assert peak in depths
    assert np.abs(found.overlay().astype(int) - plain).max(axis=(0, 2))[148 * depths.index(peak) :].max() > 60


def _scaled(values):
    return np.rint((values - values.min()) * (255 / np.ptp(values)))


def test_a_plane_of_one_channel_is_a_grey_picture_and_one_of_three_is_not_made_up():
    grey = np.linspace(0, 2, 16 * 16, dtype=np.float32).reshape(1, 1, 16, 16)
    proto = network(
        "g (float[N,1,16,16] spectrogram) => (float[N,4] y)",
        "a = Conv(spectrogram, w) r = Relu(a) p = GlobalAveragePool(r) f = Flatten(p) y = MatMul(f, b)",
        {"w": np.ones((8, 1, 3, 3), "f4"), "b": np.eye(8, 4, dtype="f4")},
    )
    found = Explainer(proto, providers="cpu").explain(inputs={"spectrogram": grey})
    np.testing.assert_array_equal(found.overlay(alpha=0.0)[..., 1], _scaled(grey[0, 0]))
    x = np.zeros((1, 3, 16, 16), np.float32)
    three = Explainer(BUILDERS["gap_linear"](), providers="cpu").explain(inputs={"image": x})
    assert (found.has_overlay, three.has_overlay) == (True, False)


@pytest.mark.parametrize("length", [3, 479, 5000])
@pytest.mark.parametrize("channels", [1, 3, 40])
def test_a_curve_of_any_length_and_number_of_channels_fits(length, channels):
    values = np.random.default_rng(0).standard_normal((channels, length))
    values[0, 0] = np.nan
    drawn = np.zeros(length)
    drawn[length // 2] = 1
    picture = tensors.laid_over(values, drawn, 1.0, "jet")
    assert picture.shape == (72 * min(channels, 12), min(max(length, 480), 1920), 3)
    warm = (picture[..., 0].astype(int) - picture[..., 2] > 80).any(axis=0)
    assert warm.any()  # one sample of a long signal is not lost between columns
    assert warm.mean() < 0.5


def test_a_notebook_and_a_figure_show_the_signal():
    pytest.importorskip("matplotlib")
    found = Explainer(MODELS / "pulses.onnx", providers="cpu").explain(inputs={"signal": WAVE})
    assert "<img src" in found._repr_html_()
    assert image.load(found._repr_png_()).pixels.shape == (72, 512, 3)
    [axis] = [axis for axis in found.figure().get_axes() if axis.images and axis.get_title()]
    np.testing.assert_array_equal(axis.images[0].get_array(), found.overlay())


def test_a_network_without_a_grid_is_explained_at_its_input_and_the_error_says_so(capsys, tmp_path):
    rng = np.random.default_rng(0)
    proto = network(
        "mlp (float[N,1,8,8] image) => (float[N,3] logits)",
        "f = Flatten(image) a = MatMul(f, w) r = Relu(a) logits = MatMul(r, v)",
        {"w": rng.normal(size=(64, 16)).astype("f4"), "v": rng.normal(size=(16, 3)).astype("f4")},
    )
    onnx.save(proto, str(tmp_path / "mlp.onnx"))
    np.save(tmp_path / "x.npy", rng.normal(size=(1, 1, 8, 8)).astype("f4"))
    line = ["explain", str(tmp_path / "mlp.onnx"), str(tmp_path / "x.npy"), "-o", f"{tmp_path}/out/"]
    assert command_line(line) == 2
    assert "need no such layer: integrated-gradients, occlusion, rise" in capsys.readouterr().err
    for method in ("integrated-gradients", "occlusion", "rise"):
        assert command_line([*line, "--method", method]) == 0
