"""NVIDIA Triton: ``config.pbtxt`` beside the file or above the folder of its version, protobuf in text form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cam_onnx.sources.beside import Unusable
from cam_onnx.sources.lists import lines
from cam_onnx.sources.table import Said, Subject

__all__ = ["config", "parse"]

TOKEN = re.compile(r"""\s+|\#[^\n]*|("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[\w.+-]+|[{}<>\[\]:,;])""")
DEEPEST = 32
FORMATS = {"FORMAT_NCHW": "NCHW", "FORMAT_NHWC": "NHWC"}


def config(subject: Subject) -> Iterator[Said]:
    """``format`` and ``dims`` of the picture's input, ``label_filename`` of an output."""
    text = subject.beside.text("config.pbtxt", up=True)
    if text is None:
        return
    told = parse(text)
    fields: dict[str, Any] = {}
    for entry in _messages(told, "input"):
        if entry.get("name", [subject.image])[-1] != subject.image:
            continue
        layout = FORMATS.get(str(entry.get("format", [""])[-1]))
        if layout:
            fields["layout"] = layout
            dims = [d for part in entry.get("dims", []) for d in (part if isinstance(part, list) else [part])]
            pair = dims[-2:] if layout == "NCHW" else dims[-3:-1]
            if len(dims) >= 3 and all(str(d).isdecimal() and int(d) > 0 for d in pair):
                fields["size"] = (int(pair[0]), int(pair[1]))
    labels = None
    for entry in _messages(told, "output"):
        name = str(entry.get("label_filename", [""])[-1])
        if name and labels is None:
            found = subject.beside.text(name, up=True)
            if found is None:
                raise Unusable(f"label_filename {name[:60]!r}: no such file")
            labels = lines(found)
    if fields or labels:
        yield Said("config.pbtxt (Triton)", fields, labels)


def _messages(told: dict[str, list[Any]], key: str) -> list[dict[str, list[Any]]]:
    return [
        m for part in told.get(key, []) for m in (part if isinstance(part, list) else [part]) if isinstance(m, dict)
    ]


def parse(text: str) -> dict[str, list[Any]]:
    """Return a message in text form: the values of every field, in order; scalars are text.

    Raises
    ------
    Unusable
    """
    tokens, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise Unusable(f"unexpected {text[at]!r} in line {text.count(chr(10), 0, at) + 1}")
        if match[1]:
            tokens.append(match[1])
        at = match.end()
    found, rest = _message(tokens, 0, "", 0)
    if rest != len(tokens):
        raise Unusable(f"unexpected {tokens[rest]!r}")
    return found


def _message(tokens: list[str], at: int, end: str, depth: int) -> tuple[dict[str, list[Any]], int]:
    if depth > DEEPEST:
        raise Unusable("nested too deeply")
    found: dict[str, list[Any]] = {}
    while at < len(tokens) and tokens[at] != end:
        if tokens[at] in ",;":
            at += 1
            continue
        key = tokens[at]
        if not re.fullmatch(r"[\w.]+", key):
            raise Unusable(f"unexpected {key!r}")
        value, at = _value(tokens, at + 1, depth)
        found.setdefault(key, []).append(value)
    if end:
        if at >= len(tokens):
            raise Unusable("it is cut off")
        at += 1
    return found, at


def _value(tokens: list[str], at: int, depth: int) -> tuple[Any, int]:
    if at < len(tokens) and tokens[at] == ":":
        at += 1
    if at >= len(tokens):
        raise Unusable("it is cut off")
    token = tokens[at]
    if token in "{<":
        return _message(tokens, at + 1, "}" if token == "{" else ">", depth + 1)
    if token == "[":
        if depth > DEEPEST:
            raise Unusable("nested too deeply")
        items, at = list[Any](), at + 1
        while at < len(tokens) and tokens[at] != "]":
            if tokens[at] == ",":
                at += 1
                continue
            item, at = _value(tokens, at, depth + 1)
            items.append(item)
        if at >= len(tokens):
            raise Unusable("it is cut off")
        return items, at + 1
    if token in "}>]:,;":
        raise Unusable(f"unexpected {token!r}")
    return (token[1:-1] if token[0] in "\"'" else token), at + 1
