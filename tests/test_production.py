"""docs/production.md: what was measured on it is what is promised of production files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.production.forms import FORMS, QUANTISED
from tools.production.networks import NETWORKS

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
    for form in ("basic", "extended"):
        assert float(found[form][3]) <= 1e-3, (form, found[form])
    for form in ("float16", "float16, float32 outside"):
        if form in found and not found[form][0].startswith("not made"):
            assert float(found[form][2]) >= 0.999, (form, found[form])
    assert "UnsupportedOperators" in found["all"][0] or float(found["all"][3]) <= 1e-3


def test_no_machine_path_stands_on_the_page():
    assert "/tmp" not in PAGE
