"""The registry of benchmarks, and the one way in which they are measured.

Seconds of one run say little on a busy machine, and a ratio of two runs hardly more. What is compared runs side by
side, A B A B; the figure is the median over pairs, so that a slow minute hits both halves of a pair alike.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

__all__ = ["BENCHMARKS", "Benchmark", "Kind", "Pair", "Result", "benchmark", "measure"]

Kind = Literal["ratio", "difference", "seconds"]
SHORTEST = 0.02  # seconds a sample should last: below, the clock and the scheduler are measured


@dataclass(frozen=True)
class Pair:
    """What is measured: our callable beside the baseline's. `per` divides what has no baseline.

    `share`: the part of the baseline's work that is done, where all of it would take too long.
    """

    ours: Callable[[], object]
    baseline: Callable[[], object] | None = None
    per: float = 1.0
    share: float = 1.0


@dataclass(frozen=True)
class Benchmark:
    """One row of the table.

    Parameters
    ----------
    name : str
    prepare : callable
        Makes models and sessions, and returns the pair; its time is not measured.
    kind : {"ratio", "difference", "seconds"}
        ours / baseline; ours - baseline in seconds; ours / per in seconds.
    goal : float or None
        What the figure should not exceed. None: reported only.
    rounds : int
        Pairs that are measured, unless the command line says otherwise.
    means : str
        First paragraph of the function's docstring.
    needs : tuple of str
        Modules that are imported; without them it is left out.
    """

    name: str
    prepare: Callable[[], Pair]
    kind: Kind
    goal: float | None
    rounds: int
    means: str
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """What it needs and this machine has not."""
        return [name for name in self.needs if find_spec(name) is None]


@dataclass(frozen=True)
class Result:
    """The figure with its quartiles, and the medians of both sides in seconds."""

    name: str
    kind: Kind
    figure: float
    low: float
    high: float
    ours: float
    baseline: float | None
    goal: float | None
    met: bool | None
    rounds: int
    means: str


BENCHMARKS: dict[str, Benchmark] = {}
"""Every benchmark by name, in the order of registration."""


def benchmark(
    name: str, *, kind: Kind, goal: float | None = None, rounds: int = 31, needs: tuple[str, ...] = ()
) -> Callable[[Callable[[], Pair]], Callable[[], Pair]]:
    """Register the decorated function, which prepares a pair, under `name`."""

    def register(prepare: Callable[[], Pair]) -> Callable[[], Pair]:
        if name in BENCHMARKS:
            raise ValueError(f"benchmark {name!r} is registered already")
        means = " ".join((prepare.__doc__ or "").split("\n\n")[0].split())
        BENCHMARKS[name] = Benchmark(name, prepare, kind, goal, rounds, means, needs)
        return prepare

    return register


def measure(entry: Benchmark, rounds: int | None = None, clock: Callable[[], float] = time.perf_counter) -> Result:
    """Prepare a benchmark, warm both sides up, and measure `rounds` pairs."""
    pair = entry.prepare()
    sides = [pair.ours] if pair.baseline is None else [pair.ours, pair.baseline]

    def seconds(call: Callable[[], object], times: int) -> float:
        started = clock()
        for _ in range(times):
            call()
        return (clock() - started) / times

    shortest = min(seconds(side, 1) for side in sides)  # the first call allocates, compiles, reads from disk
    if shortest < 50 * SHORTEST:
        shortest = min(seconds(side, 1) for side in sides)
    times = max(1, min(1000, math.ceil(SHORTEST / max(shortest, 1e-9))))
    of_all = [1.0, pair.share][: len(sides)]
    samples = [
        [seconds(side, times) / part for side, part in zip(sides, of_all, strict=True)]
        for _ in range(rounds or entry.rounds)
    ]

    if entry.kind == "ratio":
        figures = [ours / baseline for ours, baseline in samples]
    elif entry.kind == "difference":
        figures = [ours - baseline for ours, baseline in samples]
    else:
        figures = [row[0] / pair.per for row in samples]
    low, figure, high = _quartiles(figures)
    return Result(
        name=entry.name,
        kind=entry.kind,
        figure=figure,
        low=low,
        high=high,
        ours=statistics.median(row[0] for row in samples),
        baseline=None if pair.baseline is None else statistics.median(row[1] for row in samples),
        goal=entry.goal,
        met=None if entry.goal is None else figure <= entry.goal,
        rounds=len(samples),
        means=entry.means,
    )


def _quartiles(figures: list[float]) -> tuple[float, float, float]:
    if len(figures) == 1:
        return figures[0], figures[0], figures[0]
    low, middle, high = statistics.quantiles(figures, n=4, method="inclusive")
    return low, middle, high
