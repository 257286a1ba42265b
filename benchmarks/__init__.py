"""How fast it is, as ratios that hold on a noisy machine: ``python -m benchmarks``."""

from __future__ import annotations

import os

# Read once, when a library starts its threads: so before any of them is imported. A thread that spins while it waits
# takes the core from whoever is measured next to it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
