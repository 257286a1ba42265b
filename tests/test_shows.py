"""What docs/what-it-shows.md says, measured: trained networks on pictures in which the truth is known to the pixel."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import shows
from benchmarks.shows import MODELS, explainer
from cam_onnx import InputError
from cam_onnx.cli import main as command_line
from cam_onnx.render import image
from cam_onnx.render.colormap import COLORMAPS
from models.synthetic import SIDE, TEXTURES, sized, textured

pytest.importorskip("onnxruntime")
COUNT = 24
CLASSES = np.arange(COUNT) % len(TEXTURES)
DOCS = Path(__file__).parent.parent / "docs"


@cache
def scenes():
    return [textured(seed, TEXTURES[seed % 4]) for seed in range(COUNT)]


def objects():
    return np.stack([next(iter(scene.masks.values())) for scene in scenes()])


@cache
def explained(network, method):
    return explainer(network, method).explain([scene.pixels for scene in scenes()])


def covered(e):
    """Share of each object where the map is at least half of its maximum."""
    return np.array([(m[where] >= 0.5).mean() for m, where in zip(e.saliency_map, objects(), strict=True)])


def inside(maps, masks):
    """Share of each map that lies on the mask."""
    return np.array([m[where].sum() / m.sum() for m, where in zip(maps, masks, strict=True)])


# -- the pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [lambda s: textured(s, "dots"), lambda s: textured(s, "bars", "checks"), sized])
def test_a_picture_is_the_same_for_the_same_seed_and_another_for_another(draw):
    one, again, other = draw(3), draw(3), draw(4)
    assert (one.pixels == again.pixels).all()
    assert (one.pixels != other.pixels).mean() > 0.5
    assert one.pixels.shape == (SIDE, SIDE, 3)
    assert one.pixels.dtype == np.uint8


@pytest.mark.parametrize("seed", range(8))
def test_the_masks_say_where_things_are(seed):
    two = textured(seed, "bars", "dots")
    bars, dots = two.masks["bars"], two.masks["dots"]
    assert not (bars & dots).any()
    assert min(bars.mean(), dots.mean()) > 0.02
    disc = sized(seed)
    red = disc.pixels[..., 0].astype(int) - disc.pixels[..., 1]
    assert red[disc.masks["disc"]].min() > 100 > np.median(red[~disc.masks["disc"]])
    assert disc.value == pytest.approx(100 * disc.masks["disc"].mean())


def test_bars_change_downwards_and_columns_to_the_right():
    for texture, along, across in (("bars", 0, 1), ("columns", 1, 0)):
        scene = textured(0, texture)
        where = scene.masks[texture]
        changes = [abs(np.diff(scene.pixels[..., 0].astype(float), axis=axis)) for axis in (0, 1)]
        both = where[1:, 1:] & where[:-1, :-1]
        down, right = changes[0][:, 1:][both].mean(), changes[1][1:][both].mean()
        assert (down, right)[along] > 1.5 * (down, right)[across]


# -- the rows ---------------------------------------------------------------------------------------------------------


def test_the_two_poolings_are_all_that_differs():
    average, most = (onnx.load(MODELS / f"textures-{pooling}.onnx").graph for pooling in ("average", "max"))
    pairs = [(one.op_type, other.op_type) for one, other in zip(average.node, most.node, strict=True)]
    assert [pair for pair in pairs if pair[0] != pair[1]] == [("GlobalAveragePool", "MaxPool")]
    assert [t.dims for t in average.initializer] == [t.dims for t in most.initializer]


@pytest.mark.parametrize("network", ["textures-average", "textures-max", "textures-linear", "textures-tokens"])
def test_the_networks_know_the_textures(network):
    assert (explained(network, "grad-cam").target == CLASSES).all()


def test_cam_marks_the_object():
    e = explained("textures-average", "cam")
    assert covered(e).mean() > 0.7
    assert (inside(e.saliency_map, objects()) > 4 * objects().mean(axis=(1, 2))).all()


def test_average_pooling_marks_the_object_and_max_pooling_its_strongest_spot():
    average, most = (explained(f"textures-{pooling}", "hires-cam") for pooling in ("average", "max"))
    assert covered(average).mean() > 0.7
    assert covered(most).max() < 0.15
    assert covered(average).mean() > 10 * covered(most).mean()
    for e in (average, most):
        peaks = [
            where[np.unravel_index(m.argmax(), m.shape)] for m, where in zip(e.saliency_map, objects(), strict=True)
        ]
        assert all(peaks), "the strongest spot lies on the object"
    touched = (most.gradients != 0).any(axis=1).mean(axis=(1, 2))
    assert touched.max() <= 32 / 24**2, "one position a channel"


def test_the_weights_of_a_network_trained_with_max_pooling_cover_less_of_the_object():
    average, most = (covered(explained(f"textures-{pooling}", "cam")) for pooling in ("average", "max"))
    assert average.mean() > most.mean() + 0.05


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_grad_cam_has_the_weights_of_cam_up_to_the_number_of_positions(pooling):
    cam, grad = (explained(f"textures-{pooling}", method) for method in ("cam", "grad-cam"))
    np.testing.assert_allclose(grad.weights * 24**2, cam.weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(grad.saliency_map, cam.saliency_map, atol=1e-4)


def test_cam_refuses_fully_connected_layers_and_grad_cam_does_not():
    with pytest.raises(InputError, match="only a global pooling and one linear layer.*lies more. Use grad-cam"):
        explainer("textures-linear", "cam")
    e = explained("textures-linear", "grad-cam")
    assert covered(e).mean() > 0.5
    assert (inside(e.saliency_map, objects()) > 4 * objects().mean(axis=(1, 2))).all()


@pytest.mark.parametrize("seed", range(6))
def test_relu_removes_what_speaks_against_the_class(seed):
    scene = textured(seed, "bars", "checks")
    bars, checks = scene.masks["bars"], scene.masks["checks"]
    network = explainer("textures-average", "grad-cam")
    signed = network.explain(scene.pixels, target="bars", relu=False)
    rectified = network.explain(scene.pixels, target="bars")
    [m], [r] = signed.saliency_map, rectified.saliency_map
    assert m[checks].mean() < -0.25
    assert m[bars].mean() > 0.1
    assert r[checks].mean() < 0.05
    assert r[bars].mean() > 0.4
    red, _, blue = (signed.heatmap()[..., i].astype(int) for i in range(3))
    assert (red - blue)[bars].mean() > 20, "red speaks for it"
    assert (red - blue)[checks].mean() < -60, "blue against"


def test_guided_backpropagation_marks_both_objects_and_guided_grad_cam_the_one_asked_for():
    both, ours, other = [], [], []
    for seed in range(6):
        scene = textured(seed, "bars", "checks")
        bars, checks = scene.masks["bars"], scene.masks["checks"]
        guided, cam, product = (
            explainer("textures-average", method).explain(scene.pixels, target="bars")
            for method in ("guided-backprop", "grad-cam", "guided-grad-cam")
        )
        g, p = abs(guided.saliency_map[0]), abs(product.saliency_map[0])
        assert (p[cam.saliency_map[0] == 0] <= 1e-6).all(), "nothing where Grad-CAM is 0"
        both.append([g[bars].sum() / g.sum(), g[checks].sum() / g.sum()])
        ours.append(p[bars].sum() / p.sum())
        other.append(p[checks].sum() / p.sum())
    assert np.mean(ours) > 0.5 > np.mean(both, axis=0)[0]
    assert np.mean(other) < 0.02 < np.mean(both, axis=0)[1]


def test_in_a_transformer_the_rollout_of_gradients_stays_with_the_class_and_that_of_attention_does_not():
    scene = textured(8, "bars", "checks")
    shares = {}
    for method in ("attention-rollout", "grad-rollout", "lrp"):
        maps = [np.maximum(explainer("textures-tokens", method).explain(scene.pixels, target=kind).saliency_map[0], 0)
                for kind in ("bars", "checks")]  # fmt: skip
        shares[method] = [[m[scene.masks[kind]].sum() / m.sum() for kind in ("bars", "checks")] for m in maps]
    for method in ("grad-rollout", "lrp"):
        (bars, not_bars), (not_checks, checks) = shares[method]
        assert bars > 10 * not_bars
        assert checks > 10 * not_checks
    assert shares["attention-rollout"][0] == pytest.approx(shares["attention-rollout"][1])


def test_in_a_transformer_attention_and_relevance_mark_the_object():
    area = objects().mean()
    for method, times in (("attention-rollout", 4), ("grad-rollout", 2), ("lrp", 7)):
        maps = np.maximum(explained("textures-tokens", method).saliency_map, 0)
        assert inside(maps, objects()).mean() > times * area, method


def test_a_heat_map_alone_over_the_picture_and_with_a_bar():
    picture = image.load(shows.CAT).pixels
    e = explainer("efficientnet-lite0", "grad-cam").explain(shows.CAT)
    [m] = e.saliency_map
    assert e.heatmap().shape == picture.shape
    for name in COLORMAPS:
        over = e.overlay(colormap=name)
        assert (over[m == 0] == picture[m == 0]).all(), "where the map is 0 the picture is untouched"
        assert abs(over[m > 0.9].astype(int) - picture[m > 0.9]).mean() > 10
    assert len({e.overlay(colormap=name).tobytes() for name in COLORMAPS}) == len(COLORMAPS)
    pytest.importorskip("matplotlib")
    figure = e.figure()
    drawn = [*figure.axes, *(child for axes in figure.axes for child in axes.child_axes)]
    assert [axes.get_title() for axes in drawn[:3]] == ["picture", "heatmap", "overlay"]
    assert len(drawn) == 4, "the fourth is the colour bar"
    assert drawn[3].get_ylim() == (0, 1)


def test_a_regression_is_explained_from_its_file(tmp_path):
    """The command line, as a user has it: pictures in, files out; no class to choose."""
    discs = [sized(seed) for seed in range(COUNT)]
    for i, scene in enumerate(discs):
        image.save(tmp_path / f"{i:02}.png", scene.pixels)
    model = MODELS / "disc-size.onnx"
    arguments = ["explain", model, *sorted(tmp_path.glob("*.png")), "-o", f"{tmp_path}/out/", "--layer", "features"]
    arguments += ["--preprocess", MODELS / "synthetic.json"]
    assert command_line([str(a) for a in arguments]) == 0
    maps, said = [], []
    for i in range(COUNT):
        raw = np.load(tmp_path / "out" / f"{i:02}.saliency.npy").reshape(24, 24)
        maps.append(np.maximum(raw, 0).repeat(4, axis=0).repeat(4, axis=1))
        found = json.loads((tmp_path / "out" / f"{i:02}.explanation.json").read_text())
        said.append(found["target"]["score"])
    values = np.array([scene.value for scene in discs])
    assert abs(np.array(said) - values).mean() < 0.4
    shares = inside(maps, [scene.masks["disc"] for scene in discs])
    assert (shares > 5 * values / 100).all(), "more than five times the area's share, in every picture"


# -- the page ---------------------------------------------------------------------------------------------------------


def test_every_picture_is_small_and_stands_on_the_page():
    page = (DOCS / "what-it-shows.md").read_text(encoding="utf-8")
    assert re.findall(r"images/shows-(\w+)\.jpg", page) == list(shows.ROWS)
    for name in shows.ROWS:
        assert 5_000 < (DOCS / "images" / f"shows-{name}.jpg").stat().st_size < 150_000


@pytest.mark.parametrize("name", [name for name in shows.ROWS if name != "figure"])  # its fonts are matplotlib's
def test_the_picture_is_what_the_command_draws(name):
    kept, drawn = image.load(DOCS / "images" / f"shows-{name}.jpg").pixels, shows.draw(name)
    assert kept.shape == drawn.shape
    assert abs(kept.astype(int) - drawn).mean() < 4, "run: python -m benchmarks.shows"  # JPEG costs 2


def test_the_files_are_small():
    files = [*MODELS.glob("textures-*.onnx"), MODELS / "disc-size.onnx"]
    assert len(files) == 5
    assert all(path.stat().st_size < 300_000 for path in files)
