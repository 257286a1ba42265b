"""Heads of the package transformers, exported: what is explained with no option is what their own outputs say."""

from __future__ import annotations

import pytest

from models.exporters import SPELLINGS
from tools.exporters import heads, page

# task, score by the name that the exporter gave it, the sizes of the layers' grids, what had to be told
EXPECTED = {
    ("RTDetrForObjectDetection", "dynamo=True"): ("detection", "linear_42", ["16 × 16", "8 × 8", "4 × 4"], ""),
    ("YolosForObjectDetection", "dynamo=False"): ("detection", "logits", ["8 × 12"], ""),
    ("SegformerForSemanticSegmentation", "dynamo=False"): ("semantic segmentation", "logits", ["32 × 32"], ""),
    ("MaskFormerForInstanceSegmentation", "dynamo=False"): (
        "segmentation by queries", "class_queries_logits", ["4 × 4"], "",
    ),
    ("VitPoseForPoseEstimation, classic decoder", "dynamo=False"): ("keypoints", "heatmaps", ["32 × 24"], ""),
    ("CLIPVisionModelWithProjection", "dynamo=False"): ("", "", ["8 × 8"], "similar:FILE.npy"),
}  # fmt: skip


@pytest.mark.zoo
@pytest.mark.parametrize(("name", "exporter"), EXPECTED)
def test_a_head_needs_no_target_or_lists_what_it_could_be(name, exporter):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    found = heads.measured(name, heads.export(name, exporter))
    layers = [layer.rpartition(", ")[2] for layer in found.layers.split("; ")]
    assert (found.task, found.score, layers, found.asks) == EXPECTED[name, exporter]
    assert found.found.same
    assert found.found.score < 1e-4
    assert (found.found.box is None) == (found.task != "detection")
    assert found.fine, found.verdict


def test_another_choice_is_told():
    """What is counted as the same is: the class, its score, and where its box is."""
    assert heads.Found(True, 1e-6, 1e-3).fine
    for other in (heads.Found(False, 0), heads.Found(True, 0.1), heads.Found(True, 0, 3)):
        assert not other.fine
    assert str(heads.Found(False, 0.1, 3)).startswith("**another**, score 1e-01 apart, box 3e+00 pixels")


def test_the_page_has_a_row_for_every_head_and_exporter():
    header, rows = page.table("heads")[:2], page.table("heads")[2:]
    assert header == heads.HEADER.splitlines()
    assert [" | ".join(row[2:].split(" | ")[:2]) for row in rows] == heads.KEYS
    assert {row.count(" | ") for row in rows} == {7}
    assert not [row for row in rows if "**" in row]


def test_a_file_that_is_not_there_or_not_understood_has_a_row_and_the_others_stay(tmp_path, monkeypatch):
    copy, before, name = tmp_path / "page.md", page.table("heads"), "ViTForImageClassification"
    copy.write_bytes(page.PAGE.read_bytes())
    monkeypatch.setattr(page, "PAGE", copy)
    files = {"dynamo=False": b"no model", "dynamo=True": SPELLINGS["torch_dynamo"].build().SerializeToString()}
    monkeypatch.setattr(heads, "export", lambda name, exporter: files[exporter])
    assert heads.main([name]) == 1
    changed = [new for old, new in zip(before, page.table("heads"), strict=True) if old != new]
    assert changed[0].startswith(f"| {heads.KEYS[2 * list(heads.HEADS).index(name)]} | no file that runs: ")
    assert changed[1].startswith(f"| {heads.KEYS[2 * list(heads.HEADS).index(name) + 1]} | **failed**: ")
    assert len(changed) == 2
