"""Inputs with a default, for providers that take it for a constant, whatever is fed.

ONNX Runtime calls such inputs overridable initializers, and its CPU and CUDA honour them. OpenVINO (1.24.1) compiles
the default in and says nothing: `cam_target` would be the best class whichever was asked for. A session for it is made
of a model in which what is fed has no default.
"""

from __future__ import annotations

from collections.abc import Collection

from cam_onnx import wire

__all__ = ["FREEZES", "without_defaults"]

FREEZES = ("OpenVINOExecutionProvider",)
INITIALIZER, NAME = 5, 8  # fields of GraphProto and TensorProto


def without_defaults(model: bytes, names: Collection[str]) -> bytes:
    """Return a serialized model in which the inputs `names` are no initializers, so that they must be fed."""
    wanted = {name.encode() for name in names}

    def tensor(field: wire.Field) -> list[wire.Piece] | None:
        is_one = field.tag == INITIALIZER and any(
            part.tag == NAME and bytes(part.view) in wanted for part in wire.fields(field.view)
        )
        return [] if is_one else None

    def graph(field: wire.Field) -> list[wire.Piece] | None:
        return wire.message(wire.GRAPH, wire.changed(field.view, tensor)) if field.tag == wire.GRAPH else None

    return b"".join(wire.changed(memoryview(model), graph))
