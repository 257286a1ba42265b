"""Small text files beside a model: found, and read only where they lie with it.

A link is followed into the model's folder or into the one where the model itself really lies (caches keep both under
their hashes), and nowhere else: what is read here may end in a converted file that is given away.
"""

from __future__ import annotations

import os
from typing import Any

from cam_onnx import files
from cam_onnx.errors import CamOnnxError, shown

__all__ = ["Beside", "Unusable", "of_source"]

LIMIT = 8 << 20
UP = ("onnx",)  # folders for one format's files, with what describes the model above them


class Unusable(ValueError):
    """What a source says cannot be understood; the message says why."""


class Beside:
    """What lies beside a model; nothing where its path is not known.

    Attributes
    ----------
    folder : str or None
    stem : str
        The model's file name without .onnx and .cam.onnx.
    """

    def __init__(self, path: str | None) -> None:
        self.folder = None if path is None else os.path.dirname(os.path.abspath(path))
        self.stem = "" if path is None else os.path.basename(path).removesuffix(".onnx").removesuffix(".cam")
        self._roots = []
        if path is not None and self.folder is not None:
            real = os.path.realpath(path)
            self._roots = [os.path.realpath(self.folder), os.path.dirname(real)]

    def above(self) -> str | None:
        """Return the folder above, where this one is only a part of a model's: ``onnx/``, or a version's ``1/``."""
        if self.folder is None:
            return None
        name = os.path.basename(self.folder)
        return os.path.dirname(self.folder) if name in UP or name.isdecimal() else None

    def text(self, name: str, up: bool = False) -> str | None:
        """Return a file's text; None: there is no such file.

        Parameters
        ----------
        name : str
            Relative to the model's folder.
        up : bool
            Look into the folder above as well, if that is part of the model.

        Raises
        ------
        Unusable
            Not a readable text file within the model's folder, or of more than 8 MiB.
        """
        folders = [folder for folder in (self.folder, self.above() if up else None) if folder is not None]
        for folder in folders:
            path = os.path.join(folder, name)
            if not os.path.lexists(path):
                continue
            roots = [*self._roots, os.path.realpath(folder)]
            real = os.path.realpath(path)
            if not any(real.startswith(os.path.join(root, "")) for root in roots):
                raise Unusable("it lies outside of the model's folder")
            try:
                return files.read(path, what="file", limit=LIMIT, todo="nothing").decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise Unusable(f"not UTF-8 text ({error.reason} at byte {error.start})") from None
            except CamOnnxError as error:
                raise Unusable(str(error).replace(f"{shown(path)}: ", "")) from None
        return None


def of_source(model: Any) -> Beside:
    """Return what lies beside what a model is loaded from: of a path, else nothing."""
    return Beside(os.fspath(model) if isinstance(model, (str, os.PathLike)) else None)
