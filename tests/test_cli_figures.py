"""The command line's pictures beside the overlay (figures, regions, colour maps), and its progress."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

import cam_onnx
from cam_onnx import cli, printing, progress
from cam_onnx.progress import Progress
from cam_onnx.render import image
from cam_onnx.render.colormap import COLORMAPS, colorize
from models.builders import BUILDERS
from tests.running import CAT, COFFEE, MODEL, SETTINGS

ROOT = Path(__file__).parent.parent
OPTIONS = ["--preprocess", str(SETTINGS["preprocess"]), "--labels", str(SETTINGS["labels"])]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder with a tiny model in it."""
    monkeypatch.chdir(tmp_path)
    onnx.save(BUILDERS["gap_linear"](), "tiny.onnx")
    yield tmp_path
    printing.be_quiet(False)


def run(capsys, *argv: object) -> tuple[int, str, str]:
    code = cli.main([str(word) for word in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# -- figures and regions ----------------------------------------------------------------------------------------------


def test_one_figure_of_all_pictures_and_the_warm_areas_everywhere(here, capsys):
    pytest.importorskip("matplotlib")
    code, out, err = run(
        capsys, "explain", MODEL, CAT, COFFEE, "-o", "out/", *OPTIONS, "--figure", "f.png", "--regions", "0.6"
    )
    assert (code, err) == (0, "")
    assert out.endswith("\nfigure: f.png\n")
    assert out.count("warm areas, at least 0.6 of the map's scale") == 2
    assert image.load(here / "f.png").pixels.shape[1] == 1642
    saved = json.loads((here / "out" / "chelsea.explanation.json").read_text())
    [area] = saved["regions"]["found"]
    assert " ".join(map(str, area["box"])) in out
    x0, y0, x1, _ = area["box"]
    overlay = image.load(here / "out" / "chelsea.overlay.png").pixels
    assert (overlay[y0, x0:x1] == 255).all(axis=-1).any(), "the box is on the overlay"


def test_json_has_the_regions_and_the_figure(here, capsys):
    pytest.importorskip("matplotlib")
    code, out, err = run(capsys, "explain", "tiny.onnx", CAT, "--json", "--figure", "f.svg", "-q", "--regions")
    assert (code, err) == (0, "")
    [result] = json.loads(out)
    assert result["figure"] == "f.svg"
    assert result["regions"]["threshold"] == 0.5
    assert {"box", "area", "share", "peak", "contour"} == set(result["regions"]["found"][0])
    assert (here / "f.svg").read_text().startswith("<?xml")


def test_a_blank_map_has_no_warm_areas(here, capsys):
    model = BUILDERS["gap_linear"]()
    [weight] = [t for t in model.graph.initializer if t.name == "w3"]
    weight.CopyFrom(onnx.numpy_helper.from_array(np.zeros((5, 8), np.float32), "w3"))
    onnx.save(model, "zero.onnx")
    code, out, _ = run(capsys, "explain", "zero.onnx", CAT, "--regions")
    assert code == 0
    assert "warm areas, at least 0.5 of the map's scale: none" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["CAT", "--figure", "f.gif"], 2, "no figure's suffix: use .png, .pdf"),
        (["CAT", "--figure", "none/f.png"], 1, "create the folder first"),
        (["CAT", "-o", "a.png", "--figure", "./a.png"], 2, "choose another name with --figure"),
        (["CAT", "--figure", "copy.png"], 2, "choose another name with --figure"),
        ([*["CAT"] * 2, "-o", "out/", "--figure", "f.png"], 2, "both be written"),
        (["CAT", "-o", "out/", "--figure", "f.png", *["--target=1"] * 31], 2, "room for 30 explanations, these are 31"),
        (["--regions", "CAT"], 2, "put --regions behind the pictures, or write --regions=0.5"),
        (["CAT", "--regions", "0"], 2, "above 0, at most 1"),
        (["CAT", "--regions=nan"], 2, "above 0, at most 1"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_what_cannot_be_drawn_is_one_line_before_anything_runs(here, capsys, arguments, code, words):
    pytest.importorskip("matplotlib")
    (here / "copy.png").write_bytes(CAT.read_bytes())
    given = ["copy.png" if word == "CAT" else word for word in arguments]
    found, out, err = run(capsys, "explain", "missing.onnx", *given)
    assert (found, out, err.count("\n")) == (code, "", 1), err
    assert words in err


def test_without_matplotlib_a_figure_is_refused_before_anything_runs(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = run(capsys, "explain", "missing.onnx", CAT, "--figure", "f.png")
    assert (code, out) == (1, "")
    assert err == "cam-onnx: a figure needs matplotlib, which is not there: pip install 'cam-onnx[plot]'\n"


# -- colour maps ------------------------------------------------------------------------------------------------------


def test_colormaps_lists_the_names_and_draws_them(here, capsys):
    code, out, err = run(capsys, "colormaps", "-o", "maps.png")
    assert (code, err) == (0, "")
    assert out.splitlines() == [*COLORMAPS, "wrote: maps.png"]
    sheet = image.load(here / "maps.png").pixels
    for i, name in enumerate(COLORMAPS):
        low = -1 if name == "blue-white-red" else 0
        row = sheet[8 + 32 * i + 12]
        np.testing.assert_array_equal(row[178:690], colorize(np.linspace(low, 1, 512)[None], name)[0])
        dark = sheet[8 + 32 * i : 8 + 32 * i + 24, :178].min(axis=(0, 2)) < 128
        ink = np.flatnonzero(dark)
        assert 8 <= ink.min() < 12, name
        assert ink.max() < 170, f"{name} runs into its strip"


def test_colormaps_without_a_file_writes_none_and_refuses_other_suffixes(here, capsys):
    assert run(capsys, "colormaps")[1].split() == list(COLORMAPS)
    assert sorted(path.name for path in here.iterdir()) == ["tiny.onnx"]
    code, out, err = run(capsys, "colormaps", "-o", "maps.txt")
    assert (code, out) == (2, "")
    assert "no picture's suffix" in err


def test_on_a_terminal_every_name_has_its_strip(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    for name, value in (("COLORTERM", "truecolor"), ("TERM", "xterm-256color"), ("FORCE_COLOR", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    printing.strips(["warm"], lambda name: [(255, 0, 0), (1, 2, 3)])
    out = capsys.readouterr().out
    assert out.startswith("warm")
    assert "48;2;255;0;0" in out
    assert "48;2;1;2;3" in out


# -- progress ---------------------------------------------------------------------------------------------------------


def test_short_work_shows_nothing(capsys):
    with Progress("explaining", total=3) as work:
        work.at(3)
    assert capsys.readouterr() == ("", "")


def test_long_work_is_a_plain_line_where_there_is_no_terminal(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.02)
    with Progress("explaining", total=7) as work:
        work.after(2)(3, 5)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and "explaining" not in written.getvalue():
            time.sleep(0.01)
    lines = written.getvalue().splitlines()
    assert lines[-1].startswith("explaining: 5 of 7, ")


def test_quiet_says_neither_notes_nor_progress(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.01)
    before = threading.active_count()
    printing.be_quiet(True)
    with Progress("explaining"):
        assert threading.active_count() == before
        time.sleep(0.05)
    printing.note("a guess")
    printing.warning("a doubt")
    assert capsys.readouterr() == ("", "warning: a doubt\n")


def test_quiet_is_of_one_command(capsys):
    assert "note: preprocessing is a guess" in run(capsys, "explain", "tiny.onnx", CAT)[2]
    assert run(capsys, "explain", "tiny.onnx", CAT, "--quiet")[2] == ""
    assert "note: " in run(capsys, "explain", "tiny.onnx", CAT)[2]


WORKING = """
import sys, time
from cam_onnx import progress
progress.BAR_AFTER = 0.05
with progress.Progress("explaining", total=4) as work:
    work.at(3)
    time.sleep(1.0)
    with work.aside():
        print("a result", flush=True)
    time.sleep(0.3)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX terminals")
def test_on_a_terminal_a_bar_is_drawn_on_stderr_and_is_gone_at_the_end():
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", WORKING], stdout=subprocess.PIPE, stderr=theirs, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "80"},
    )  # fmt: skip
    os.close(theirs)
    drawn = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        drawn += part
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "a result\n")
    assert b"explaining" in drawn
    assert b"3/4" in drawn
    assert drawn.rstrip().endswith(b"\x1b[2K"), "the last thing is that its line is erased"


# -- the library's callback -------------------------------------------------------------------------------------------


def test_the_library_tells_progress_to_whoever_asks_and_prints_nothing(capsys):
    explainer = cam_onnx.Explainer("tiny.onnx")
    pictures = [np.full((16, 16, 3), i, np.uint8) for i in range(37)]
    told: list[tuple[int, int]] = []
    explainer.explain(pictures, progress=lambda done, total: told.append((done, total)))
    assert told == [(16, 37), (32, 37), (37, 37)]
    told.clear()
    explainer.explain(pictures[:2], target=[[0, 1, 2], [3]], progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (4, 4)
    assert told == sorted(told)
    assert capsys.readouterr() == ("", "")
