"""A network's file, made in a process of its own: memory comes back, and an exporter that crashes takes nothing along.

This cannot stand in `__main__`: a process that is started afresh does not import that of a package.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback

from tools.understood.make import make
from tools.zoo.networks import NETWORKS

__all__ = ["make_apart"]


def make_apart(name: str) -> None:
    """Make the file and what is known of it; where that fails, say why on stderr."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["timm", "torchvision", "torch.onnx", "tools.understood.reference"])
    process = context.Process(target=_make, args=(name,))
    process.start()
    process.join()


def _make(name: str) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # exporters print
    try:
        make(NETWORKS[name])
    except Exception as error:  # noqa: BLE001  (what an exporter cannot do is no fault of ours; the next has its turn)
        print(f"{name}: not made: {''.join(traceback.format_exception_only(error)).strip()[:300]}", file=sys.stderr)
