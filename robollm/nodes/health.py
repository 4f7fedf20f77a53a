"""Facts about a node for /diagnostics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from robollm.runtime.perceiver import Perceiver
from robollm.runtime.timing import Stats

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
NOT_MEASURED = "not measured"


@dataclass(slots=True)
class Report:
    """What a node tells of itself, worst fact first in `message`.

    Attributes:
        name: full node name.
        hardware_id: short digest of the bundle, so that a log shows which models ran.
        problems: (level, text).
        values: key -> value, in the order of publication.
    """

    name: str
    hardware_id: str = ""
    problems: list[tuple[bytes, str]] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    def put(self, key: str, value: object) -> None:
        """Add one fact; numbers get three significant decimals, NaN becomes `not measured`."""
        if isinstance(value, float):
            self.values[key] = NOT_MEASURED if math.isnan(value) else f"{value:.3f}"
        else:
            self.values[key] = str(value)

    def put_all(self, prefix: str, values: Mapping[str, object]) -> None:
        """Add several facts under a prefix."""
        for key, value in values.items():
            self.put(f"{prefix}{key}", value)

    def add_models(self, perceiver: Perceiver) -> None:
        """Which models run, and a warning if they are untrained."""
        bundle = perceiver.bundle
        self.hardware_id = bundle.sha256[:12]
        self.put("bundle", f"{bundle.name} {bundle.version}")
        self.put("bundle_sha256", bundle.sha256)
        self.put("bundle_status", bundle.status)
        self.put("provider", perceiver.config.provider)
        self.put("precision", perceiver.precision)
        self.put("threads", perceiver.config.threads or "one per core")
        self.put_all("where_", perceiver.where)
        # A copy: another thread may count a view for the first time meanwhile.
        self.put_all("fusion_left_out_", dict(perceiver.left_out))
        for name in ("batch_max", "runs", "rows", "shared_runs", "cache_hits"):
            self.put(f"backbone_{name}", getattr(perceiver.backbone, name))
        if not bundle.trained:
            self.problems.append((WARN, "UNTRAINED bundle: results mean nothing"))

    def add_stats(self, stats: Stats, now_s: float) -> None:
        """Rate, age, stage times and counters."""
        self.put("rate_hz", stats.rate_hz(now_s))
        self.put_all("age_ms_", dict(zip(("p50", "p95"), stats.age_ms(), strict=True)))
        for name, (p50, p95) in stats.stages_ms().items():
            self.put(f"stage_{name}_ms_p50", p50)
            self.put(f"stage_{name}_ms_p95", p95)
        self.put_all("total_ms_", dict(zip(("p50", "p95"), stats.total_ms(), strict=True)))
        self.put_all("count_", stats.counts())

    def status(self, summary: str) -> DiagnosticStatus:
        """The message; `summary` is its text when nothing is wrong."""
        worst = sorted(self.problems, key=lambda p: p[0], reverse=True)
        return DiagnosticStatus(
            level=worst[0][0] if worst else OK,
            name=self.name,
            message="; ".join(text for _, text in worst) or summary,
            hardware_id=self.hardware_id,
            values=[KeyValue(key=k, value=v) for k, v in self.values.items()],
        )


def rss_mb() -> float:
    """Resident memory of this process, MB; NaN where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return float("nan")
    return pages * 4096 / 1e6
