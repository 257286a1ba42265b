"""The site says what is: its examples run and print what stands below them, its tables are the registries'.

`make docs` builds it with warnings as errors; what is checked here needs no Sphinx.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import cam_onnx
from cam_onnx import autodiff, errors
from tools import draw, examples, floors

PAGES = {path.name: path for path in examples.pages()}
GENERATED = {
    "benchmarks.md",
    "conformance.md",
    "conformance-pytorch.md",
    "parity.md",
    "sanity.md",
    "understood.md",
    "zoo.md",
}  # written by benchmarks/, tools/conformance/, tools/zoo/
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def text(name: str) -> str:
    return PAGES[name].read_text(encoding="utf-8")


def prose(name: str) -> str:
    """A page without its code."""
    return FENCE.sub("", text(name))


def headings(name: str, level: int = 2) -> list[str]:
    return re.findall(rf"^{'#' * level} (.+)$", prose(name), re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_examples_run_and_print_what_the_page_says(name):
    assert examples.filled(text(name)) == text(name), "run: python -m tools.examples --write"


def test_the_runner_sees_what_is_wrong():
    def page(mark: str, code: str, output: str = "") -> str:
        return f"{mark}```python\n{code}\n```\n<!-- prints -->\n```text\n{output}```\n"

    raises = "<!-- raises -->\n"
    assert examples.filled(page("", "print(6 * 7)")) == page("", "print(6 * 7)", "42\n")
    for wrong in (page("", "1 / 0"), page(raises, "pass"), page("<!-- alone -->\n", "import cam_onnx")):
        with pytest.raises(RuntimeError):
            examples.filled(wrong)
    with pytest.raises(RuntimeError, match="does not have these lines"):
        examples.filled("<!-- from: tools/models.py -->\n```python\nnot there\n```\n")


@pytest.mark.parametrize("name", sorted(set(PAGES) - GENERATED))
def test_every_block_has_a_language_and_every_mark_a_block(name):
    known = {"python", "console", "sh", "text", "cpp", "{image}", "{toctree}", "{eval-rst}"}
    assert {re.split(r"\s", block[3:], maxsplit=1)[0] for block in FENCE.findall(text(name))} <= known
    marks = re.findall(r"^<!-- (?!\w+:(?:begin|end))", text(name), re.MULTILINE)
    assert len(marks) == sum(block["mark"] is not None for block in examples.BLOCK.finditer(text(name)))


@pytest.mark.parametrize("name", PAGES)
def test_links_and_pictures_exist(name):
    for link in re.findall(r"\]\(([^)\s]+)\)|^```\{image\} (\S+)", text(name), re.MULTILINE):
        target, _, anchor = "".join(link).partition("#")
        if target.startswith("http"):
            continue
        path = PAGES[name].parent / (target or name)
        assert path.is_file(), f"{name} points to {target}"
        if anchor:
            anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings(path.name)}
            assert anchor in anchors, f"{name} points to {target}#{anchor}"


def test_no_folder_of_the_machine_that_wrote_a_page_stands_on_it():
    written = [*PAGES.values(), *(Path(__file__).parent.parent / "docs").glob("*.json")]
    folder = re.compile(r"(?<![\w.<])/(?:tmp|home|root|work|Users|var/folders)/\w[^\s`]*|[A-Z]:\\Users")
    assert {p.name: found for p in written if (found := folder.findall(p.read_text(encoding="utf-8")))} == {}


def test_the_pictures_are_what_the_commands_draw():
    for name, (model, layer) in draw.DOCS.items():
        assert (draw.IMAGES / name).read_text() == draw.draw(model, layer), "run: python -m tools.examples --write"
    assert floors.IMAGE.read_text() == floors.svg(), "run: python -m tools.examples --write"


def test_every_page_is_in_the_contents_and_ends_in_a_check():
    listed = re.findall(
        r"^([\w-]+)$", "".join(re.findall(r"```\{toctree\}(.*?)```", text("index.md"), re.DOTALL)), re.M
    )
    assert {f"{name}.md" for name in listed} == set(PAGES) - {"index.md"}
    without = [name for name in PAGES if name not in GENERATED | {"index.md"} and headings(name)[-1] != "Check"]
    assert without == []


@pytest.mark.parametrize(("page", "module"), [("api.md", cam_onnx), ("api-autodiff.md", autodiff)])
def test_every_public_name_has_an_entry(page, module):
    entries = re.findall(rf"^\.\. [\w:]+:: {module.__name__}\.(\w+)$", text(page), re.MULTILINE)
    assert sorted(entries) == sorted(module.__all__)


def test_every_exception_has_a_section_with_a_message_of_its_own():
    classes = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]
    sections = headings("errors.md")
    assert sections[-1] == "Check"
    assert sorted(sections[:-1]) == sorted(classes)
    for part in re.split(r"^## ", text("errors.md"), flags=re.MULTILINE)[2:-1]:
        name = part.split("\n", 1)[0]
        assert f"<!-- prints -->\n```text\n{name}: " in part, f"{name} has no example"
        assert "\n*Repair*: " in part


def test_every_field_of_the_contract_and_of_preprocess_is_described():
    from dataclasses import fields

    described = set(
        re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", text("deployment.md"), re.MULTILINE)))
    )
    assert {f.name for f in fields(cam_onnx.Contract)} - described == set()
    described = set(
        re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", text("preprocessing.md"), re.MULTILINE)))
    )
    assert {f.name for f in fields(cam_onnx.Preprocess)} - described == set()


def test_the_pages_name_files_that_exist():
    """`cam_onnx/...`, `tests/...` and the like in prose are files or folders of this tree."""
    root = Path(__file__).parent.parent
    for name in set(PAGES) - GENERATED:
        for path in re.findall(r"`((?:cam_onnx|tests|tools|models|benchmarks)/[\w/.]*)`", prose(name)):
            assert (root / path).exists(), f"{name} names {path}"


@pytest.mark.parametrize("target_input", ["optional", "required"])
@pytest.mark.parametrize("backend", ["onnxruntime", "reference"])
def test_what_the_deployment_page_calls_tried_is_tried(backend, target_input):
    from cam_onnx import engine
    from models.builders import BUILDERS, inputs

    network = BUILDERS["gap_linear"]()
    converted = cam_onnx.convert(network, target_input=target_input)
    run = engine.open(converted.to_bytes(), backend=backend).run
    target = np.array([3], np.int64)
    got = run({**inputs(network), "cam_target": target}, ["cam_class"])
    assert got["cam_class"].tolist() == [3, 3]
