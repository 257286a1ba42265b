"""Many pictures, some of them bad: what goes on, what ends the command, and what is said."""

from __future__ import annotations

import json
import os

import pytest

from cam_onnx import cli
from tests import badfiles


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder with a converted model, a good picture and a bad one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    badfiles.folder()
    badfiles.seen(b"")()


def explain(capsys, *argv):
    code = cli.main(["explain", "done.onnx", *argv])
    captured = capsys.readouterr()
    return code, captured.out, [line for line in captured.err.splitlines() if not line.startswith("note: ")]


def test_the_others_are_done_and_the_bad_one_is_an_entry(capsys):
    code, out, err = explain(capsys, "cat.png", "bad.png", "-o", "out/", "--json")
    assert code == 1
    assert err == [
        "cam-onnx: bad.png is empty; expected PNG, JPEG, GIF, BMP, WebP or TIFF",
        "cam-onnx: 1 of 2 pictures cannot be explained, the others are done",
    ]
    good, bad = json.loads(out)
    assert good["picture"] == "cat.png"
    assert bad == {"picture": "bad.png", "error": "bad.png is empty; expected PNG, JPEG, GIF, BMP, WebP or TIFF"}


def test_nothing_but_bad_ones_is_bad_input(capsys):
    code, _, err = explain(capsys, "bad.png", "gone.png", "-o", "out/")
    assert code == 2
    assert err[-1] == "cam-onnx: 2 of 2 pictures cannot be explained, nothing is done"
    assert not os.path.exists("out"), "no empty folder is left"


def test_what_every_picture_would_meet_ends_the_command(capsys):
    code, _, err = explain(capsys, "cat.png", "model.png", "--target", "5")
    assert (code, len(err)) == (2, 1)
    assert "target 5 is out of range" in err[0]


def test_a_pixel_limit_counts_for_each(capsys):
    code, _, err = explain(capsys, "cat.png", "bad.png", "--max-pixels", "10")
    assert code == 2
    assert "32 x 24 pixels, more than the limit of 10" in err[0]


def test_a_folder_that_was_there_stays(capsys):
    os.mkdir("out")
    assert explain(capsys, "bad.png", "-o", "out/")[0] == 2
    assert os.path.isdir("out")
