"""docs/production.md: what was measured on it is what is promised of production files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cam_onnx.render import image
from tools.production import picture
from tools.production.forms import FORMS, QUANTISED
from tools.production.networks import NETWORKS, SEEDED

PAGE = (Path(__file__).parent.parent / "docs" / "production.md").read_text(encoding="utf-8")
TRAINED = [name for name, network in NETWORKS.items() if network.trained]


def rows(network: str) -> dict[str, list[str]]:
    """Return the cells of a network's forms."""
    part = PAGE.split(f"### {network}, ", 1)[1].split("###", 1)[0]
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if re.match(r"\| (?!form)", line)]
    return {cells[0]: cells[1:] for cells in lines}


@pytest.mark.parametrize("network", TRAINED)
def test_every_form_of_a_trained_network_is_on_the_page(network):
    assert list(rows(network)) == ["plain", *FORMS]


@pytest.mark.parametrize("network", TRAINED)
def test_a_quantised_trained_network_looks_where_its_float_form_does(network):
    cosines = {form: float(rows(network)[form][2]) for form in QUANTISED}
    assert min(cosines.values()) >= 0.98, cosines


@pytest.mark.parametrize("network", re.findall(r"^### (.*), (?:trained|seeded weights)$", PAGE, re.MULTILINE))
def test_optimised_and_half_precision_forms_keep_the_gradient(network):
    found = rows(network)
    for form in ("basic", "extended", "transformers-optimised", "onnxsim", "onnxslim"):
        if form in found and not found[form][0].startswith("not made"):
            assert float(found[form][3]) <= 1e-3, (form, found[form])
            assert found[form][6] == "agrees", (form, found[form])
    for form in ("float16", "float16, float32 outside"):
        if form in found and not found[form][0].startswith("not made"):
            assert float(found[form][2]) >= 0.999, (form, found[form])
    if "all" in found:
        assert "UnsupportedOperators" in found["all"][0] or float(found["all"][3]) <= 1e-3


@pytest.mark.parametrize("network", SEEDED)
def test_optimised_forms_of_every_seeded_network_are_on_the_page(network):
    assert list(rows(network))[:3] == ["plain", "basic", "extended"]


@pytest.mark.parametrize("form", picture.NAMES)
def test_the_picture_shows_every_form_under_its_name(form):
    """The map of a form is that of the plain file; what is refused is grey."""
    sheet = image.load(picture.OUT).pixels.astype(int)
    side = picture.SIDE

    def cell(i: int):
        top, left = picture.place(i)
        return sheet[top : top + picture.CELL[0], left : left + side]

    ours, plain = cell(picture.NAMES.index(form)), cell(0)
    assert abs(ours[: picture.TEXT] - picture.label(form, side)).mean() < 6
    ours, plain = (part[picture.TEXT : picture.TEXT + side] for part in (ours, plain))
    if "UnsupportedOperators" in rows("EfficientNet-Lite0")[form][0]:
        assert ours[-50:].std() < 3
    else:
        assert np.corrcoef(ours.ravel(), plain.ravel())[0, 1] > 0.95


def test_no_machine_path_stands_on_the_page():
    assert "/tmp" not in PAGE
