"""Fair timing: cases in turns, wall and processor time, memory, and on which machine.

What is compared runs in one process and in turns, so that a busy or throttled machine slows all of
it alike; ratios hold where milliseconds don't. docs/performance.md says how to read the figures.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np

SETTLE_S = 0.15
"""A case shorter than this gets an untimed run at each turn: caches and clocks become its own."""
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
"""Processor features that decide how fast a precision is; others are not recorded."""
PACKAGES = ("numpy", "onnxruntime", "openvino", "opencv-python-headless", "torch")
WRITTEN = ("results", "docs", "README.md")
"""What benchmarks and their tables write; a change of these is no change of what is measured."""
CHECKOUT = Path(__file__).resolve().parents[2]
PERCENT = (50, 95, 99)


Job = Callable[[int], object]
"""What is timed, once a call. It gets the round's number, and looks at the input of that number:
so all cases of a round see the same. Below 0: warm-up."""


class Clock(Protocol):
    """Where times come from; tests have one that they move by hand."""

    def wall(self) -> float:
        """Seconds since some moment."""

    def cpu(self) -> float:
        """Processor seconds of this process, all threads."""


class SystemClock:
    """The real one."""

    def wall(self) -> float:
        return time.perf_counter()

    def cpu(self) -> float:
        return time.process_time()


@dataclass(slots=True)
class Times:
    """What the timed runs of one case took, seconds, in the order in which they ran."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def row(self) -> dict[str, float]:
        """Runs, and percentiles in milliseconds: wall time, and the median of processor time.

        p95 and p99 are interpolated; of few runs they say little more than the longest one.
        """
        wall = np.percentile(1e3 * np.array(self.wall), PERCENT)
        named = {f"p{p}_ms": _short(float(v)) for p, v in zip(PERCENT, wall, strict=True)}
        cpu = _short(1e3 * float(np.median(self.cpu)))
        return {"runs": len(self.wall), **named, "cpu_ms": cpu}


def interleave(
    cases: Mapping[str, Job],
    *,
    rounds: int,
    warm_up: int = 2,
    clock: Clock | None = None,
) -> dict[str, Times]:
    """Run cases in turns; every second round in reverse, so that none is always the second one.

    Args:
        cases: name -> what to time; a round's cases get the same number.
        rounds: timed runs of each.
        warm_up: untimed runs of each before the first round, 1 or more.
        clock: None: the machine's.

    Returns:
        Times of each case, in the order given. What a case raises is not caught.
    """
    clock = clock or SystemClock()
    times = {name: Times() for name in cases}
    short = {}
    for name, run in cases.items():
        for turn in range(-max(1, warm_up), 0):
            began = clock.wall()
            run(turn)
            short[name] = clock.wall() - began < SETTLE_S
    for turn in range(rounds):
        for name in cases if turn % 2 == 0 else reversed(list(cases)):
            run = cases[name]
            if short[name]:
                run(turn)
            wall, cpu = clock.wall(), clock.cpu()
            run(turn)
            times[name].cpu.append(clock.cpu() - cpu)
            times[name].wall.append(clock.wall() - wall)
    return times


def fixed(run: Callable[[], object]) -> Job:
    """A case whose input is the same in every round."""
    return lambda _turn: run()


def ratios(times: Mapping[str, Times], reference: str) -> dict[str, float]:
    """How many times as fast as the reference each case is: the median over rounds of its ratio.

    A round's two figures are of the same input and were taken within seconds of each other, so load
    that comes and goes leaves their ratio alone. Above 1 is faster.
    """
    base = np.array(times[reference].wall)
    return {n: _short(float(np.median(base / np.array(t.wall)))) for n, t in times.items()}


def table(times: Mapping[str, Times], reference: str) -> dict[str, dict[str, float]]:
    """Rows of all cases, each with `ratio`, see `ratios`, and `cpu_ratio`, of the medians."""
    rows = {name: t.row() for name, t in times.items()}
    for name, ratio in ratios(times, reference).items():
        spent, base = rows[name]["cpu_ms"], rows[reference]["cpu_ms"]
        rows[name] |= {"ratio": ratio, "cpu_ratio": _short(base / spent) if spent else 1.0}
    return rows


def _short(value: float) -> float:
    """Three digits that count; more would be a pretence."""
    return float(f"{value:.3g}") if abs(value) < 100 else float(round(value))


def resident_mib(proc: Path = Path("/proc/self/status")) -> tuple[float, float]:
    """This process' resident memory, now and at its peak, MiB; NaN where the system has no /proc.

    The peak is since the start of the process, or since `forget_peak`.
    """
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return float("nan"), float("nan")
    kib = {k: v.split()[0] for k, _, v in (line.partition(":") for line in lines) if v.strip()}
    now, peak = (round(int(kib[key]) / 1024, 1) for key in ("VmRSS", "VmHWM"))
    return now, peak


def forget_peak() -> bool:
    """Let the peak of `resident_mib` begin anew.

    Returns:
        False where the system doesn't allow it; the peak is then the process'.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def forget_files(folder: Path) -> bool:
    """Ask the system to drop a folder's files from its cache, as after a boot.

    Returns:
        False where the system can't.
    """
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)  # what isn't written yet stays
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
    return True


def machine(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """On what this runs: processor, cores, memory, versions. No host name, user or path."""
    name, flags = _processor()
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": name,
        "flags": [f for f in FLAGS if f in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "memory_gib": round(_memory_bytes() / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": found,
        **_commit(),
    }


def _processor(path: Path = Path("/proc/cpuinfo")) -> tuple[str, set[str]]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    pairs = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    return pairs.get("model name", platform.machine()), set(pairs.get("flags", "").split())


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def _commit(root: Path = CHECKOUT) -> dict[str, str]:
    """The checkout's commit; nothing for an installed package.

    It is "-dirty" if a file was changed that is no result: benchmarks that follow each other write
    results, and still run the same code.
    """
    if not (root / ".git").exists():
        return {}
    written = [f":(exclude){name}" for name in WRITTEN]
    try:
        name = _git(root, "rev-parse", "--short", "HEAD")
        changed = _git(root, "diff", "--name-only", "HEAD", "--", ".", *written)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": name + ("-dirty" if changed else "")}


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


@contextmanager
def conditions(packages: Sequence[str] = PACKAGES, **more: Any) -> Iterator[dict[str, Any]]:
    """The machine's record, with the load while the block ran.

    Yields:
        `machine`, `more`, `load_before`; at the block's end `load_after`, `seconds`, and
        `others_cores`: how many cores other processes (and other guests of the host) kept busy.
    """
    record = {**machine(packages), **more, "load_before": _load()}
    wall, busy, own = time.perf_counter(), _busy_seconds(), _own_seconds()
    try:
        yield record
    finally:
        passed = time.perf_counter() - wall
        others = max(0.0, _busy_seconds() - busy - (_own_seconds() - own))
        record["load_after"] = _load()
        record["seconds"] = round(passed, 1)
        record["others_cores"] = round(others / passed, 2) if passed else 0.0


def _own_seconds() -> float:
    """Processor seconds of this process and of its children that ended."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


def _load() -> float:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else float("nan")


def _busy_seconds(path: Path = Path("/proc/stat")) -> float:
    """Processor seconds that all cores spent on something, since the machine started."""
    try:
        fields = path.read_text().splitlines()[0].split()[1:9]
    except OSError:
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields)
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq + steal) / ticks
