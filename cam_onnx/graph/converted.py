"""A converted model: what `convert` returns, as bytes or as a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import onnx

from cam_onnx.autodiff.weights import Held, filled, pieces
from cam_onnx.contract import Contract
from cam_onnx.external import External
from cam_onnx.graph.save import save
from cam_onnx.kinds import Kind

__all__ = ["Converted"]


@dataclass(frozen=True)
class Converted:
    """A converted model.

    Attributes
    ----------
    contract : Contract
    notes : list of str
        What its user should know, a line each.
    proto : onnx.ModelProto
        Without the data of `weights`.
    weights : dict of Held
        In the original's bytes.
    external : list of External
        Checked entries of external data, which still point to the original's files.
    kind : Kind or None
        Of the target; None: the logit of a class.
    """

    contract: Contract
    notes: list[str]
    proto: onnx.ModelProto
    weights: Mapping[str, Held] = field(default_factory=dict)
    external: list[External] = field(default_factory=list)
    kind: Kind | None = None

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The whole message; what was external in the original points to its files."""
        return filled(self.proto, self.weights)

    def to_bytes(self) -> bytes:
        """Return the file's bytes; the same model and arguments give the same bytes."""
        return b"".join(pieces(self.proto, self.weights))

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write the file, and ``<path>.data`` beside it if the original has external data.

        Returns
        -------
        str
            The path.

        Raises
        ------
        WriteFailed
            Nothing was written, or what was there before is intact.
        """
        save(self.proto, self.weights, self.external, path)
        return os.fspath(path)
