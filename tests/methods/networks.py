"""A small network by hand for methods that run one: score and derivatives in closed form, so that twins can be exact.

``y(x) = sum_j v_j tanh(sum_p w_jp x_p + b_j)`` over every entry p of the picture; the activations of its layer are
``A = m x + n`` by channel, so that the head is the same network behind another first line.
"""

from __future__ import annotations

import numpy as np

__all__ = ["Network"]


class Network:
    """Score, gradient, Hessian of a picture (C, *S), and the calls that methods take."""

    def __init__(self, *shape: int, units: int = 3, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.w = rng.normal(size=(units, *shape)) / np.sqrt(np.prod(shape))
        self.v, self.b = rng.normal(size=units), rng.normal(size=units)
        self.runs = 0

    def score(self, x):
        self.runs += 1
        return float(self.v @ np.tanh(self._sums(x)))

    def gradient(self, x):
        self.runs += 1
        slopes = self.v * (1 - np.tanh(self._sums(x)) ** 2)
        return np.tensordot(slopes, self.w, axes=1)

    def hessian_times(self, x, direction):
        t = np.tanh(self._sums(x))
        bends = self.v * -2 * t * (1 - t**2)
        along = (self.w * direction).reshape(len(self.v), -1).sum(axis=1)
        return np.tensordot(bends * along, self.w, axes=1)

    def _sums(self, x):
        return (self.w * x).reshape(len(self.v), -1).sum(axis=1) + self.b

    # -- as methods call it -------------------------------------------------------------------------------------------

    def scores(self, variants, count):
        """`forward`, or `head`."""
        return map(self.score, variants)

    def gradients(self, variants, count):
        """`backward`."""
        return map(self.gradient, variants)

    def curvature(self, x):
        return lambda direction: self.hessian_times(x, direction[0])[None]
