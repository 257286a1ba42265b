"""docs/understood.md: no guess is wrong, and the few networks that are asked about have a reason."""

from __future__ import annotations

import re
from pathlib import Path

from tools.understood.judge import Row
from tools.understood.page import page, written
from tools.zoo.networks import NETWORKS

PAGE = (Path(__file__).parent.parent / "docs" / "understood.md").read_text(encoding="utf-8")
LOOKED = dict(re.findall(r"^\| `([^`]+)` \| (\S+) \|", PAGE, re.MULTILINE))
ASKED = dict(re.findall(r"^- `([^`]+)`: (.*)$", PAGE, re.MULTILINE))


def test_no_guess_is_wrong():
    assert [name for name, verdict in LOOKED.items() if verdict != "right"] == []


def test_what_is_asked_about_is_little_and_has_a_reason():
    assert len([name for name in ASKED if name.startswith("timm/")]) <= 6
    assert all("not known" in reason or "no value" in reason for reason in ASKED.values()), ASKED


def test_the_page_counts_what_stands_on_it():
    assert set(LOOKED) | set(ASKED) <= set(NETWORKS)
    assert f"{len(LOOKED)} of {len(LOOKED) + len(ASKED)} networks right" in PAGE
    assert "/build/" not in PAGE


def test_a_wrong_guess_would_be_seen():
    rows = [Row("timm/a", "wrong", "7x7, not features 4x4", "y", "b", "Conv", (7, 7)), Row("timm/c", "asks", "why")]
    text = page(rows, ["timm/a", "timm/b", "timm/c"])
    assert "| `timm/a` | **wrong** | `b` | Conv | 7x7 |" in text
    assert "0 of 2 networks right, 1 wrong, 1 asked about" in text
    assert "no file was made, 1 of 3: `timm/b`." in text


def test_the_page_can_be_read_again_so_that_one_network_can_be_looked_at_alone():
    names = [name for name, network in NETWORKS.items() if network.library != "task" or network.model.endswith("_18")]
    rows = {row.network: row for row in written(PAGE)}
    assert len(rows) > 150
    assert page([rows[name] for name in names if name in rows], names) == PAGE
