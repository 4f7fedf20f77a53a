"""What the benchmarks share: options, results that are kept case by case, engines by name."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from robollm.core.errors import RobollmError
from robollm.runtime.measure import conditions, machine

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".cache" / "bench"


def options(text: str, name: str, cases: Iterable[str], *, rounds: int) -> argparse.ArgumentParser:
    """The options that every benchmark has; `text` is its docstring."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    known = list(cases)
    parser.add_argument("--cases", nargs="+", choices=known, default=known, metavar="CASE",
                        help=f"some of: {', '.join(known)}")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=rounds, help="timed runs of each")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--resume", action="store_true", help="keep the cases that OUT has")
    parser.add_argument("--work", type=Path, default=WORK / name, help="models, kept between runs")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / f"{name}.json")
    return parser


class Results:
    """The results file; written after every case, so that an interrupted run loses one."""

    def __init__(self, args: argparse.Namespace, command: str, **about: Any) -> None:
        self._path: Path = args.out
        old = json.loads(self._path.read_text()) if args.resume and self._path.is_file() else {}
        self.card: dict[str, Any] = {
            "command": command,
            "machine": machine(),
            **about,
            "threads": args.threads,
            "cases": old.get("cases", {}),
        }

    def run(self, name: str, measure: Callable[[], dict[str, Any]], **more: Any) -> None:
        """Measure one case unless it is there already; a refusal is a result, too."""
        if name in self.card["cases"]:
            return
        print(f"-- {name}", file=sys.stderr, flush=True)
        with conditions((), **more) as load:
            try:
                found = measure()
            except RobollmError as e:
                found = {"refused": e.what}
        kept = ("load_before", "load_after", "seconds", "others_cores", *more)
        self.card["cases"][name] = {**found, "conditions": {k: load[k] for k in kept}}
        print(json.dumps(self.card["cases"][name]), file=sys.stderr, flush=True)
        self.save()

    def save(self) -> None:
        """Write what there is."""
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_text(json.dumps(self.card, indent=1) + "\n")


def use_torch(threads: int, work: Path) -> Any:
    """PyTorch on that many threads; what it compiles is kept in `work`."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(work / "inductor"))
    import torch

    torch.set_num_threads(threads)
    return torch


def draw(path: Path, plot: Callable[[Any], None], size: tuple[float, float] = (8, 4)) -> None:
    """Write a small picture; `plot` gets Matplotlib's pyplot."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plt.figure(figsize=size, layout="constrained")
    plot(plt)
    plt.savefig(path, dpi=90)
    plt.close()


def print_rows(rows: dict[str, dict[str, Any]], columns: Sequence[str]) -> None:
    """A table on stdout."""
    width = max(map(len, rows), default=0)
    print(f"{'':{width}}  " + "  ".join(f"{c:>9}" for c in columns))
    for name, row in rows.items():
        cells = "  ".join(f"{row.get(c, '')!s:>9}" for c in columns)
        print(f"{name:{width}}  {cells}")
