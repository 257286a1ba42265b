"""The rules beside PyTorch's autograd: the committed table, and the comparison itself where PyTorch is installed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "conformance-pytorch.md"
TABLE = dict(re.findall(r"^\| (\w+) \| \S+ \| (\S+) \|$", PAGE.read_text(), re.MULTILINE))
AGREES = 1e-5  # of the largest entry: both round


def test_more_than_thirty_operators_agree():
    errors = {name: float(error) for name, error in TABLE.items() if name != "operator"}
    assert len(errors) > 30
    assert {name: error for name, error in errors.items() if not error < AGREES} == {}


@pytest.mark.zoo
class TestWithPyTorch:
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("torch")

    def test_the_page_has_every_row(self):
        from tools.conformance.pytorch import ROWS

        assert set(TABLE) - {"operator"} == set(ROWS)

    @pytest.mark.parametrize("name", sorted(set(TABLE) - {"operator"}))
    def test_autograd_says_the_same(self, name):
        from tools.conformance.pytorch import ROWS, compare

        output, gradient = compare(ROWS[name](np.random.default_rng(77)), 77)
        assert output < AGREES
        assert gradient < AGREES

    def test_one_per_mille_is_noticed(self):
        from tools.conformance.pytorch import ROWS, compare

        row = ROWS["Tanh"](np.random.default_rng(0))
        right = row.torch
        row.torch = lambda x: right(x) + 1e-3 * x
        assert compare(row, 0)[1] > AGREES
