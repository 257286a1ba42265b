"""docs/production.md: what was measured on it is what is promised of production files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from cam_onnx import InvalidModel
from cam_onnx.render import image
from models.builders import BUILDERS
from tools.production import measure, picture
from tools.production.__main__ import BEGIN, END
from tools.production.forms import FEWER, FORMS, QUANTISED
from tools.production.measure import Row
from tools.production.networks import NETWORKS, Network
from tools.production.page import table
from tools.said import said

PAGE = (Path(__file__).parent.parent / "docs" / "production.md").read_text(encoding="utf-8")
TRAINED = [name for name, network in NETWORKS.items() if network.trained]


def rows(network: str) -> dict[str, list[str]]:
    """Return the cells of a network's forms."""
    part = PAGE.split(f"### {network}, ", 1)[1].split("###", 1)[0]
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if re.match(r"\| (?!form)", line)]
    return {cells[0]: cells[1:] for cells in lines}


OPTIMISED = [form for form in FORMS if form not in {"all", *QUANTISED} and "float16" not in form]
HALF = [form for form in FORMS if "float16" in form]
# two of 1280 hidden units lie where 16 bits round to the kink of their HardSwish
AT_A_KINK = {("torchvision/mobilenet_v3_large", "float16"): 0.998}


@pytest.mark.parametrize("network", TRAINED)
def test_every_form_of_a_trained_network_is_on_the_page(network):
    assert list(rows(network)) == ["plain", *FORMS]


@pytest.mark.parametrize("network", sorted(set(NETWORKS) - set(TRAINED)))
def test_every_form_that_is_made_of_the_other_networks_is_on_the_page(network):
    assert list(rows(network)) == ["plain", *FEWER]


@pytest.mark.parametrize("network", TRAINED)
def test_a_quantised_trained_network_looks_where_its_float_form_does(network):
    cosines = {form: float(rows(network)[form][2]) for form in QUANTISED}
    assert min(cosines.values()) >= 0.98, cosines


def refused(cells: list[str]) -> bool:
    """Whether a tool could not write the form, or the layout of one processor is refused."""
    return cells[0].startswith(("not made", "UnsupportedOperators: optimised for one processor"))


@pytest.mark.parametrize("network", NETWORKS)
def test_optimised_and_half_precision_forms_keep_the_gradient(network):
    found = {form: cells for form, cells in rows(network).items() if not refused(cells)}
    for form in set(OPTIMISED) & set(found):
        assert float(found[form][3]) <= 1e-3, (form, found[form])
        assert found[form][6] == "agrees", (form, found[form])
    for form in set(HALF) & set(found):
        assert float(found[form][2]) >= AT_A_KINK.get((network, form), 0.999), (form, found[form])


@pytest.mark.parametrize("network", NETWORKS)
def test_no_form_is_called_wrong_and_none_but_one_processors_is_refused(network):
    verdicts = {form: cells[6] for form, cells in rows(network).items() if not refused(cells)}
    assert set(verdicts.values()) <= {"agrees", "inconclusive"}, verdicts
    assert verdicts["plain"] == "agrees"


@pytest.mark.parametrize("form", FORMS)
def test_a_form_could_be_made_of_several_networks(form):
    cells = [rows(name)[form][0] for name in NETWORKS if form in rows(name)]
    assert sum(not cell.startswith("not made") for cell in cells) >= 2


@pytest.mark.parametrize(
    ("network", "written"),
    [
        ("timm/vit_tiny_patch16_224", {"BiasGelu", "SkipLayerNormalization"}),
        ("transformers/vit", {"Attention", "BiasGelu", "SkipLayerNormalization"}),
        ("transformers/clip", {"Attention", "QuickGelu", "SkipLayerNormalization"}),
    ],
)
def test_what_the_optimiser_of_transformers_wrote_is_explained(network, written):
    cells = rows(network)["transformers-optimised"]
    assert {part.split()[1] for part in cells[7].split(", ")} >= written
    assert float(cells[3]) <= 1e-3


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


def test_what_is_measured_alone_leaves_the_other_rows():
    kinds = {name: "trained" if network.trained else "seeded weights" for name, network in NETWORKS.items()}
    earlier = PAGE.split(BEGIN)[1].split(END)[0]
    assert table([], kinds, earlier) == earlier.strip()
    made = table([Row("timm/regnety_002", "basic", nodes=12345)], kinds, earlier)
    changed = [line for line in made.splitlines() if line not in earlier.splitlines()]
    assert len(changed) == 1
    assert changed[0].startswith("| basic | 12345 |")
    assert len(made.splitlines()) == len(earlier.strip().splitlines())


@pytest.mark.parametrize("refuse", ["the tool", "the conversion"])
def test_a_form_that_fails_says_so_without_this_machine_s_folders(refuse, monkeypatch, tmp_path):
    """The file in a message is the one that was given, by its name."""
    source = tmp_path / "plain.onnx"
    onnx.save(BUILDERS["gap_linear"](), source)

    def form(given, out, feeds):
        if refuse == "the tool":
            raise ValueError(f"cannot write {out} from {given}")
        out.write_bytes(given.read_bytes())

    def compared(name, form, network, plain, path):
        raise InvalidModel(f"{path}: not like {plain}")

    monkeypatch.setitem(FORMS, "basic", form)
    monkeypatch.setattr(measure, "_compare", compared)
    row = measure.measure("own", Network(lambda: source, "imagenet", True), "basic")
    if refuse == "the tool":
        assert row.refused == "not made: ValueError: cannot write form.onnx from plain.onnx"
    else:
        assert row.refused == "InvalidModel: not like plain.onnx"


def test_values_of_a_model_keep_their_names_in_a_message(tmp_path):
    place = tmp_path / "deep" / "form.onnx"
    error = ValueError(f"{place}: node '/layer.0/Conv'\n  reads {tmp_path}/w.bin of {Path.cwd()}/m.onnx")
    assert said(error) == "form.onnx: node '/layer.0/Conv' reads w.bin of m.onnx"
