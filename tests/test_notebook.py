"""What a notebook shows of an explanation: IPython's display protocol, called as IPython calls it.

Names of classes and files come from strangers: whatever they hold, the page gets text.
"""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from cam_onnx.render import image
from cam_onnx.showing import CELL, SHOWN, heading

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)> & \x1b[31m\u202e"


class Reader(HTMLParser):
    """Collects tags with attributes, and the text that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + "\n"

    def pictures(self) -> list[np.ndarray]:
        sources = [attrs["src"] or "" for tag, attrs in self.tags if tag == "img"]
        assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
        return [image.load(base64.b64decode(source.partition(",")[2])).pixels for source in sources]


def test_the_png_of_one_sample_is_its_overlay(cat):
    np.testing.assert_array_equal(image.load(cat._repr_png_()).pixels, cat.overlay())


def test_the_page_of_one_sample_has_a_small_picture_and_says_what_was_explained(cat):
    page = Reader(cat._repr_html_())
    [picture] = page.pictures()
    assert picture.shape[0] <= CELL[0]
    assert picture.shape[1] == CELL[1]
    assert picture.shape[1] / picture.shape[0] == pytest.approx(451 / 300, rel=0.01)
    for words in ("Egyptian cat, 76.7%", "class 285", "also: tiger cat 11.5%", f"grad-cam at {cat.layer}", "chelsea"):
        assert words in page.text
    assert "blank" not in page.text


def test_names_from_files_are_escaped_everywhere(cat):
    labels = [EVIL] * 1000
    evil = replace(cat, labels=tuple(labels), names=[EVIL], reasons=[f"all zero {EVIL}"])
    page = evil._repr_html_()
    read = Reader(page)
    assert {tag for tag, _ in read.tags} == {"table", "tr", "td", "img", "br", "b", "i"}
    assert all(set(attrs) <= {"src", "alt", "style", "colspan"} for _, attrs in read.tags)
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert read.text.count("<script>alert('x')</script>") >= 4  # as text: name, others, file, reason
    [alt] = [attrs["alt"] for tag, attrs in read.tags if tag == "img"]
    assert alt is not None
    assert alt.startswith("<script>")


def test_a_layer_s_name_is_escaped_too(cat):
    evil = replace(cat, layers={EVIL: cat.layers[cat.layer]})
    assert "<script" not in evil._repr_html_()


def test_a_blank_map_has_its_reason(cat):
    blank = replace(cat, saliency_map=np.zeros_like(cat.saliency_map), reasons=["all zero"])
    assert "blank: all zero" in Reader(blank._repr_html_()).text
    np.testing.assert_array_equal(image.load(blank._repr_png_()).pixels, cat.pictures[0])


def repeated(cat, count):
    """The same sample several times: what is shown depends on nothing else."""
    part = cat.layers[cat.layer]
    fields = {name: np.repeat(getattr(part, name), count, 0) for name in ("activations", "gradients", "saliency")}
    return replace(
        cat,
        logits=np.repeat(cat.logits, count, 0),
        target=np.repeat(cat.target, count),
        score=np.repeat(cat.score, count),
        layers={cat.layer: replace(part, weights=None, **fields)},
        saliency_map=np.repeat(cat.saliency_map, count, 0),
        reasons=cat.reasons * count,
        pictures=cat.pictures * count,
        names=[f"{i}th" for i in range(count)],
    )


def test_several_samples_are_rows_and_a_sheet(cat):
    four = repeated(cat, 4)
    page = Reader(four._repr_html_())
    assert len(page.pictures()) == 4
    assert re.findall(r"\dth", page.text) == ["0th", "1th", "2th", "3th"]
    sheet = image.load(four._repr_png_()).pixels
    assert sheet.shape == (2 * 213 + 6, 3 * 320 + 2 * 6, 3)
    np.testing.assert_array_equal(sheet[:213, :320], sheet[219:, :320])
    assert (sheet[219:, 326:] == 255).all()


def test_of_many_samples_the_first_ones_are_shown_and_the_others_counted(cat):
    many = repeated(cat, SHOWN + 5)
    page = Reader(many._repr_html_())
    assert len(page.pictures()) == SHOWN
    assert "and 5 more" in page.text
    assert many._repr_png_() is not None


def test_tensors_are_shown_as_their_heatmap(cat):
    tensors = replace(cat, pictures=[None])
    np.testing.assert_array_equal(image.load(tensors._repr_png_()).pixels, cat.heatmap())
    assert len(Reader(tensors._repr_html_()).pictures()) == 1


def test_a_map_that_is_no_picture_is_said(cat):
    signal = replace(cat, pictures=[None], saliency_map=np.zeros((1, 100), np.float32))
    assert signal._repr_png_() is None
    page = Reader(signal._repr_html_())
    assert page.pictures() == []
    assert "a map of shape (100,)" in page.text


def test_a_small_probability_does_not_read_as_none(cat):
    unlikely = replace(cat, target=np.array([967]))
    assert 0 < unlikely.probabilities[0, 967] < 0.0005
    assert heading(unlikely) == "espresso, <0.1%"
    assert "espresso, &lt;0.1%" in unlikely._repr_html_()


def test_a_single_output_has_its_score_for_a_heading(cat):
    one = replace(cat, logits=cat.logits[:, :1], target=np.array([0]), labels=None, score=np.array([12.5]))
    assert heading(one) == "the model's output, score 12.5"
    assert "class" not in Reader(one._repr_html_()).text
    assert "also" not in Reader(one._repr_html_()).text
