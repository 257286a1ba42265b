"""Whether an array is the gradient of a function, told by differences of the function in its own precision.

The step is the one that changes the function by a fixed part of its size: larger ones meet kinks, smaller ones
rounding. What was really stepped, after rounding to the array's own type, is what counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx.contract import Axes
from cam_onnx.directions import GAUSSIANS, Direction, directions

__all__ = ["AGREES", "INCONCLUSIVE", "WRONG", "Finding", "examine"]

Array = NDArray[Any]
Function = Callable[[Array], float]

AGREES, WRONG, INCONCLUSIVE = "agrees", "wrong", "inconclusive"

STEP = 5e-4  # predicted change of the function, in parts of its size
ACROSS = STEP / 10  # in Gaussian directions, where the same change of the function is a far longer way
SMALLEST, SMALLER, LARGER, FAR = 1 / 10, 1 / 3, 2.0, 100.0
STEADY = 1e-3  # quotients of several steps that differ by less are one number
ENOUGH = 3  # directions that say "wrong"


@dataclass(frozen=True)
class Limits:
    """The relative error that passes along the gradient, and in Gaussian directions."""

    aligned: float
    gaussian: float


LAYER, IMAGE = Limits(3e-3, 0.1), Limits(1e-2, 0.3)


@dataclass(frozen=True)
class Finding:
    """What differences say of a gradient.

    Attributes
    ----------
    verdict : {"agrees", "wrong", "inconclusive"}
    error : float
        The largest relative error along the gradient; NaN where there is none.
    text : str
        Why it is not "agrees", or what is odd.
    runs : int
        How often the function was called.
    """

    verdict: str = AGREES
    error: float = math.nan
    text: str = ""
    runs: int = 0


def examine(
    function: Function,
    point: Array,
    gradient: Array,
    axes: Axes,
    size: float,
    *,
    image: bool = False,
    precision: float = 2**-24,
    seed: int = 0,
) -> Finding:
    """Compare a gradient with central differences.

    Parameters
    ----------
    function : callable
        Takes an array like `point`, returns a number.
    point, gradient : array
        Of one shape; steps are rounded to the type of `point`.
    axes : Axes
        Which axis has the channels, which are spatial.
    size : float
        Of the function's values, as a difference of them is judged.
    image : bool
        The wider limits of a network's input, where there are more kinks.
    precision : float
        Relative rounding of the function's values.
    seed : int
        Of masks and Gaussian directions.
    """
    counted = _Counted(function, point, gradient.astype(np.float64), size)
    odd = _not_to_be_stepped(counted, point, gradient, size)
    if odd is not None:
        return odd
    limits = IMAGE if image else LAYER
    if precision / STEP > limits.aligned / 3:
        return Finding(
            INCONCLUSIVE,
            text=f"the score is rounded to {precision:.0e} of its size, more than the steps of {STEP:g} can bear",
            runs=counted.runs,
        )
    rng = np.random.default_rng(seed)
    if not counted.gradient.any():
        return _of_zero(counted, point, rng)
    finding = _along(counted, np.ones(point.shape), axes, image, rng)
    if finding.verdict == AGREES:
        return finding
    free = _untied(point)
    if free.all() or not (counted.gradient * free).any():
        return finding
    again = _along(counted, free, axes, image, rng)
    if again.verdict != AGREES:
        return replace(finding, runs=counted.runs)
    tied = free.size - int(free.sum())
    text = f"not judged at {tied} of {free.size} entries that equal others, as 0 does behind a Relu: ties of a maximum"
    return replace(again, text=text)


def _untied(point: Array) -> Array:
    """Return 1 where an entry has no equal, else 0."""
    _, where, counts = np.unique(point.ravel(), return_inverse=True, return_counts=True)
    return np.asarray((counts == 1)[where].reshape(point.shape), np.float64)


def _along(counted: _Counted, free: Array, axes: Axes, image: bool, rng: np.random.Generator) -> Finding:
    """Judge every direction; entries where `free` is 0 stay as they are."""
    limits = IMAGE if image else LAYER
    worst, verdict, texts, count = 0.0, AGREES, [], 0
    for direction in directions(counted.gradient, free, axes, image, rng):
        count += 1
        limit = limits.aligned if direction.aligned else limits.gaussian
        found, error, text = _judge(counted, direction, limit)
        if direction.aligned:
            worst = max(worst, error)
        if found != AGREES:
            texts.append((found, direction.aligned, error, text))
            verdict = found if verdict != WRONG else WRONG
        if sum(found == WRONG for found, *_ in texts) == ENOUGH:
            break
    finding = Finding(verdict, worst, runs=counted.runs)
    if texts:
        # the verdict's own text, of the largest error
        _, aligned, _, text = max((t for t in texts if t[0] == verdict), key=lambda t: (t[1], t[2]))
        across = "" if aligned else "across the gradient: "
        finding = replace(finding, text=f"{across}{text} ({len(texts)} of {count} directions)")
    return finding


@dataclass(frozen=True)
class _Quotients:
    """Measured over predicted change: between both ends of a step, and from the point to each of them. 1 is right.

    Across the gradient, where little is predicted, it is 1 and the error in units of what is typical. `change`: the
    measured one.
    """

    between: float
    ahead: float
    behind: float
    change: float


class _Counted:
    """The function, counting its calls, and steps from the point."""

    def __init__(self, function: Function, point: Array, gradient: Array, size: float) -> None:
        self.function, self.point, self.gradient, self.size, self.runs = function, point, gradient, size, 0
        self.origin = self(point)

    def __call__(self, point: Array) -> float:
        self.runs += 1
        return float(self.function(point))

    def step(self, vector: Array, length: float) -> tuple[Array, Array]:
        """Return both ends of the step, rounded to the point's type."""
        base = self.point.astype(np.float64)
        return tuple((base + sign * length * vector).astype(self.point.dtype) for sign in (1, -1))  # type: ignore[return-value]

    def quotients(self, direction: Direction, times: float = 1) -> _Quotients:
        """Take a step, `times` the usual one, to both sides."""
        part = STEP if direction.aligned else ACROSS
        ends = self.step(direction.vector, times * part * self.size / direction.unit)
        values = [self(end) for end in ends]
        base = self.point.astype(np.float64)
        steps = [end.astype(np.float64) - base for end in ends]
        length = float(np.linalg.norm(direction.vector))

        def quotient(change: float, stepped: Array) -> float:
            predicted = float(np.vdot(self.gradient, stepped))
            typical = predicted if direction.aligned else direction.unit * float(np.linalg.norm(stepped)) / length
            return 1 + (change - predicted) / typical if typical else math.nan

        return _Quotients(
            quotient(values[0] - values[1], steps[0] - steps[1]),
            quotient(values[0] - self.origin, steps[0]),
            quotient(self.origin - values[1], -steps[1]),
            values[0] - values[1],
        )


