"""Methods that run the network many times: over the same batches bare in ONNX Runtime, and beside other libraries.

The networks are torchvision's with seeded weights, and need the extra `zoo`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.beside_torch import CLASS, ZOO, exported, said, torch_network
from benchmarks.harness import Pair, benchmark
from benchmarks.networks import session

__all__: list[str] = []

CAPTUM = (*ZOO, "captum")
CHANNELS = 64  # of the layer that masks are made of: ResNet-18's first stage
MASKS = 96  # of RISE, whose default is 2,000: a ratio is the same of fewer
WINDOW, STRIDE = 0.15, 0.15  # of occlusion, whose default stride is half of it
MEASURED = 1 / 32  # of pytorch-grad-cam's 2,048 runs of ResNet-50: two of its batches


def picture() -> Any:
    return np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)


def explained(model: bytes, method: str, options: dict[str, Any], layer: str | None = None) -> Callable[[], Any]:
    """Return what explains the picture, its sessions made and their threads not spinning while they wait."""
    import onnxruntime

    import cam_onnx

    class Still(onnxruntime.SessionOptions):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.add_session_config_entry("session.intra_op.allow_spinning", "0")

    x = picture()
    with patch.object(onnxruntime, "SessionOptions", Still):
        explainer = cam_onnx.Explainer(model, layers=layer, method=method, options=options, providers="cpu")
        explainer.explain(inputs={"input": x}, target=CLASS)  # parts are opened at first use
    return lambda: explainer.explain(inputs={"input": x}, target=CLASS)


def bare(count: int, back: bool, forward: int = 0) -> Callable[[], None]:
    """Return `count` pictures through ResNet-18, forwards or also back to the picture, in batches as large as ours."""
    import cam_onnx
    from cam_onnx.calls import batch_size

    plain = session(exported("resnet18"))
    data = exported("resnet18") if not back else cam_onnx.convert(exported("resnet18"), layers=["input"]).to_bytes()
    run = session(data) if back else plain
    x = picture()
    batch = np.repeat(x, min(count, batch_size(x.nbytes)), axis=0)
    outputs = ["cam_gradients"] if back else [plain.get_outputs()[0].name]

    def all_of_them() -> None:
        for at in range(0, count, len(batch)):
            run.run(outputs, {"input": batch[: count - at]})
        if forward:
            plain.run(None, {"input": batch[:forward]})

    return all_of_them


def stage() -> str:
    """Return the name of the value behind ResNet-18's first stage: the last Relu of 64 channels."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(exported("resnet18"))).graph
    channels = {v.name: v.type.tensor_type.shape.dim[1].dim_value for v in graph.value_info
                if len(v.type.tensor_type.shape.dim) == 4}  # fmt: skip
    return str([n.output[0] for n in graph.node if n.op_type == "Relu" and channels.get(n.output[0]) == CHANNELS][-1])


def windows() -> int:
    """Return how many windows occlusion has: as many along each side."""
    from cam_onnx.methods.occlusion import _starts

    return len(_starts(224, round(WINDOW * 224), round(STRIDE * 224))) ** 2


OPTIONS: dict[str, dict[str, Any]] = {"rise": {"masks": MASKS}, "occlusion": {"window": WINDOW, "stride": STRIDE}}


def over_bare(method: str, count: int, back: bool = False, forward: int = 0) -> Callable[[], Pair]:
    def prepare() -> Pair:
        layer = stage() if method == "score-cam" else None
        run = explained(exported("resnet18"), method, OPTIONS.get(method, {}), layer)
        return Pair(run, bare(count, back, forward))

    return prepare


def beside(method: str, theirs: Callable[[Any, Any], Callable[[], object]]) -> Callable[[], Pair]:
    def prepare() -> Pair:
        import torch

        layer = stage() if method == "score-cam" else None
        model = torch_network("resnet18").requires_grad_(True)
        run = explained(exported("resnet18"), method, OPTIONS.get(method, {}), layer)
        return Pair(run, theirs(model, torch.from_numpy(picture())))

    return prepare


def score_cam(model: Any, x: Any) -> Callable[[], object]:
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    found = ScoreCAM(model=model, target_layers=[model.layer1[-1]])
    return lambda: found(input_tensor=x, targets=[ClassifierOutputTarget(CLASS)])


def occlusion(model: Any, x: Any) -> Callable[[], object]:
    import captum.attr
    import torch

    side, step = round(WINDOW * 224), round(STRIDE * 224)

    def run() -> object:
        with torch.no_grad():
            return captum.attr.Occlusion(model).attribute(
                x, (3, side, side), strides=(3, step, step), target=CLASS, perturbations_per_eval=16
            )

    return run


