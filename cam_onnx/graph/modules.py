"""Modules of the framework that a node was exported from: PyTorch's exporters leave their names in the file.

The newer one writes them into the node's metadata, the older one and TensorFlow's into its name:
``/layer4/layer4.1/conv2/Conv``, where a module in a list repeats what it is in.
"""

from __future__ import annotations

import ast

import onnx_ir as ir

__all__ = ["modules"]

_KEY = "pkg.torch.onnx.name_scopes"


def modules(node: ir.Node) -> list[str]:
    """Return the modules that a node is in, from the outermost, with dots: ``["layer4", "layer4.1"]``."""
    if _KEY in node.metadata_props:
        try:
            scopes = ast.literal_eval(node.metadata_props[_KEY])
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return []
        is_list = isinstance(scopes, list) and all(isinstance(scope, str) for scope in scopes)
        return [scope for scope in scopes[:-1] if scope] if is_list else []
    found: list[str] = []
    before = ""
    for part in (node.name or "").strip("/").split("/")[:-1]:
        repeats = bool(before) and part.startswith(f"{before}.")
        path = f"{found[-1]}{part[len(before) :]}" if repeats else ".".join([*found[-1:], part])
        before = part
        found.append(path)
    return found
