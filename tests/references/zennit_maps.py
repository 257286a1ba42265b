"""Write zennit.npz beside this file: relevance of two seeded networks by zennit 0.5.1, an independent implementation.

Needs torch and zennit: ``python -m tests.references.zennit_maps``. The tests read the arrays alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx.numpy_helper import to_array

from models.builders import BUILDERS, inputs

NETWORKS = ("vgg_like", "residual")
CLASS = 2


def main() -> None:
    import torch
    from torch import nn
    from zennit import composites as zennits
    from zennit.attribution import Gradient
    from zennit.canonizers import NamedMergeBatchNorm
    from zennit.layer import Sum
    from zennit.rules import Epsilon, Norm
    from zennit.types import AvgPool, Convolution

    class Vgg(nn.Sequential):
        def __init__(self):
            super().__init__(
                nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(),
                nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(512, 16), nn.ReLU(), nn.Linear(16, 7),
            )  # fmt: skip

        def load(self, w):
            w["w4"] = w["w4"].T
            for i, layer in enumerate((self[0], self[3], self[7], self[9]), 1):
                fill(layer, w[f"w{i}"], w[f"b{i}"])

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.c0, self.c1 = (nn.Conv2d(i, 6, 3, padding=1, bias=False) for i in (3, 6))
            self.c2, self.c3 = nn.Conv2d(6, 8, 3, 2, 1, bias=False), nn.Conv2d(6, 8, 1, 2, bias=False)
            self.n0, self.n1, self.n2, self.n3 = (nn.BatchNorm2d(n) for n in (6, 6, 8, 8))
            self.n2.eps = 0.001
            self.r0, self.r1, self.r2 = (nn.ReLU() for _ in range(3))
            self.s1, self.s2 = Sum(), Sum()
            self.pool, self.last = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)

        def forward(self, x):
            a = self.r0(self.n0(self.c0(x)))
            b = self.r1(self.s1(torch.stack([self.n1(self.c1(a)), a], dim=-1)))
            c = self.r2(self.s2(torch.stack([self.n2(self.c2(b)), self.n3(self.c3(b))], dim=-1)))
            return self.last(self.pool(c).flatten(1))

        def load(self, w):
            for i in range(4):
                fill(getattr(self, f"c{i}"), w[f"w{i}"])
                norm = getattr(self, f"n{i}")
                fill(norm, w[f"n{i}_s"], w[f"n{i}_b"])
                norm.running_mean, norm.running_var = (torch.tensor(w[f"n{i}_{k}"]) for k in "mv")
            fill(self.last, w["w4"], w["b4"])

    def fill(layer, weight, bias=None):
        layer.weight.data = torch.tensor(np.ascontiguousarray(weight))
        if bias is not None:
            layer.bias.data = torch.tensor(bias)

    arrays = {}
    for name, network in zip(NETWORKS, (Vgg(), Residual()), strict=True):
        model = BUILDERS[name]()
        network.load({t.name: to_array(t).copy() for t in model.graph.initializer})
        network.double().eval()
        x = torch.tensor(inputs(model, 1)["image"]).double()
        for i in range(4) if name == "residual" else ():
            norm = getattr(network, f"n{i}")
            NamedMergeBatchNorm.merge_batch_norm([getattr(network, f"c{i}")], norm)
            norm.eps = 0.0  # zennit leaves it, so that what should be the identity divides by sqrt(1 + eps)
        low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        sums = [((Sum, AvgPool), Norm(1e-12))]  # ours divide by no sum, so that there is nothing to keep from 0
        composites = {
            "epsilon": zennits.LayerMapComposite(
                [*sums, *zennits.layer_map_base(), ((Convolution, nn.Linear), Epsilon())]
            ),
            "epsilon-plus": zennits.EpsilonPlus(layer_map=sums),
            "epsilon-gamma-box": zennits.EpsilonGammaBox(low, high, layer_map=sums),
            "epsilon-alpha2-beta1": zennits.EpsilonAlpha2Beta1(layer_map=sums),
            "epsilon-plus-flat": zennits.EpsilonPlusFlat(layer_map=sums),
            "epsilon-alpha2-beta1-flat": zennits.EpsilonAlpha2Beta1Flat(layer_map=sums),
            "epsilon-plus:epsilon=0.1": zennits.EpsilonPlus(epsilon=0.1, layer_map=sums),
            "epsilon-gamma-box:epsilon=0.1:gamma=1.0": zennits.EpsilonGammaBox(
                low, high, epsilon=0.1, gamma=1.0, layer_map=sums
            ),
        }
        for composite, how in composites.items():
            with Gradient(network, how) as attributor:
                y, found = attributor(x, lambda y: y * torch.eye(y.shape[1])[CLASS])
            arrays[f"{name}/{composite}"] = found[0].detach().numpy().astype(np.float32)
            print(name, composite, y[0, CLASS].item(), found.sum().item())
    np.savez_compressed(Path(__file__).with_name("zennit.npz"), **arrays)


if __name__ == "__main__":
    main()
