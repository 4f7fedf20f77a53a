"""How fast does the simulator make pictures? Totes, picks, references; one and two processes.

`python bench/sim_rate.py` writes results/sim_rate.json. Jobs are those of `robollm sim dataset`, in
its worker processes, files and labels included. A case starts jobs for a fixed time and lets the
last ones end. Rates are what was made by the seconds that processes were at work, times the number
of processes: neither starting them nor each one's first job counts. For every case:

- pictures_per_min: images of totes or picks, or reference pictures;
- jobs_per_min: new totes (one drop each), picks, products;
- cpu_s_per_picture: processor time, which load from elsewhere distorts less;
- rss_mib: a worker's resident memory after its first job, half of them and all; the largest worker.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from robollm.sim.dataset.jobs import Studio
from robollm.sim.dataset.plan import DatasetSettings, Job, plan
from robollm.sim.dataset.workers import run_jobs

ROOT = Path(__file__).resolve().parent.parent
SIZES = ("384x288", "640x480")
PROCESSES = (1, 2)
LIBRARIES = ("mujoco", "numpy", "opencv-python-headless", "pillow")


@dataclass(frozen=True)
class Case:
    """What to measure: `share` of the whole time for each number of processes."""

    kind: str
    size: str
    variants: int
    share: float

    @property
    def name(self) -> str:
        """The row's name in the results."""
        if self.kind != "tote":
            return f"{self.kind}s"
        return f"totes {self.size}, {self.variants} picture{'s' * (self.variants > 1)} per drop"


CASES = (
    Case("tote", SIZES[0], 6, 0.16),
    Case("tote", SIZES[1], 6, 0.14),
    Case("tote", SIZES[0], 1, 0.07),
    Case("tote", SIZES[1], 1, 0.05),
    Case("pick", SIZES[0], 1, 0.05),
    Case("product", SIZES[0], 1, 0.03),
)


@dataclass(frozen=True)
class Done:
    """What one job took; `wall` and `cpu` in seconds."""

    worker: int
    pictures: int
    items: int
    wall: float
    cpu: float
    rss_mib: float


class Desk:
    """A studio with a stopwatch."""

    def __init__(self, root: Path, settings: DatasetSettings) -> None:
        self._studio = Studio(root, settings)

    def run(self, job: Job) -> Done:
        """Do a job; files are written as in a real run."""
        wall, cpu = time.perf_counter(), time.process_time()
        record = self._studio.run(job)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        made = int(record.get("pictures", 0))
        rss = psutil.Process().memory_info().rss / 2**20
        return Done(os.getpid(), made, int(record.get("items", 0)), wall, cpu, rss)

    def close(self) -> None:
        """Give the renderer back."""
        self._studio.close()


def until(deadline: float, jobs: Sequence[Job], least: int) -> Iterator[Job]:
    """Hand out jobs until the time is over, but at least so many."""
    for number, job in enumerate(jobs):
        if number >= least and time.perf_counter() > deadline:
            return
        yield job


def measure(case: Case, processes: int, seconds: float, totes: int) -> dict[str, Any]:
    """Run one case; its row of the results."""
    settings = DatasetSettings(size=case.size, variants=case.variants, totes=totes, picks=totes)
    jobs = [job for job in plan(settings) if job.kind == case.kind]
    by_worker: dict[int, list[Done]] = {}
    with tempfile.TemporaryDirectory() as temp:
        todo = until(time.perf_counter() + seconds, jobs, 3 * processes)
        for done in run_jobs(Desk, (Path(temp), settings), todo, workers=processes):
            by_worker.setdefault(done.worker, []).append(done)
    counted = [done for each in by_worker.values() for done in each[1:]]
    busy, pictures = sum(d.wall for d in counted), sum(d.pictures for d in counted)
    last = max(by_worker.values(), key=lambda each: each[-1].rss_mib)
    row = {
        "processes": processes,
        "jobs": len(counted),
        "jobs_per_min": round(60 * processes * len(counted) / busy, 1),
        "pictures_per_min": round(60 * processes * pictures / busy, 1),
        "cpu_s_per_picture": round(sum(d.cpu for d in counted) / pictures, 3),
        "rss_mib": [round(last[k].rss_mib) for k in (0, len(last) // 2, -1)],
    }
    if case.kind == "tote":
        row["items_per_tote"] = round(sum(d.items for d in counted) / len(counted), 1)
    return row


def compare(case: Case, seconds: float, totes: int) -> dict[str, Any]:
    """Measure a case with every number of processes."""
    rows = [measure(case, n, case.share * seconds, totes) for n in PROCESSES]
    gain = round(rows[-1]["pictures_per_min"] / rows[0]["pictures_per_min"], 2)
    made = ", ".join(f"{r['pictures_per_min']:.0f}" for r in rows)
    print(f"{case.name}: {made} pictures/min with {PROCESSES} processes, gain {gain}", flush=True)
    return {"runs": rows, "gain": gain}


def main() -> int:
    """Measure all cases and write results/sim_rate.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=160.0, help="for all cases together")
    parser.add_argument("--totes", type=int, default=400, help="in the plan that jobs are from")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "sim_rate.json")
    args = parser.parse_args()
    settings = DatasetSettings()
    conditions = {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "renderer": "MuJoCo with OSMesa (llvmpipe), no GPU, one thread per process",
        "view_size": settings.view_size,
        "max_items": settings.max_items,
        "products": settings.products,
    }
    began = time.perf_counter()
    cases = {case.name: compare(case, args.seconds, args.totes) for case in CASES}
    card: dict[str, Any] = {
        "command": "python bench/sim_rate.py",
        "conditions": conditions,
        "seconds": round(time.perf_counter() - began),
        "cases": cases,
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))
    return 0


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "?")


if __name__ == "__main__":
    sys.exit(main())
