"""Preprocessing and labels as objects, lists and files."""

from __future__ import annotations

import pytest

from cam_onnx import InputError, Preprocess
from cam_onnx.options import read_labels, read_preprocess


def test_what_is_one_already_passes():
    settings = Preprocess(size=(64, 64))
    assert read_preprocess(settings) is settings
    assert read_preprocess(None) is None
    assert read_labels(None) is None
    assert read_labels(["a", "b"]) == ("a", "b")
    assert read_labels(name for name in "ab") == ("a", "b")


def test_preprocessing_comes_from_a_json_file(tmp_path):
    settings = Preprocess(size=(3, 4), mean=(1, 2, 3), std=(2,), layout="NHWC", fit="letterbox")
    path = tmp_path / "p.json"
    path.write_text(settings.to_json(), encoding="utf-8")
    assert read_preprocess(path) == settings
    assert read_preprocess(str(path)) == settings


@pytest.mark.parametrize(
    "content",
    [b"cat\ndog\n", b"cat\r\ndog\r\n", b"\xef\xbb\xbfcat\ndog", b"cat \n dog\n\n\n"],
    ids=["unix", "windows", "BOM", "spaces and blank lines at the end"],
)
def test_labels_come_one_a_line(tmp_path, content):
    path = tmp_path / "l.txt"
    path.write_bytes(content)
    assert read_labels(path) == ("cat", "dog")


def test_a_blank_line_in_the_middle_keeps_the_indices(tmp_path):
    path = tmp_path / "l.txt"
    path.write_text("a\n\nc\n")
    assert read_labels(str(path)) == ("a", "", "c")


BAD = {
    "labels missing": (read_labels, None, "labels file"),
    "labels empty": (read_labels, b"\n\n", "no labels in it; one class name a line"),
    "labels not text": (read_labels, b"caf\xe9\n", "not UTF-8 text (invalid continuation byte at byte 3)"),
    "preprocess missing": (read_preprocess, None, "preprocessing file"),
    "preprocess not JSON": (read_preprocess, b"size=3", "not JSON"),
    "preprocess not an object": (read_preprocess, b"[1]", "expected a JSON object, got list"),
    "preprocess unknown key": (read_preprocess, b'{"sise": 3}', "unknown 'sise', expected size, fit"),
    "preprocess wrong value": (read_preprocess, b'{"fit": "squeeze"}', "fit is 'squeeze', expected one of stretch"),
    "preprocess not text": (read_preprocess, b"\xff\xfe{}", "not UTF-8 text"),
}  # fmt: skip


@pytest.mark.parametrize("row", BAD)
def test_files_that_do_not_fit(tmp_path, row):
    read, content, words = BAD[row]
    path = tmp_path / "the file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert words in str(caught.value)
    assert str(caught.value).count("the file") == 1, "where, once"
    assert str(caught.value).isprintable()


def test_other_types_are_refused():
    with pytest.raises(InputError, match="preprocess: expected a .*Preprocess.*path.*, got int"):
        read_preprocess(3)  # type: ignore[arg-type]
