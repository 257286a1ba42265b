"""The site: Markdown pages and the docstrings. `make docs` builds it, warnings are errors, nothing is fetched."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import cam_onnx  # noqa: E402

project = "cam_onnx"
author = "The cam_onnx authors"
version = release = cam_onnx.__version__
project_copyright = author

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"cam_onnx {release}"
html_copy_source = html_show_sphinx = False
html_css_files = ["wide.css"]
html_static_path = ["_static"]

default_role = "code"  # one backtick in a docstring is code, as in Markdown
napoleon_google_docstring = False
napoleon_use_ivar = True  # attributes as a list; each as an entry of its own would document a dataclass twice
autodoc_typehints = "none"  # the docstrings say more than the annotations do
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
add_module_names = False


def escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Write ``*S`` and ``**options`` of a docstring as reStructuredText takes them."""
    lines[:] = [re.sub(r"(?<![`*\w\\])(\*{1,2})(?=[A-Za-z])", lambda m: "\\*" * len(m[1]), line) for line in lines]


def setup(app: Any) -> None:
    """Run `escape` before napoleon sees a docstring."""
    app.connect("autodoc-process-docstring", escape, priority=100)
