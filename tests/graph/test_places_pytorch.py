"""Transformers on pictures that are not square: the map's places are the framework's, and a patch that moves moves it.

Networks are timm's with fewer and narrower blocks, weights seeded, exported by both exporters. Beside them stands
Grad-CAM as autograd makes it of the framework's own values, laid out as the framework lays them out.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pytest

import cam_onnx
from tests.graph.test_tokens import rearranged

pytestmark = pytest.mark.zoo

SMALL = dict(depth=3, embed_dim=48, num_heads=3)
WINDOWS = dict(depths=(2, 2), embed_dim=16, num_heads=(2, 4))
# name -> timm's network, its options, the grid; one token is read of the first group, all of the others' grid
READ_ONE = {
    "vit": ("vit_tiny_patch16_224", dict(img_size=(64, 96), **SMALL), (4, 6)),
    "deit": ("deit_tiny_distilled_patch16_224", dict(img_size=(64, 96), **SMALL), (4, 6)),
    "deit3": ("deit3_small_patch16_224", dict(img_size=(64, 96), **SMALL), (4, 6)),
    "dinov2 with registers": ("vit_small_patch14_reg4_dinov2", dict(img_size=(56, 84), **SMALL), (4, 6)),
    "the image tower of CLIP": ("vit_base_patch16_clip_224", dict(img_size=(48, 80), **SMALL), (3, 5)),
}
READ_ALL = {
    "vit, averaged": ("vit_tiny_patch16_224", dict(img_size=(64, 96), global_pool="avg", **SMALL), (4, 6)),
    "swin": ("swin_tiny_patch4_window7_224", dict(img_size=(56, 112), window_size=7, **WINDOWS), (7, 14)),
    "swin, windows that are filled up": (
        "swin_tiny_patch4_window7_224", dict(img_size=(48, 80), window_size=4, **WINDOWS), (6, 10),
    ),
    "swinv2": ("swinv2_tiny_window8_256", dict(img_size=(64, 128), window_size=4, **WINDOWS), (8, 16)),
    "maxvit": ("maxvit_pico_rw_256", dict(img_size=(64, 128)), (2, 4)),
}  # fmt: skip
EXPORTERS = {"newer": dict(dynamo=True, opset_version=18, verbose=False), "older": dict(dynamo=False, opset_version=17)}


@pytest.fixture(autouse=True)
def _installed():
    pytest.importorskip("torch")
    pytest.importorskip("timm")


def made(name: str, options: dict[str, Any], places: bool = True) -> Any:
    """The network with seeded weights; `places=False`: without position embeddings."""
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10, exportable=True, **options).eval()
    for key, parameter in model.named_parameters():
        if parameter.numel() > 1 and parameter.abs().max() < 1e-3:  # starts at zero, or nearly
            torch.nn.init.normal_(parameter, std=0.1)
        if "pos_embed" in key:
            torch.nn.init.normal_(parameter, std=0.3 if places else 0)
    return model


def exported(model: Any, x: Any, exporter: str) -> bytes:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "older":
            written = io.BytesIO()
            torch.onnx.export(model, (x,), written, **EXPORTERS[exporter])
            return written.getvalue()
        data: bytes = torch.onnx.export(model, (x,), **EXPORTERS[exporter]).model_proto.SerializeToString()
        return data


def grad_cam(model: Any, x: Any, target: int, grid: tuple[int, int], last_attention: bool) -> np.ndarray:
    """Grad-CAM by autograd, signed, (h, w): of what the last attention reads, else of `forward_features`."""
    import torch

    kept = []

    def keep(_: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        value = given[0].detach().clone().requires_grad_()
        kept.append(value)
        return (value, *given[1:])

    if last_attention:
        handle = model.blocks[-1].attn.register_forward_pre_hook(keep)
        # the residual around it keeps its own copy, as the graph does
        score = model(x)[0, target]
        handle.remove()
    else:
        kept.append(model.forward_features(x).detach().requires_grad_())
        score = model.forward_head(kept[0])[0, target]
    [gradient] = torch.autograd.grad(score, kept)
    values, gradients = (_laid_out(v.detach().numpy()[0], grid) for v in (kept[0], gradient))
    return np.tensordot(gradients.mean(axis=(1, 2)), values, 1)


def _laid_out(value: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """(K, h, w), of a list without what stands before the grid, or of a grid with channels first or last."""
    if value.ndim == 2:
        return value[len(value) - grid[0] * grid[1] :].T.reshape(-1, *grid)
    return value if value.shape[1:] == grid else value.transpose(2, 0, 1)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", [*READ_ONE, *READ_ALL])
def test_the_map_s_places_are_the_framework_s(name, exporter):
    import torch

    network, options, grid = (READ_ONE | READ_ALL)[name]
    model = made(network, options)
    x = torch.randn(1, 3, *options["img_size"], generator=torch.Generator().manual_seed(1))
    explainer = cam_onnx.Explainer(exported(model, x, exporter))
    [image] = {explainer.contract.roles["image"]}
    ours = explainer.explain(inputs={image: x.numpy()}, target=3)
    assert ours.saliency.shape == (1, *grid)
    theirs = grad_cam(model, x, 3, grid, last_attention=name in READ_ONE)
    assert theirs.std() > 1e-2 * np.abs(theirs).max() > 0
    np.testing.assert_allclose(ours.saliency[0], theirs, rtol=0, atol=2e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("name", [*READ_ONE, "vit, averaged"])
def test_a_patch_that_moves_moves_in_the_map(name):
    """Without position embeddings a transformer of patches is equivariant to any order of them."""
    import torch

    network, options, grid = (READ_ONE | READ_ALL)[name]
    model = made(network, options, places=False)
    height, width = options["img_size"]
    x = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1)).numpy()
    order = np.random.default_rng(2).permutation(grid[0] * grid[1])
    explainer = cam_onnx.Explainer(exported(model, torch.from_numpy(x), "newer"))
    [image] = {explainer.contract.roles["image"]}
    pictures = (x, np.ascontiguousarray(rearranged(x, order, height // grid[0])))
    here, there = (explainer.explain(inputs={image: one}, target=3).saliency for one in pictures)
    expected = rearranged(here, order, 1)
    np.testing.assert_allclose(there, expected, rtol=0, atol=2e-4 * np.abs(expected).max())
    assert np.abs(there - here).max() > 1e-2 * np.abs(here).max()
