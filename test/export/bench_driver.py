"""Runs the benchmarks on models that are small enough for a test; a program, see `main`.

In a process of its own: benchmarks set threads and environment, and their modules have short names.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parents[2] / "bench"
QUICK = ("--rounds", "1", "--threads", "1")


def backbone(work: Path, run: Path, data: Path) -> dict[str, Any]:
    """One small case, all engines, a small matrix product."""
    bench = importlib.import_module("backbone")
    bench.CASES = {"small 64": bench.Case("small", 64)}
    bench.MATRIX = 64
    return called(bench, work, "--no-compile", "--plot", str(work / "backbone.png"))


def end_to_end(work: Path, run: Path, data: Path) -> dict[str, Any]:
    """A run with its data, and the other case with a small model."""
    bench = importlib.import_module("end_to_end")
    bench.OFFICIAL, bench.PLACES, bench.LARGE = ("small", 64, 32), bench.PLACES[:2], bench.LARGE[:2]
    return called(bench, work, "--run", str(run), "--data", str(data))


def instances(work: Path, run: Path, data: Path) -> dict[str, Any]:
    """Few ways, counts, canvases and pictures."""
    bench = importlib.import_module("instances")
    bench.COUNTS, bench.SIDES, bench.CANVAS = (1, 2, 4), (64, 96), 64
    bench.PICTURES = {"VGA": (60, 80)}
    bench.WAYS = {n: bench.WAYS[n] for n in ("cpu fp32", "cpu fp32, features once")}
    return called(bench, work, "--crop", "32", "--plot", str(work / "instances.png"))


def peers(work: Path, run: Path, data: Path) -> dict[str, Any]:
    """Mask R-CNN and the small model; the other packages are not installed."""
    bench = importlib.import_module("peers")
    bench.SIDE = 64
    bench.OURS = {n: one for n, one in bench.OURS.items() if n == "ours, small, cpu fp32"}
    return called(bench, work, "--no-compile")


def rois(work: Path, run: Path, data: Path) -> dict[str, Any]:
    """Few proposals."""
    bench = importlib.import_module("rois")
    bench.PROPOSALS = (5, 10)
    some = ("--run", str(run), "--data", str(data), "--plot", str(work / "rois.png"))
    return called(bench, work, *some)


def startup(work: Path, run: Path, data: Path) -> dict[str, Any]:
    """One provider."""
    bench = importlib.import_module("startup")
    bench.SIZES, bench.PLACES = {"small": (64, 32)}, (("cpu", "fp32"),)
    return called(bench, work)


STEPS: dict[str, Callable[[Path, Path, Path], dict[str, Any]]] = {
    f.__name__: f for f in (backbone, end_to_end, instances, peers, rois, startup)
}


def called(bench: Any, work: Path, *words: str) -> dict[str, Any]:
    """Call a benchmark's `main`; what it wrote."""
    out = work / f"{bench.__name__}.json"
    sys.argv = [bench.__name__, *QUICK, "--work", str(work), "--out", str(out), *words]
    code = bench.main()
    if code:
        raise RuntimeError(f"exit code {code}: {out.read_text()}")
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def helped(name: str) -> str:
    """Import a benchmark; what it says to `--help`, or nothing if it is a part of others."""
    bench, text = importlib.import_module(name), io.StringIO()
    sys.argv = [name, "--help"]
    if hasattr(bench, "main"):
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            bench.main()
    return text.getvalue()


def tried(step: Callable[[], object]) -> dict[str, object]:
    """What a step returns, or what it raised."""
    began = time.perf_counter()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            outcome: dict[str, object] = {"found": step()}
    except BaseException:  # a benchmark may also call sys.exit
        outcome = {"error": traceback.format_exc()}
    return {**outcome, "seconds": round(time.perf_counter() - began, 1)}


def main() -> None:
    """`bench_driver.py WORK RUN DATA`: JSON of all steps on stdout, the help of all programs."""
    sys.path.insert(0, str(BENCH))
    work, run, data = map(Path, sys.argv[1:])
    helps = {p.stem: tried(lambda p=p: helped(p.stem)) for p in sorted(BENCH.glob("*.py"))}
    runs = {name: tried(lambda s=step: s(work, run, data)) for name, step in STEPS.items()}
    print(json.dumps({"help": helps, "run": runs}))


if __name__ == "__main__":
    main()