def _judge(counted: _Counted, direction: Direction, limit: float) -> tuple[str, float, str]:
    """Return verdict, relative error and text of one direction.

    A derivative is the limit of short steps, so that what passes at the smallest of them passes, and where a gate flips
    on one side of the point, what passes on the other. Wrong needs more than a quotient that is off: several steps have
    to agree on it, and both of their halves, since at a kink (a tie of a maximum, a Relu at 0) any number between the
    two one-sided derivatives is a right answer.
    """
    first = counted.quotients(direction)
    if abs(first.between - 1) <= limit:
        return AGREES, abs(first.between - 1), ""
    for times in (SMALLEST, SMALLER):
        near = counted.quotients(direction, times)
        small, ahead, behind = near.between, near.ahead, near.behind
        if abs(small - 1) <= limit:
            return AGREES, abs(small - 1), ""
        side = min(abs(ahead - 1), abs(behind - 1))
        if side <= limit < abs(ahead - behind):
            return AGREES, side, ""
    steps = [near, first, counted.quotients(direction, LARGER)]
    seen, changes = [step.between for step in steps], [step.change for step in steps]
    if not all(map(math.isfinite, (*seen, ahead, behind))):
        return INCONCLUSIVE, math.inf, "the score is not finite beside this point, or the step is lost in rounding"
    if not any(changes) and counted.quotients(direction, FAR if direction.aligned else FAR * STEP / ACROSS).change:
        return INCONCLUSIVE, 1.0, "a staircase: the score changes by longer steps only, as in quantised models"
    error, spread = min(abs(q - 1) for q in seen), max(seen) - min(seen)
    listed = ", ".join(f"{q:.4g}" for q in seen)
    steady = spread <= max(STEADY, error / 10)
    if steady and abs(ahead - behind) < error:
        return WRONG, abs(small - 1), f"differences say {small:.4g} of what the gradient says, whatever the step"
    if steady:
        return (
            INCONCLUSIVE,
            abs(small - 1),
            f"a kink at this very point: {ahead:.4g} of the predicted change ahead, {behind:.4g} behind",
        )
    return INCONCLUSIVE, abs(small - 1), f"kinks: {listed} of the predicted change with growing steps"


def _not_to_be_stepped(counted: _Counted, point: Array, gradient: Array, size: float) -> Finding | None:
    for what, value in (("the score", np.array([counted.origin, size])), ("the layer", point)):
        if not np.isfinite(value).all():
            return Finding(INCONCLUSIVE, text=f"{what} itself is not finite for this input", runs=counted.runs)
    bad = int((~np.isfinite(gradient)).sum())
    if bad:
        text = f"the gradient is NaN or infinite at {bad} of {gradient.size} positions, while the score is finite"
        return Finding(WRONG, text=text, runs=counted.runs)
    if size == 0:
        return Finding(INCONCLUSIVE, text="all scores are 0: there is no size to step by", runs=counted.runs)
    return None


def _of_zero(counted: _Counted, point: Array, rng: np.random.Generator) -> Finding:
    """A gradient of zeros predicts no change: look for one, at steps of 1e-3 of the layer's size."""
    largest = [0.0, 0.0]
    scale = float(np.sqrt(np.mean(np.square(point.astype(np.float64))))) or 1.0
    for _ in range(GAUSSIANS):
        vector = rng.standard_normal(point.shape)
        for i, part in enumerate((1e-3, 1e-3 / 3)):
            ahead, behind = (counted(end) for end in counted.step(vector, part * scale))
            largest[i] = max(largest[i], abs(ahead - behind) / counted.size)
    if min(largest) <= 1e-6:
        return Finding(AGREES, text="the gradient is zero, and the score does not change either", runs=counted.runs)
    steady = 2 < largest[0] / largest[1] < 4
    found = "the gradient is zero everywhere, but the score changes"
    if steady:
        return Finding(WRONG, math.inf, f"{found} in proportion to the step", counted.runs)
    return Finding(INCONCLUSIVE, math.inf, f"{found}, not in proportion to the step (kinks)", counted.runs)
