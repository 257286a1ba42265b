"""Files that travel with the package: inside the wheel, or models/ of a checkout."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from cam_onnx.errors import InputError

__all__ = ["home"]


def home() -> Path:
    """Return the folder of the bundled network, its labels and its pictures.

    Raises
    ------
    InputError
        It is missing.
    """
    package = Path(str(resources.files("cam_onnx")))
    for folder in (package / "_demo", package.parent / "models"):
        if (folder / "efficientnet-lite0.onnx").is_file():
            return folder
    raise InputError("the bundled network is missing: install cam-onnx from its wheel, or run in a checkout")
