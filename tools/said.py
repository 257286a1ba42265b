"""What an error said, as it may stand on a page: in one line, and without the folders of the machine that it was on."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

__all__ = ["said"]


def said(error: Exception, *folders: Path | str) -> str:
    """Return the error's text; files in `folders`, or in this machine's usual places, are called by their names.

    Not every path: values of a model are called ``/layer.0/Conv`` by PyTorch.
    """
    text = " ".join(str(error).split())
    usual = (tempfile.gettempdir(), Path.cwd(), Path.home(), sys.prefix, sys.base_prefix)
    for place in sorted({str(p) for p in (*folders, *usual)} - {"/", "."}, key=len, reverse=True):
        text = re.sub(rf"{re.escape(place)}/(?:[\w.+@-]+/)*", "", text)
    return text
