"""What each library says: a map (N, *S) before ReLU and normalisation, in the library's own units."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import captum.attr
import numpy as np
import pytorch_grad_cam
import torch
import torchcam.methods
import zennit.attribution
import zennit.canonizers
import zennit.composites
import zennit.torchvision

from cam_onnx.methods import METHODS
from tools.parity.networks import Case

__all__ = ["LIBRARIES", "theirs"]

PYTORCH_GRAD_CAM = {
    "grad-cam": "GradCAM", "grad-cam++": "GradCAMPlusPlus", "xgrad-cam": "XGradCAM", "hires-cam": "HiResCAM",
    "element-wise-grad-cam": "GradCAMElementWise", "layer-cam": "LayerCAM", "eigen-cam": "EigenCAM",
    "eigen-grad-cam": "EigenGradCAM", "seg-eigen-cam": "SegEigenCAM", "kpca-cam": "KPCA_CAM", "fem": "FEM",
    "ablation-cam": "AblationCAM", "score-cam": "ScoreCAM", "shapley-cam": "ShapleyCAM", "finer-cam": "FinerCAM",
}  # fmt: skip
TORCH_CAM = {
    "cam": "CAM", "grad-cam": "GradCAM", "grad-cam++": "GradCAMpp", "xgrad-cam": "XGradCAM", "layer-cam": "LayerCAM",
    "score-cam": "ScoreCAM", "is-cam": "ISCAM", "finer-cam": "FinerCAM",
}  # fmt: skip
CAPTUM: dict[str, Callable[[Case, torch.Tensor], Any]] = {
    "grad-cam": lambda c, t: captum.attr.LayerGradCam(c.model, c.layer).attribute(c.x, target=t),
    "hires-cam": lambda c, t: captum.attr.LayerGradientXActivation(c.model, c.layer).attribute(c.x, target=t),
    "gradient": lambda c, t: captum.attr.Saliency(c.model).attribute(c.x, target=t, abs=False),
    "input-x-gradient": lambda c, t: captum.attr.InputXGradient(c.model).attribute(c.x, target=t),
    "integrated-gradients": lambda c, t: captum.attr.IntegratedGradients(c.model).attribute(
        c.x, target=t, n_steps=c.steps, method="gausslegendre"
    ),
    "guided-backprop": lambda c, t: captum.attr.GuidedBackprop(c.model).attribute(c.x, target=t),
    "deconvnet": lambda c, t: captum.attr.Deconvolution(c.model).attribute(c.x, target=t),
    "guided-grad-cam": lambda c, t: captum.attr.GuidedGradCam(c.model, c.layer).attribute(c.x, target=t),
}


def _grad_cam(case: Case, method: str) -> Any:
    kind = getattr(pytorch_grad_cam, PYTORCH_GRAD_CAM[method])
    cam = kind(model=case.model, target_layers=[case.layer], reshape_transform=case.grid if case.tokens else None)
    base, kept = getattr(cam, "base_cam", cam), []
    inner = base.get_cam_image

    def keep(*arguments: Any, **options: Any) -> Any:
        kept.append(inner(*arguments, **options))
        return kept[-1]

    base.get_cam_image = keep
    targets = [_target(method, c) for c in case.classes]
    cam(input_tensor=case.x, targets=None if method == "finer-cam" else targets)
    return np.asarray(kept[0])


def _target(method: str, c: int) -> Callable[[torch.Tensor], torch.Tensor]:
    if method == "shapley-cam":  # what the paper explains, and what we do by default
        return lambda y: y[c] + torch.log_softmax(y, -1)[c]
    return lambda y: y[c]


def _torch_cam(case: Case, method: str) -> Any:
    kind = getattr(torchcam.methods, TORCH_CAM[method])
    options = {"reshape_transform": case.grid} if case.tokens else {}
    torch.manual_seed(0)
    with kind(case.model, target_layer=case.layer, input_shape=tuple(case.x.shape[1:]), **options) as extractor:
        base = getattr(extractor, "base_cam", extractor)
        base._relu = False  # the map before it
        scores = case.model(case.x)
        needs = {"scores": scores} if getattr(base, "_score_used", True) else {}
        return extractor(class_idx=case.classes, normalized=False, **needs)[0].detach().numpy()


def _captum(case: Case, method: str) -> Any:
    found = CAPTUM[method](case, torch.tensor(case.classes)).detach()
    if case.tokens and METHODS[method].at == "layer" and (found.ndim < 3 or found.shape[1] == 1):
        raise ValueError("it sums over axis 1, where this network has its tokens: no map of positions is left")
    return case.grid(found).sum(1).numpy()


ZENNIT = {"lrp": "EpsilonPlus", "guided-backprop": "GuidedBackprop", "deconvnet": "DeconvNet"}


def _zennit(case: Case, method: str) -> Any:
    kinds: dict[str, Any] = {"resnet18": zennit.torchvision.ResNetCanonizer}
    if method == "lrp" and case.name not in kinds and not case.name.startswith(("textures", "vgg")):
        raise ValueError("no canonizer for this network is in it, and without one it does not see sums of branches")
    canonizer = kinds.get(case.name, zennit.canonizers.SequentialMergeBatchNorm)
    composite = getattr(zennit.composites, ZENNIT[method])(canonizers=[canonizer()] if method == "lrp" else None)
    chosen = torch.eye(case.model(case.x).shape[1])[case.classes]
    with zennit.attribution.Gradient(case.model, composite) as attributor:
        found = attributor(case.x.clone(), lambda y: (y.detach() if method == "lrp" else 1) * chosen)[1]
    return found.detach().sum(1).numpy()


LIBRARIES: dict[str, tuple[dict[str, Any], Callable[[Case, str], Any]]] = {
    "pytorch-grad-cam": (PYTORCH_GRAD_CAM, _grad_cam),
    "torch-cam": (TORCH_CAM, _torch_cam),
    "captum": (CAPTUM, _captum),
    "zennit": (ZENNIT, _zennit),
}


def theirs(case: Case, library: str, method: str) -> Any:
    """Return the library's map (N, *S).

    Raises
    ------
    Exception
        Whatever the library raises where it does not take the network.
    """
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        return np.asarray(LIBRARIES[library][1](case, method))
