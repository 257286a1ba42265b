"""What is printed: safe, aligned, and JSON that every reader takes."""

from __future__ import annotations

import json
import sys

import pytest

from cam_onnx import printing

ROWS = [("[bold]cat[/bold]", 285, 0.76694), ("\x1b[31mred\n", 7, float("nan"))]


def test_a_table_of_plain_text_has_numbers_on_the_right(capsys):
    printing.table(["class", "index", "probability"], ROWS, "title")
    assert capsys.readouterr().out.splitlines() == [
        "title",
        "  class             index  probability",
        "  [bold]cat[/bold]    285        0.767",
        "  \\x1b[31mred\\n         7          nan",
    ]


def test_a_table_without_rows_is_its_header(capsys):
    printing.table(["name", "type"], [])
    assert capsys.readouterr().out == "  name  type\n"


def test_on_a_terminal_a_name_is_no_markup_and_no_control(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "100")
    printing.table(["class", "index", "probability"], ROWS, "[red]title")
    out = capsys.readouterr().out
    assert "[bold]cat[/bold]" in out
    assert "[red]title" in out
    assert "\\x1b[31mred\\n" in out
    assert "\x1b[31m" not in out


def test_lines_go_where_they_belong(capsys):
    printing.line("a\nb")
    printing.note("c\x07")
    printing.warning("d")
    assert capsys.readouterr() == ("a\\nb\n", "note: c\\x07\nwarning: d\n")


def test_json_has_no_nan(capsys):
    printing.dump({"a": [float("nan"), 1.5, (float("inf"),)], 3: "é"})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5, [None]], "3": "é"}


@pytest.mark.parametrize(("seconds", "text"), [(0.01234, "12.3 ms"), (1.234, "1.23 s"), (0, "0.0 ms")])
def test_durations(seconds, text):
    assert printing.duration(seconds) == text
