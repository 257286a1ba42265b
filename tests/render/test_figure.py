"""Figures: what is on them, read back from matplotlib's objects, and what a file of them holds."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from cam_onnx.errors import InputError, RunFailed, UnknownName
from cam_onnx.render import figure as drawing
from cam_onnx.render import image
from cam_onnx.render.colormap import colorize
from cam_onnx.render.figure import Row, figure, save

pytest.importorskip("matplotlib")
ROOT = Path(__file__).parent.parent.parent

RAMP = np.linspace(0, 1, 12 * 16).reshape(12, 16)
PICTURE = np.full((12, 16, 3), 77, np.uint8)


def row(**changes):
    return Row(**{"values": RAMP, "title": "cat, 90.0%", "picture": PICTURE, "overlay": PICTURE // 2, **changes})


def panels(part) -> dict[str, np.ndarray]:
    return {axis.get_title(): axis.images[0].get_array() for axis in part.axes if axis.images}


def bar(part):
    """Return the axis of a row's colour bar."""
    [axis] = [child for axis in part.axes for child in axis.child_axes]
    return axis


def test_a_row_is_picture_heatmap_overlay_and_a_bar():
    [part] = figure([row(caption="grad-cam at features · chelsea")], "viridis").subfigs
    shown = panels(part)
    assert list(shown) == ["picture", "heatmap", "overlay"]
    np.testing.assert_array_equal(shown["picture"], PICTURE)
    np.testing.assert_array_equal(shown["heatmap"], colorize(RAMP, "viridis"))
    np.testing.assert_array_equal(shown["overlay"], PICTURE // 2)
    assert part.get_suptitle() == "cat, 90.0%\ngrad-cam at features · chelsea"
    assert bar(part).get_ylim() == (0, 1)


def test_without_a_picture_there_is_the_heatmap_alone():
    [part] = figure([row(picture=None, overlay=None)]).subfigs
    assert list(panels(part)) == ["heatmap"]


def test_several_samples_are_rows():
    drawn = figure([row(title=name) for name in ("a", "b", "c")])
    assert [part.get_suptitle() for part in drawn.subfigs] == ["a", "b", "c"]
    assert drawn.get_size_inches()[1] == pytest.approx(3 * figure([row()]).get_size_inches()[1])


@pytest.mark.parametrize(
    ("values", "colormap", "largest", "limits"),
    [
        (RAMP, "jet", 1.0, (0, 1)),
        (RAMP, "jet", 0.004, (0, 0.004)),
        (RAMP * 2 - 1, "jet", 1.0, (-1, 1)),
        (RAMP * 1.5 - 0.5, "jet", 20.0, (-20, 20)),
        (RAMP, "blue-white-red", 1.0, (-1, 1)),
    ],
    ids=str,
)
def test_the_bar_of_a_signed_map_is_symmetric_and_has_the_scale(values, colormap, largest, limits):
    [part] = figure([row(values=values, largest=largest)], colormap).subfigs
    axis = bar(part)
    assert axis.get_ylim() == pytest.approx(limits)
    labels = [float(label.get_text()) for label in axis.get_yticklabels()]
    assert labels == pytest.approx([limits[0], sum(limits) / 2, limits[1]])


def test_the_colours_of_the_bar_are_the_heatmap_s():
    [part] = figure([row(values=RAMP * 2 - 1)], "blue-white-red").subfigs
    [mesh] = bar(part).collections[-1:]
    ends = (mesh.get_cmap()([0.0, 0.5, 1.0])[:, :3] * 255).round()
    np.testing.assert_array_equal(ends, colorize(np.array([[-1.0, 0, 1]]), "blue-white-red")[0])


def test_a_blank_map_says_why_on_its_heatmap():
    [part] = figure([row(values=RAMP * 0, reason="all zero (largest absolute value 1e-50)")]).subfigs
    [heatmap] = [axis for axis in part.axes if axis.get_title() == "heatmap"]
    assert "all zero" in heatmap.texts[0].get_text()


def test_names_are_no_mathematics_and_no_control(tmp_path):
    drawn = figure([row(title="cost $x^2 \\frac$", caption="\x1b[31m" + "long name " * 60)])
    title = drawn.subfigs[0].get_suptitle()
    assert title.startswith("cost $x^2 \\frac$\n\\x1b[31m")
    assert max(map(len, title.splitlines())) < 140
    save(tmp_path / "f.png", drawn)  # mathematics that does not parse would raise here
    assert image.load(tmp_path / "f.png").pixels.shape[1] == 1642


def test_the_titles_fit_into_the_figure():
    drawn = figure([row(title="a rather long class name " * 7, caption="grad-cam at " + "layer/" * 30)])
    drawn.draw_without_rendering()
    box = drawn.subfigs[0]._suptitle.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= drawn.bbox.width
    assert box.y1 <= drawn.bbox.height


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".JPG"])
def test_the_same_figure_gives_the_same_bytes_in_every_format(tmp_path, suffix):
    for name in ("a", "b"):
        save(tmp_path / (name + suffix), figure([row()]))
    a, b = ((tmp_path / (name + suffix)).read_bytes() for name in ("a", "b"))
    assert len(a) > 1000
    assert a == b


