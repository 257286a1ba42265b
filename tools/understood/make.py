"""One network's file and what is known of it, made once in a process of its own, into build/understood/."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cam_onnx import files
from tools.zoo.networks import Network

__all__ = ["KEPT", "made"]

KEPT = Path(__file__).parent.parent.parent / "build" / "understood"


def made(network: Network) -> tuple[Path, Path]:
    """Return the paths of a network's file and of what is known of it."""
    stem = network.name.replace("/", "_")
    return KEPT / f"{stem}.onnx", KEPT / f"{stem}.npz"


def make(network: Network) -> None:
    """Write both."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from tools.understood.reference import reference
    from tools.zoo.export import export, pictures
    from tools.zoo.export import make as build

    model = build(network)
    x = pictures(model, network)[:2]
    known = reference(model, network, x)
    file, beside = made(network)
    if not file.exists():
        files.write(file, export(model, network, x))
    np.savez(beside, allow_pickle=False, **known)
