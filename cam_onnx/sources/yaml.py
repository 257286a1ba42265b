"""As much of YAML as tools write by themselves: nested mappings and lists of scalars. What is more is refused.

No dependency for two side files; and what a file means does not depend on what is installed.
"""

from __future__ import annotations

import re
from typing import Any

from cam_onnx.sources.beside import Unusable

__all__ = ["parse"]

DEEPEST = 32
KEY = re.compile(r"""("(?:\\.|[^"\\])*"\s*|'(?:''|[^'])*'\s*|[^\s\[\]{},#&*!|>'"%@`?-][^:#]*):(?:\s+(.*))?$""")
NUMBER = re.compile(r"[-+]?(\d{1,40}\.?\d{0,40}|\.\d{1,40})(e[-+]?\d{1,4})?", re.IGNORECASE)
WORDS: dict[str, Any] = {"": None, "null": None, "~": None, "true": True, "false": False}

Line = tuple[int, str, int]  # indent, text, number


def parse(text: str) -> Any:
    """Return mappings, lists, text, numbers, booleans and None.

    Raises
    ------
    Unusable
        Anchors, tags, blocks of text, several documents, tabs; or no YAML at all. The message has the line.
    """
    lines: list[Line] = []
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        stripped = _without_comment(raw).rstrip()
        if stripped.strip() and not (stripped == "---" and not lines):
            indent = len(stripped) - len(stripped.lstrip(" "))
            if stripped[indent] == "\t":
                raise Unusable(f"line {number}: a tab")
            lines.append((indent, stripped[indent:], number))
    if not lines:
        return None
    found, rest = _block(lines, 0, lines[0][0], 0)
    if rest < len(lines):
        raise Unusable(f"line {lines[rest][2]}: not understood: {lines[rest][1][:40]!r}")
    return found


def _without_comment(line: str) -> str:
    if "#" not in line:
        return line
    quote = ""
    for at, c in enumerate(line):
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'" and (not at or line[at - 1] in " [,:{-"):
            quote = c
        elif c == "#" and (not at or line[at - 1] in " \t"):
            return line[:at]
    return line


def _block(lines: list[Line], at: int, indent: int, depth: int) -> tuple[Any, int]:
    if depth > DEEPEST:
        raise Unusable(f"line {lines[at][2]}: nested too deeply")
    if lines[at][1] == "-" or lines[at][1].startswith("- "):
        return _list(lines, at, indent, depth)
    if KEY.match(lines[at][1]):
        return _mapping(lines, at, indent, depth)
    return _scalar(lines[at][1], lines[at][2]), at + 1


def _list(lines: list[Line], at: int, indent: int, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    while at < len(lines) and lines[at][0] == indent and (lines[at][1] == "-" or lines[at][1].startswith("- ")):
        _, text, number = lines[at]
        rest = text[1:].lstrip()
        if not rest:
            value, at = _below(lines, at, indent, depth)
        elif KEY.match(rest) or rest.startswith("- "):
            inner = indent + len(text) - len(rest)
            lines[at] = (inner, rest, number)
            value, at = _block(lines, at, inner, depth + 1)
        else:
            value, at = _scalar(rest, number), at + 1
        found.append(value)
    return found, at


def _mapping(lines: list[Line], at: int, indent: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while at < len(lines) and lines[at][0] == indent and (match := KEY.match(lines[at][1])):
        key, number = str(_scalar(match[1], lines[at][2])), lines[at][2]
        if key in found:
            raise Unusable(f"line {number}: {key[:40]!r} twice")
        if match[2]:
            found[key], at = _scalar(match[2], number), at + 1
        else:
            # a list may stand as far left as its key
            same = at + 1 < len(lines) and lines[at + 1][0] == indent and lines[at + 1][1][:2] in ("- ", "-")
            found[key], at = _block(lines, at + 1, indent, depth + 1) if same else _below(lines, at, indent, depth)
    return found, at


def _below(lines: list[Line], at: int, indent: int, depth: int) -> tuple[Any, int]:
    if at + 1 < len(lines) and lines[at + 1][0] > indent:
        return _block(lines, at + 1, lines[at + 1][0], depth + 1)
    return None, at + 1


def _scalar(text: str, number: int) -> Any:
    text = text.strip()
    if text[:1] in "[{" and text:
        return _flow(text, number)
    if text[:1] in ("&", "*", "!", "|", ">", "%", "@", "`"):
        raise Unusable(f"line {number}: not understood: {text[:40]!r}")
    if text[:1] == "'":
        if len(text) < 2 or text[-1] != "'":
            raise Unusable(f"line {number}: a quotation does not end")
        return text[1:-1].replace("''", "'")
    if text[:1] == '"':
        if len(text) < 2 or text[-1] != '"':
            raise Unusable(f"line {number}: a quotation does not end")
        return _escaped(text[1:-1])
    if text.casefold() in WORDS:
        return WORDS[text.casefold()]
    if NUMBER.fullmatch(text):
        return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
    return text


def _escaped(text: str) -> str:
    plain = {"n": "\n", "t": "\t", '"': '"', "\\": "\\", "/": "/", "0": "\0"}

    def one(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "xuU":
            try:
                return chr(int(code[1:], 16))
            except (ValueError, OverflowError):
                return "\ufffd"
        return plain.get(code, code)

    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", one, text)


def _flow(text: str, number: int, depth: int = 0) -> Any:
    """Return a list or mapping in brackets."""
    parts, at = list[str](), 1
    if text[-1] != {"[": "]", "{": "}"}[text[0]] or depth > DEEPEST:
        raise Unusable(f"line {number}: not understood: {text[:40]!r}")
    while at < len(text) - 1:
        end = _end(text, at, number)
        if part := text[at:end].strip():
            parts.append(part)
        at = end + 1
    if text[0] == "[":
        return [_within(part, number, depth) for part in parts]
    pairs = [KEY.match(part) for part in parts]
    if not all(pairs):
        raise Unusable(f"line {number}: not understood: {text[:40]!r}")
    return {str(_scalar(pair[1], number)): _within(pair[2] or "", number, depth) for pair in pairs if pair}


def _within(text: str, number: int, depth: int) -> Any:
    return _flow(text, number, depth + 1) if text[:1] in ("[", "{") else _scalar(text, number)


def _end(text: str, at: int, number: int) -> int:
    """Return where an entry ends: at a comma that is not inside of brackets or quotes, or before the last bracket."""
    open_, quote, started = 0, "", False
    for i in range(at, len(text) - 1):
        c = text[i]
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'" and not started:
            quote = c
        elif c in "[{":
            open_ += 1
        elif c in "]}":
            open_ -= 1
        elif c == "," and not open_:
            return i
        started = started or c != " "
    if open_ or quote:
        raise Unusable(f"line {number}: not understood: {text[:40]!r}")
    return len(text) - 1
