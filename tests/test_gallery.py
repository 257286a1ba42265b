"""Every method of the registry is on the contact sheet, under its name, and none of its pictures is empty."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import gallery
from benchmarks.sheet import TEXT, label
from cam_onnx.methods import METHODS
from cam_onnx.render import image

AGAIN = "run: python -m benchmarks.gallery"


def sheet():
    return image.load(gallery.OUT).pixels.astype(int)


def test_the_sheet_has_a_cell_for_every_method():
    down = -(-len(METHODS) // gallery.ACROSS)
    assert sheet().shape == (down * gallery.CELL[0], gallery.ACROSS * gallery.CELL[1], 3), AGAIN
    assert gallery.OUT.stat().st_size < 12_000 * len(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_stands_under_its_name_and_is_no_empty_picture(name):
    top, left = gallery.place(list(METHODS).index(name))
    cell = sheet()[top : top + gallery.CELL[0], left : left + gallery.SIDE]
    assert abs(cell[:TEXT] - label(name, gallery.SIDE)).mean() < 6, AGAIN  # JPEG
    for i in range(len(gallery.PICTURES)):
        at = TEXT + i * (gallery.SIDE + gallery.GAP)
        picture = cell[at : at + gallery.SIDE]
        assert picture.std() > 5, f"{name}: blank"
        assert np.unique(picture.reshape(-1, 3) // 8, axis=0).shape[0] > 20, f"{name}: one colour"
