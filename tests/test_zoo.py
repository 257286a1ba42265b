"""docs/zoo.md: every network of the list stands on it, none disagrees, and what was not compared says why."""

from __future__ import annotations

import re
from pathlib import Path

from tools.zoo.networks import NETWORKS

PAGE = (Path(__file__).parent.parent / "docs" / "zoo.md").read_text(encoding="utf-8")
COMPARED = re.findall(r"^\| `([^`]+)` \|(.*)\|$", PAGE, re.MULTILINE)
NAMED = dict(re.findall(r"^- `([^`]+)`: (.*)$", PAGE, re.MULTILINE))


def test_every_network_stands_on_the_page():
    assert {name for name, _ in COMPARED} | set(NAMED) == set(NETWORKS)
    assert f"{len(COMPARED)} of {len(NETWORKS)} networks agree" in PAGE


def test_none_disagrees():
    assert [name for name, cells in COMPARED if "**no**" in cells] == []
    assert all(NAMED.values())


def test_nothing_is_computed_twice():
    columns = re.search(r"^\| (network .*) \|$", PAGE, re.MULTILINE)
    assert columns is not None
    at = columns[1].split(" | ").index("twice") - 1
    assert {name: cells for name, cells in COMPARED if cells.split("|")[at].strip() != "0"} == {}
