"""Our maps beside those that pytorch-grad-cam, torch-cam, captum and zennit gave of the small networks: committed, so
that no PyTorch is needed here. `python -m tools.parity` writes them, and docs/parity.md, which has large ones too.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.shows import MODELS
from cam_onnx import Explainer
from cam_onnx.methods import METHODS
from models.synthetic import textured

pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parent.parent
REFERENCES = dict(np.load(ROOT / "tests" / "references" / "parity.npz"))
PAGE = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")


@cache
def ours(network, method):
    """The map of the class that the network predicts in a picture of two."""
    at = METHODS[method].at
    explainer = Explainer(
        MODELS / f"{network}.onnx", method=method, layers=None if at == "input" else "features", providers="cpu"
    )
    x = (textured(8, "bars", "checks").pixels.transpose(2, 0, 1)[None].astype(np.float32) - 128) / 64
    return explainer.explain(inputs={"image": x}).saliency[0]


@pytest.mark.parametrize("key", REFERENCES)
def test_our_map_is_theirs(key):
    network, _, method = key.split("/")
    theirs, found = REFERENCES[key], ours(network, method)
    if found.shape != theirs.shape:  # of an attribution to pixels every fourth was kept
        found = found[::4, ::4]
    assert np.linalg.norm(theirs) > 0
    assert np.linalg.norm(found - theirs) < 1e-4 * np.linalg.norm(theirs)


def test_the_references_hold_every_library_and_the_core_of_the_methods():
    found = {tuple(key.split("/")) for key in REFERENCES}
    assert {library for _, library, _ in found} == {"pytorch-grad-cam", "torch-cam", "captum", "zennit"}
    core = {
        "cam", "grad-cam", "xgrad-cam", "hires-cam", "element-wise-grad-cam", "layer-cam", "ablation-cam",
        "shapley-cam", "fem", "kpca-cam", "gradient", "input-x-gradient", "integrated-gradients",
        "guided-backprop", "deconvnet", "lrp",
    }  # fmt: skip
    assert core - {method for _, _, method in found} == set()
    assert {network for network, _, _ in found} == {"textures-average", "textures-linear"}
    assert (ROOT / "tests" / "references" / "parity.npz").stat().st_size < 200_000


def test_a_wrong_map_would_be_seen():
    theirs = REFERENCES["textures-linear/captum/grad-cam"]
    for wrong in ("hires-cam", "layer-cam", "xgrad-cam"):
        assert np.linalg.norm(ours("textures-linear", wrong) - theirs) > 0.02 * np.linalg.norm(theirs)


def test_every_difference_on_the_page_is_explained():
    assert "NOT EXPLAINED" not in PAGE
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        rows = dict(re.findall(r"^\| `(\S+)` \| (.*) \|$", part, re.MULTILINE))
        assert rows
        differ = {method for method, cells in rows.items() if "**" in cells}
        assert differ <= set(re.findall(r"^- `(\S+)`:", part, re.MULTILINE))


@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v2"])
def test_the_page_has_the_network_and_grad_cam_agrees(network):
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        if part.startswith("zennit"):  # which has no CAM
            continue
        header = re.search(r"^\| method \| (.*) \|$", part, re.MULTILINE)[1].split(" | ")
        cells = re.search(r"^\| `grad-cam` \| (.*) \|$", part, re.MULTILINE)[1].split(" | ")
        assert float(cells[header.index(network)]) < 1e-3