def test_a_script_that_the_font_lacks_is_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(tmp_path / "f.png", figure([row(title="猫")]))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: figure([]), InputError, "1 to 30 rows, got 0"),
        (lambda: figure([row()] * 31), InputError, "got 31"),
        (lambda: figure([row(values=np.zeros((2, 2, 2, 2)))]), InputError, "two axes"),
        (lambda: figure([row(values=RAMP * 3)]), InputError, "normalise"),
        (lambda: figure([row()], "jett"), UnknownName, "did you mean 'jet'"),
        (lambda: save("f.gif", None), InputError, "no figure's suffix"),
    ],
    ids=["none", "many", "4-D", "raw", "colour map", "suffix"],
)
def test_what_cannot_be_drawn_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_without_matplotlib_one_line_names_the_extra(monkeypatch, cat):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for call in (drawing.require, cat.figure):
        with pytest.raises(RunFailed, match=r"pip install 'cam-onnx\[plot\]'") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_importing_loads_no_matplotlib_and_drawing_no_pyplot():
    code = (
        "import sys, numpy as np\n"
        "from cam_onnx.render.figure import Row, figure\n"
        "assert 'matplotlib' not in sys.modules\n"
        "figure([Row(np.eye(4), 'x')])\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


# -- of an explanation ------------------------------------------------------------------------------------------------


def test_the_figure_of_the_cat_names_class_probability_method_and_layer(cat):
    [part] = cat.figure().subfigs
    assert part.get_suptitle() == f"Egyptian cat, 76.7%\ngrad-cam at {cat.layer} · chelsea"
    shown = panels(part)
    np.testing.assert_array_equal(shown["overlay"], cat.overlay())
    np.testing.assert_array_equal(panels(cat.figure(regions=0.6).subfigs[0])["overlay"], cat.overlay(regions=0.6))


def test_raw_signed_maps_have_their_own_scale(demo):
    from tests.running import CAT

    raw = demo.explain(CAT, relu=False, normalize=None)
    largest = float(np.abs(raw.saliency_map).max())
    assert bar(raw.figure(colormap="blue-white-red").subfigs[0]).get_ylim() == pytest.approx((-largest, largest))


@pytest.mark.parametrize("depth", [1, 4, 20])
def test_a_volume_is_drawn_as_slices_with_the_peak_among_them(depth):
    pytest.importorskip("matplotlib")
    values = np.random.default_rng(0).uniform(0, 0.9, (depth, 6, 5))
    peak = depth // 3
    values[peak, 2, 3] = 1
    drawn = figure([Row(values, "a volume")])
    panels = {axis.get_title(): axis.images[0].get_array() for axis in drawn.get_axes() if axis.images}
    panels.pop("", None)
    assert f"slice {peak} of {depth}" in panels
    assert len(panels) == (depth if depth < 6 else 6)
    for title, pixels in panels.items():
        np.testing.assert_array_equal(pixels, colorize(values[int(title.split()[1])], "jet"))


def test_a_signal_is_drawn_as_a_band():
    pytest.importorskip("matplotlib")
    values = np.linspace(0, 1, 32)
    drawn = figure([Row(values, "a signal")])
    [pixels] = [axis.images[0].get_array() for axis in drawn.get_axes() if axis.get_title() == "heatmap"]
    np.testing.assert_array_equal(pixels, np.repeat(colorize(values[None], "jet"), 4, axis=0))
