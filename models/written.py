"""What the training scripts share: a trained network as a file, and their command."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import onnx
import torch
from torch import nn

__all__ = ["MODELS", "export", "run"]

MODELS = Path(__file__).parent


def export(
    model: nn.Module, given: str, shape: tuple[int, ...], output: str, kind: str = "Relu", at: int = -1
) -> bytes:
    """Return the file: opset 17, a dynamic batch, and what operator `at` of a `kind` gives called ``features``."""
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(1, *shape),), written, dynamo=False, opset_version=17, input_names=[given],
            output_names=[output], dynamic_axes={given: {0: "batch"}, output: {0: "batch"}},
        )  # fmt: skip
    proto = onnx.load_from_string(written.getvalue())
    last = [node for node in proto.graph.node if node.op_type == kind][at].output[0]
    for node in proto.graph.node:
        node.doc_string = ""
        for names in (node.input, node.output):
            names[:] = ["features" if value == last else value for value in names]
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString()
    return data


def run(names: Iterable[str], made: Callable[[str], bytes]) -> int:
    """Write the files of these names into models/."""
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    for name in names:
        started = time.perf_counter()
        path = MODELS / f"{name}.onnx"
        path.write_bytes(made(name))
        print(f"{path.name}: {path.stat().st_size:,} bytes, {time.perf_counter() - started:.0f} s")
    return 0
