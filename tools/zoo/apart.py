"""One comparison in a process of its own: memory comes back, and an exporter that crashes takes nothing along."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from typing import Any

from tools.said import said
from tools.zoo.networks import NETWORKS

__all__ = ["apart"]


def apart(name: str) -> dict[str, Any]:
    """Return the row of the network called `name`."""
    context = multiprocessing.get_context("forkserver")  # torch is imported once
    context.set_forkserver_preload(["timm", "torchvision", "torch.onnx", "tools.zoo.compare"])
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_one, args=(name, theirs))
    process.start()
    theirs.close()
    try:
        row: dict[str, Any] = mine.recv()
    except EOFError:
        row = {}
    process.join()
    return row or {"network": name, "error": f"the process died (exit {process.exitcode})"}


def _one(name: str, pipe: Any) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # exporters print
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        from tools.zoo.compare import compare

        pipe.send(compare(NETWORKS[name]))
    except Exception as error:  # noqa: BLE001  (the table says what failed, and the next network has its turn)
        text = "".join(traceback.format_exception(error))
        pipe.send({"network": name, "error": f"{type(error).__name__}: {said(error)}"[:600], "traceback": text[-4000:]})
