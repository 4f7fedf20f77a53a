"""How long the stages took: percentiles and histograms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from robollm.eval.figures import Histogram
from robollm.metrics.bootstrap import Interval

PERCENTILES = (50, 95, 99)
BINS = 40


def latency(
    rows: Iterable[Mapping[str, float]], *, level: float = 0.95
) -> tuple[dict[str, Interval], dict[str, Histogram]]:
    """Percentiles and histograms of stage times.

    Limits are those order statistics between which a percentile lies, distribution-free: its rank
    is binomial, taken as normal (Conover, Practical Nonparametric Statistics, 3.2). nan: too few
    samples to have them.

    Args:
        rows: stage -> ms, of each sample; stages may differ.
        level: of the limits, two-sided.

    Returns:
        `latency_STAGE_p50`, `_p95` and `_p99`, ms; and `latency: STAGE` -> histogram in ms, its
        last bin ends at the slowest. `total` is the sum of a sample's stages.
    """
    stages: dict[str, list[float]] = {}
    for row in rows:
        if not row:
            continue
        for stage, ms in row.items():
            stages.setdefault(stage, []).append(ms)
        stages.setdefault("total", []).append(sum(row.values()))
    figures: dict[str, Interval] = {}
    pictures: dict[str, Histogram] = {}
    for stage, values in stages.items():
        ordered = np.sort(values)
        for percent in PERCENTILES:
            figures[f"latency_{stage}_p{percent}"] = _percentile(ordered, percent / 100, level)
        edges = np.linspace(0, max(float(ordered[-1]), 1e-3), BINS + 1)
        counts, _ = np.histogram(ordered, edges)
        pictures[f"latency: {stage}"] = Histogram(
            tuple(edges.tolist()), tuple(int(n) for n in counts), "ms"
        )
    return figures, pictures


def _percentile(ordered: NDArray[np.float64], q: float, level: float) -> Interval:
    n = len(ordered)
    z = NormalDist().inv_cdf((1 + level) / 2)
    spread = z * math.sqrt(n * q * (1 - q))
    low, high = math.floor(n * q - spread) - 1, math.ceil(n * q + spread)
    return Interval(
        float(np.quantile(ordered, q)),
        float(ordered[low]) if low >= 0 else math.nan,
        float(ordered[high]) if high < n else math.nan,
        n,
    )
