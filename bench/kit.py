"""What the benchmarks share: options, results that are kept case by case, engines by name."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from robollm.core.errors import RobollmError
from robollm.data.armbench_files import read_object, write_json
from robollm.runtime.measure import conditions, machine

__all__ = ["ROOT", "WORK", "Results", "command", "conditions", "draw", "machine", "options",
           "parse", "print_rows", "told", "use_torch"]  # fmt: skip

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".cache" / "bench"
ASIDE = ("command", "out", "work", "resume", "plot", "picture")
"""Options that don't change what is measured."""
PLACEHOLDERS = {"bundle": "B", "data": "D"}
"""Of paths that are not the option's own name, as the README has them."""


def options(text: str, name: str, cases: Iterable[str], *, rounds: int) -> argparse.ArgumentParser:
    """The options that every benchmark has; `text` is its docstring."""
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=text.splitlines()[0])
    known = list(cases)
    parser.add_argument("--cases", nargs="+", choices=known, default=known, metavar="CASE",
                        help=f"some of: {', '.join(known)}")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=rounds, help="timed runs of each")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--resume", action="store_true", help="keep the cases that OUT has")
    parser.add_argument("--work", type=Path, default=WORK / name, help="models, kept between runs")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / f"{name}.json")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line; `command` of what is returned is what `Results` says of it."""
    args = parser.parse_args()
    args.command = command(parser, args)
    return args


def command(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """The command that gives these results again: every option that isn't at its default.

    Those of `ASIDE` are left out; a path that is read is a placeholder, such as RUN.
    """
    words = ["python", f"bench/{parser.prog}"]
    for name, value in vars(args).items():
        if name in ASIDE or value == parser.get_default(name):
            continue
        words.append(f"--{name.replace('_', '-')}")
        if isinstance(value, Path):
            words.append(PLACEHOLDERS.get(name, name.upper()))
        elif value is not True:
            many = value if isinstance(value, list) else [value]
            words += [shlex.quote(str(one)) for one in many]
    return " ".join(words)


def told(main: Callable[[], int]) -> int:
    """Run a benchmark; a deliberate error becomes two plain lines and exit code 2."""
    try:
        return main()
    except RobollmError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2


class Results:
    """The results file; written after every case, so that an interrupted run loses one.

    Cases that this run isn't asked for stay as they are. Every case has its own `run`: the command,
    the machine with its commit, the threads and `about`; at the top of the file those of the run
    that wrote it last.

    Args:
        args: from `parse`.
        about: what else a reader wants to know of all cases of this run.

    Attributes:
        cases: all that the file has.

    Raises:
        ConfigError: there is something else where the file should be.
    """

    def __init__(self, args: argparse.Namespace, **about: Any) -> None:
        self._path: Path = args.out
        self._resume: bool = args.resume
        self._run: dict[str, Any] = {
            "command": args.command,
            "machine": machine(),
            **about,
            "threads": args.threads,
        }
        self.cases = _with_runs(read_object(self._path)) if self._path.exists() else {}

    def wants(self, name: str) -> bool:
        """Is the case to be measured, or kept?"""
        return not (self._resume and name in self.cases)

    def run(self, name: str, measure: Callable[[], dict[str, Any]], **more: Any) -> None:
        """Measure one case, unless it is there already and is to be kept; a refusal is a result."""
        if not self.wants(name):
            return
        print(f"-- {name}", file=sys.stderr, flush=True)
        with conditions((), **more) as load:
            try:
                found = measure()
            except RobollmError as e:
                found = {"refused": e.what}
        kept = ("load_before", "load_after", "seconds", "others_cores", *more)
        found["conditions"] = {k: load[k] for k in kept}
        print(json.dumps(found), file=sys.stderr, flush=True)
        self.cases[name] = {**found, "run": self._run}
        write_json(self._path, {**self._run, "cases": self.cases}, indent=1)

    def measured(self, rows: str = "rows") -> Iterator[tuple[str, dict[str, Any]]]:
        """Every case that has such rows; of the others it is printed why not."""
        for name, found in self.cases.items():
            if rows in found:
                yield name, found
            else:
                print(f"\n{name}: not measured: {found.get('refused', 'no ' + rows)}")


def _with_runs(card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The cases of a file. Before each had a `run`, the file's own was that of all of them."""
    whole = {k: v for k, v in card.items() if k != "cases"}
    return {name: {"run": whole, **found} for name, found in card.get("cases", {}).items()}


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
