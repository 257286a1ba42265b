"""External tensors behind links out of the model's folder, as caches keep them: where they really lie.

`check_external` has checked every entry; onnx_ir by itself refuses to follow such a link when a value is read.
"""

from __future__ import annotations

import os

import onnx_ir as ir

__all__ = ["follow_links"]


def follow_links(graph: ir.Graph, folder: str) -> None:
    """Give the external initializers of a graph their folder: the model's, or the one that a link leads to."""
    ir.external_data.set_base_dir(graph, folder)
    home = os.path.join(os.path.realpath(folder), "")
    for value in graph.initializers.values():
        tensor = value.const_value
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        real = os.path.realpath(os.path.join(folder, tensor.location))
        if not real.startswith(home):
            value.const_value = ir.ExternalTensor(
                os.path.basename(real), tensor.offset, tensor.length, tensor.dtype, shape=tensor.shape,
                name=tensor.name or "", base_dir=os.path.dirname(real),
            )  # fmt: skip
