"""Where the time goes: laps of one job, and rolling percentiles over many."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

WINDOW = 256


class Laps:
    """Milliseconds that one job spent in each stage."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the wall time of the block to stage `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.ms[name] = self.ms.get(name, 0.0) + 1e3 * (time.perf_counter() - start)


class Percentiles:
    """The last `WINDOW` values of one quantity."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=WINDOW)

    def add(self, value: float) -> None:
        """Take in one value."""
        self._values.append(value)

    def at(self, *percent: float) -> tuple[float, ...]:
        """Percentiles in the order asked for; NaN before the first value."""
        if not self._values:
            return tuple(float("nan") for _ in percent)
        return tuple(float(v) for v in np.percentile(list(self._values), percent))


class Stats:
    """Counters, rates and stage times of one node. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._stages: dict[str, Percentiles] = {}
        self._total = Percentiles()
        self._age = Percentiles()
        self._done: deque[float] = deque(maxlen=4096)  # 5 s at 800 Hz

    def count(self, kind: str, n: int = 1) -> int:
        """Add `n` to a counter and return its new value."""
        with self._lock:
            self._counts[kind] = self._counts.get(kind, 0) + n
            return self._counts[kind]

    def finished(self, laps: Laps, *, now_s: float, age_ms: float | None = None) -> None:
        """Take in one finished job.

        Args:
            laps: its stage times.
            now_s: monotonic time, seconds.
            age_ms: result time minus capture time, ms; None when the clocks can't be compared.
        """
        with self._lock:
            for name, ms in laps.ms.items():
                self._stages.setdefault(name, Percentiles()).add(ms)
            self._total.add(sum(laps.ms.values()))
            self._done.append(now_s)
            if age_ms is not None:
                self._age.add(age_ms)

    def counts(self) -> dict[str, int]:
        """All counters by name."""
        with self._lock:
            return dict(sorted(self._counts.items()))

    def rate_hz(self, now_s: float, window_s: float = 5.0) -> float:
        """Finished jobs a second over the last `window_s` seconds."""
        with self._lock:
            return sum(1 for t in self._done if now_s - t <= window_s) / window_s

    def age_ms(self) -> tuple[float, float]:
        """p50 and p95 of the age of results at publication, ms."""
        with self._lock:
            p50, p95 = self._age.at(50, 95)
            return p50, p95

    def total_ms(self) -> tuple[float, float]:
        """p50 and p95 of all stages of a job together, ms."""
        with self._lock:
            p50, p95 = self._total.at(50, 95)
            return p50, p95

    def stages_ms(self) -> dict[str, tuple[float, float]]:
        """Stage name -> (p50, p95), ms."""
        with self._lock:
            out = {}
            for name, p in self._stages.items():
                p50, p95 = p.at(50, 95)
                out[name] = (p50, p95)
            return out
