"""A network of one convolution, run once: which providers a session really gets, and whether they compute.

What a runtime lists is what it was built with, and even a session that starts may fail at its first kernel. A
convolution, because on NVIDIA's hardware it needs all of the libraries (cuDNN is the one that is missing most often).
The network is spelled out as bytes, so that the trial needs no onnx.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cam_onnx.engine import Provider
from cam_onnx.engine.onnxruntime import describe, open  # noqa: A004
from cam_onnx.errors import RunFailed

__all__ = ["MODEL", "trial"]

# <ir_version: 7, opset_import: ["": 13]>
# trial (float[1,1,2,2] x, float[1,1,2,2] w) => (float[1,1,1,1] y) { y = Conv(x, w) }
MODEL = (
    b"\x08\x07:q"
    b'\n\x11\n\x01x\n\x01w\x12\x01y"\x04Conv:\x00'
    b"\x12\x05trial"
    b"Z\x1b\n\x01x\x12\x16\n\x14\x08\x01\x12\x10\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x02\n\x02\x08\x02"
    b"Z\x1b\n\x01w\x12\x16\n\x14\x08\x01\x12\x10\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x02\n\x02\x08\x02"
    b"b\x1b\n\x01y\x12\x16\n\x14\x08\x01\x12\x10\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x01\n\x02\x08\x01"
    b"B\x04\n\x00\x10\r"
)


def trial(providers: str | Sequence[Provider] | None = None) -> dict[str, Any]:
    """Run the network in ONNX Runtime.

    Parameters
    ----------
    providers : see `cam_onnx.engine.open`

    Returns
    -------
    dict
        What `describe` returns, and names of providers: `tried`, worth trying of what was asked for; `got`, what
        the session has; `note`, what was asked for and is not used, or None.

    Raises
    ------
    RunFailed
        No runtime, a broken one, a provider that was named and does not work, or a wrong result.
    """
    facts = describe()
    engine = open(MODEL, providers=providers)
    x = np.array([[[[1, 2], [3, 4]]]], np.float32)
    y = engine.run({"x": x, "w": x})["y"]
    if y.item() != 30:
        raise RunFailed(f"{engine.provider} computes wrongly: 1 + 4 + 9 + 16 came out as {y.item()}")
    return {**facts, "tried": list(engine.tried), "got": list(engine.got), "note": engine.note}