def smooth_grad(model: Any, x: Any) -> Callable[[], object]:
    import captum.attr

    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(model))
    deviation = 0.15 * float(x.max() - x.min())
    return lambda: tunnel.attribute(
        x, nt_samples=25, nt_samples_batch_size=25, stdevs=deviation, target=CLASS, abs=False
    )


def integrated_gradients(model: Any, x: Any) -> Callable[[], object]:
    import captum.attr

    found = captum.attr.IntegratedGradients(model)
    return lambda: found.attribute(x, target=CLASS, n_steps=32, method="gausslegendre")


def ablation(closed: bool) -> Callable[[], Pair]:
    """Ablation-CAM with ResNet-50, whose head is pooling and one linear layer: only the closed form makes use of it."""

    def prepare() -> Pair:
        import torch
        from pytorch_grad_cam import AblationCAM
        from pytorch_grad_cam.ablation_layer import AblationLayer
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        import cam_onnx
        from cam_onnx.contract import KEY

        converted = cam_onnx.convert(exported("resnet50"), method="ablation-cam")
        if not closed:
            layers = tuple(replace(layer, head="other") for layer in converted.contract.layers)
            [entry] = [entry for entry in converted.proto.metadata_props if entry.key == KEY]
            entry.value = converted.contract.with_(layers=layers).to_json()
        model = torch_network("resnet50").requires_grad_(True)
        own = AblationLayer()  # not the default, which all share: it would be cut short twice
        theirs = AblationCAM(model=model, target_layers=[model.layer4[-1]], ablation_layer=own)
        inner = theirs.ablation_layer.activations_to_be_ablated
        theirs.ablation_layer.activations_to_be_ablated = lambda *given, **named: (every := inner(*given, **named))[
            : round(len(every) * MEASURED)
        ]
        x = torch.from_numpy(picture())
        return Pair(
            explained(converted.to_bytes(), "ablation-cam", {}),
            lambda: theirs(input_tensor=x, targets=[ClassifierOutputTarget(CLASS)]),
            share=MEASURED,
        )

    return prepare


def core() -> Pair:
    """Grad-CAM and its map at the picture's size in NumPy, 2048 x 7 x 7 to 224 x 224, over ResNet-50's forward pass."""
    from cam_onnx.methods import saliency
    from cam_onnx.methods.normalize import saliency_map

    A, g = np.random.default_rng(0).standard_normal((2, 1, 2048, 7, 7)).astype(np.float32)
    plain, x = session(exported("resnet50")), picture()
    return Pair(lambda: saliency_map(saliency(A, g), relu=True, size=(224, 224)), lambda: plain.run(None, {"input": x}))


def register() -> None:
    n = windows()
    for method, count in (("score-cam", CHANNELS + 1), ("rise", MASKS), ("occlusion", n + 1)):
        entry = benchmark(f"bare/{method}", kind="ratio", goal=1.1, rounds=5, needs=ZOO)
        entry(said(over_bare(method, count), f"{count} pictures of ResNet-18: the method over bare batches."))
    for method, count, forward in (("smooth-grad", 25, 0), ("integrated-gradients", 32, 2)):
        entry = benchmark(f"bare/{method}", kind="ratio", goal=1.1, rounds=5, needs=ZOO)
        entry(said(over_bare(method, count, True, forward),
                   f"{count} pictures of ResNet-18 forwards and back: the method over bare batches."))  # fmt: skip
    for method, theirs, library in (
        ("score-cam", score_cam, "pytorch-grad-cam"), ("occlusion", occlusion, "captum"),
        ("smooth-grad", smooth_grad, "captum"), ("integrated-gradients", integrated_gradients, "captum"),
    ):  # fmt: skip
        entry = benchmark(f"beside-{library}/{method}", kind="ratio", goal=1.0, rounds=5, needs=CAPTUM)
        entry(said(beside(method, theirs), f"The same map of ResNet-18, over {library}'s."))
    for closed, most in ((False, 1 / 20), (True, 1 / 100)):
        entry = benchmark(f"beside-pytorch-grad-cam/ablation-cam-{'closed' if closed else 'head'}", kind="ratio",
                          goal=most, rounds=3, needs=ZOO)  # fmt: skip
        how = "in closed form" if closed else "by 2,048 runs of its head"
        entry(said(ablation(closed), f"Ablation-CAM of ResNet-50, all channels, {how}, over pytorch-grad-cam's, of "
                   "which a thirty-second is measured."))  # fmt: skip
    benchmark("numpy-core/resnet50", kind="ratio", goal=0.03, rounds=31, needs=ZOO)(core)


register()
