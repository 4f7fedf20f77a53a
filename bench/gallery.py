"""The product gallery from 1,000 to 1,000,000 products, beside NumPy, FAISS, usearch and hnswlib.

`python bench/gallery.py` writes results/gallery.json and docs/gallery.png. The vectors are made up,
768 numbers each (`gallery_vectors.py` says how real they are), and the same for all engines. Every
engine has a process of its own, so that its memory is its own; these are asked in turns, the same
queries, so that load from elsewhere hits all alike.

- engines: seconds to build, disk, seconds to open (cold: the system was asked to drop the files
  first, as after a boot; warm: they lie in memory), resident memory (`own`: without pages of files,
  which the system may take back), recall@1 against exact search and against the truth. The graphs
  of usearch and hnswlib get the smallest ef that reaches recall .99 on 300 other picks; ours is
  tuned by `robollm gallery tune` on its own vectors.
- tasks: milliseconds of one query (`16 at once`: of sixteen) in a container of 50 or 300 products
  and in the whole gallery; `ratio` against `IndexFlatIP`. Eight containers are open; `first_ms` is
  one that was never asked for before.
- changes: commits of 1 and of 1,000 products, durable when the call returns, while another process
  has the gallery open, and how long that one takes to follow; beside it, an index file that is
  written anew for each change.

usearch and hnswlib are no requirement of ours; in a folder of their own they are found too:
`pip install --no-deps --target .cache/bench/gallery/peers usearch numkong hnswlib`.

Above 200,000 vectors graphs are left out, because they take long to build; to have them:
`--no-approximate-above 2000000` (ours), `--peer-graphs-up-to 2000000`. On two quiet cores 190k
takes 8 minutes, 1k and 10k less than one: see `seconds` of each case. Disk: up to 15 kB for each
vector, removed after each case; 1M was not run yet, some 14 GB of memory are expected. `--resume`
keeps the cases that are done.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import kit
import numpy as np
from gallery_engines import Case, Engine, FaissFlat, Hnswlib, NumPy, UsearchExact, UsearchGraph
from gallery_ours import MANY, Changer, Ours, OursApproximate, OursCentroid, OursTuned, rates
from gallery_report import plot, show
from gallery_workers import Bench, Worker, in_turns, size_of
from numpy.typing import NDArray

from robollm.core.errors import InferenceError
from robollm.runtime.measure import table

REFERENCE = "faiss flat"
OURS, APPROXIMATE, CENTROID = "ours, exact", "ours, approximate", "ours, exact, centroid"
ENGINES: dict[str, type[Engine]] = {
    OURS: Ours,
    "ours, exact, tuned": OursTuned,
    APPROXIMATE: OursApproximate,
    CENTROID: OursCentroid,
    "numpy": NumPy,
    REFERENCE: FaissFlat,
    "usearch exact": UsearchExact,
    "usearch HNSW": UsearchGraph,
    "hnswlib HNSW": Hnswlib,
}
CASES = {
    "1k": (1_000, 1),
    "10k": (10_000, 1),
    "190k": (190_000, 1),
    "190k, 3 references": (190_000, 3),
    "1M": (1_000_000, 1),
}
SMALL = {"small": (1200, 1), "small, 3 references": (400, 3)}
SIZES = (50, 300)
OPEN, EACH = 8, 12
"""Containers that are open at a time, and picks from each, one after the other."""
LARGE = 250_000
"""Above so many vectors fewer queries are asked."""
SAME = 1e-5
"""Cosines that are no further apart may be in either order: so much do sums of float32 differ."""
Answers = dict[str, list[int]]


class Run:
    """One case from the vectors to the table.

    Args:
        case: which.
        args: of the command line.
    """

    def __init__(self, case: Case, args: argparse.Namespace) -> None:
        self._case, self._args = case, args
        self._refused: dict[str, str] = {}
        self._about: dict[str, dict[str, Any]] = {}
        self._alive: dict[str, Worker] = {}
        catalogue = case.catalogue()
        few = case.rows > LARGE
        self._truth, self._queries = catalogue.picks(300 if few else 1000)
        _, self._tuning = catalogue.picks(300, seed=1)
        self._timed = self._queries[: 8 if few else 20]
        self._rounds = args.rounds

    def measure(self) -> dict[str, Any]:
        """All of it."""
        self._case.write()
        engines = self._wanted()
        try:
            for name, kind in engines.items():
                self._build(name, kind)
            for name, kind in engines.items():
                self._open(name, kind)
            exact = self._call(REFERENCE, "answers", self._queries)
            if exact is None:
                raise InferenceError(f"{REFERENCE}: {self._refused[REFERENCE]}")
            self._tune()
            equal = self._compare(exact)
            tasks = self._tasks()
            changes = self._changes()
            for name in list(self._alive):
                self._about[name] |= self._call(name, "weigh") or {}
        finally:
            for worker in self._alive.values():
                worker.end()
        return {
            "products": self._case.products,
            "references_each": self._case.each,
            "engines": self._about,
            "tasks": tasks,
            "equal": equal,
            "changes": changes,
            "refused": self._refused,
        }

    def _wanted(self) -> dict[str, type[Engine]]:
        """The engines that can and shall run."""
        found = {}
        for name, kind in ENGINES.items():
            most = self._args.no_approximate_above
            if kind is not OursApproximate:
                most = min(most, self._args.peer_graphs_up_to)
            if kind is OursCentroid and self._case.each == 1:
                continue
            if kind.missing():
                self._refused[name] = "not installed"
            elif kind.graph and self._case.rows > most:
                self._refused[name] = f"left out above {most} vectors"
            else:
                found[name] = kind
        return found

    def _call(self, name: str, method: str, *args: Any) -> Any:
        """Ask an engine; None if it refuses, which is noted."""
        if name not in self._alive:
            return None
        try:
            return self._alive[name].call(method, *args, timeout_s=self._args.timeout)
        except InferenceError as e:
            self._refuse(name, e)
            return None

    def _refuse(self, name: str, e: InferenceError) -> None:
        print(f"   {name}: {e.what}", file=sys.stderr, flush=True)
        self._refused[name] = e.what
        self._alive.pop(name, None)

    def _build(self, name: str, kind: type[Engine]) -> None:
        print(f"   {name}: build", file=sys.stderr, flush=True)
        if kind is OursCentroid:
            self._about[name] = {}
            return
        worker = Worker(Bench, kind, self._case)
        try:
            self._about[name] = worker.call("build", timeout_s=self._args.timeout)
        except InferenceError as e:
            self._refuse(name, e)
        finally:
            worker.end()

    def _open(self, name: str, kind: type[Engine]) -> None:
        """Open twice, in a new process each time; the second one stays."""
        if name in self._refused:
            return
        for cold in (True, False):
            worker = Worker(Bench, kind, self._case)
            try:
                found = worker.call("open", self._queries[0], cold, timeout_s=self._args.timeout)
            except InferenceError as e:
                self._refuse(name, e)
                return
            self._about[name] |= found
            if cold:
                worker.end()
        self._alive[name] = worker

    def _tune(self) -> None:
        wanted = self._call(REFERENCE, "answers", self._tuning)
        for name in list(self._alive):
            self._about[name] |= self._call(name, "tune", self._tuning, wanted) or {}

    def _compare(self, exact: list[int]) -> dict[str, Any]:
        """Recall of all; and that our exact search gives the products of the reference."""
        for name in list(self._alive):
            found = self._call(name, "answers", self._queries)
            if found is not None:
                self._about[name] |= {
                    "recall@1_exact": share(found, exact),
                    "recall@1_truth": share(found, self._truth),
                }
        found = self._call(OURS, "one_by_one", self._queries)
        return self._equal(found, exact) if found is not None else {}

    def _equal(self, found: list[int], exact: list[int]) -> dict[str, Any]:
        """Where two exact searches differ, and by how much."""
        half, each = self._case.half(), self._case.each
        gaps = []
        for q, a, b in zip(self._queries, found, exact, strict=True):
            if a != b:
                one, two = (
                    float((half[p * each : (p + 1) * each].astype(np.float32) @ q).max())
                    for p in (a, b)
                )
                gaps.append(abs(one - two))
        return {
            "queries": len(exact),
            "ties": sum(g <= SAME for g in gaps),
            "different": sum(g > SAME for g in gaps),
            "largest_gap": max(gaps, default=0.0),
        }

    def _tasks(self) -> dict[str, dict[str, Any]]:
        """Times, task by task."""
        found = {}
        for size in SIZES:
            if 2 * size <= self._case.products:
                found[f"container of {size}"] = self._container(size)
        found["whole"] = self._timed_rows("time_whole", (self._timed,), list(self._alive))
        many = np.ascontiguousarray(self._queries[:16])
        found["16 at once"] = self._timed_rows("time_batch", (many,), list(self._alive))
        return found

    def _timed_rows(self, method: str, args: tuple[Any, ...], names: list[str]) -> dict[str, Any]:
        workers = {n: self._alive[n] for n in names}
        times, refused = in_turns(workers, method, args, self._rounds, self._args.timeout)
        for name, why in refused.items():
            self._refuse(name, InferenceError(why))
        return dict(table(times, REFERENCE))

    def _container(self, size: int) -> dict[str, Any]:
        """In manifests; all must give the same products."""
        truth = self._truth[: OPEN * EACH]
        queries = self._queries[: len(truth)]
        products = self._case.catalogue().containers(truth.reshape(OPEN, EACH), size)
        first: dict[str, float] = {}
        answers: Answers = {}
        for name in [n for n in self._alive if ENGINES[n].containers]:
            got = self._call(name, "containers", queries, products)
            if got is not None:
                answers[name], first[name] = got
        rows = self._timed_rows("time_container", (queries, size), list(answers))
        for name, row in rows.items():
            row["first_ms"] = float(f"{1e3 * first[name]:.3g}")
            row["same"] = share(answers[name], answers[REFERENCE])
            row["recall@1_truth"] = share(answers[name], truth)
        return rows

    def _changes(self) -> dict[str, Any]:
        """Commits in another process, followed by the one that searches."""
        found: dict[str, Any] = {}
        changer = Worker(Changer, self._case)
        limit = self._args.timeout
        before = size_of(self._case.gallery)
        try:
            for many, times in ((1, self._args.commits), (MANY, max(1, self._args.commits // 10))):
                seconds: dict[str, list[float]] = {"add": [], "remove": [], "refresh": []}
                for _ in range(times):
                    number, vector, spent = changer.call("add", many, timeout_s=limit)
                    seconds["add"].append(spent)
                    seconds["refresh"].append(self._follow(vector, number, there=True))
                for _ in range(times):
                    seconds["remove"].append(changer.call("remove", many, timeout_s=limit))
                    seconds["refresh"].append(self._follow(vector, number, there=False))
                for kind, spent_s in seconds.items():
                    each = 0 if kind == "refresh" else many
                    found[f"{kind} {many}"] = rates(spent_s, each)
            changer.call("close", timeout_s=limit)
        except InferenceError as e:
            self._refused["changes"] = e.what
        finally:
            changer.end()
        found["grown_mib"] = round((size_of(self._case.gallery) - before) / 2**20, 1)
        for name in (REFERENCE, "usearch HNSW"):
            spent = [self._call(name, "change_one", self._queries[i]) for i in range(3)]
            if None not in spent:
                found[f"{name}, add 1"] = rates(spent, 1)
        return found

    def _follow(self, vector: NDArray[np.float32], number: int, *, there: bool) -> float:
        """Refresh the reader; what was added last must be found, or not any more."""
        answer, spent = self._alive[OURS].call("refresh", vector, timeout_s=self._args.timeout)
        if there and answer != number:
            raise InferenceError(f"after a refresh the answer is {answer}, want {number}")
        return float(spent)


def share(found: Any, wanted: Any) -> float:
    """How many are equal, of 1."""
    return round(float(np.mean(np.asarray(found) == np.asarray(wanted))), 4)


def measure(case: Case, args: argparse.Namespace) -> dict[str, Any]:
    """One case; its vectors live no longer."""
    return Run(case, args).measure()


def main() -> int:
    """Measure, write, draw."""
    parser = kit.options(__doc__, "gallery", [*CASES, *SMALL], rounds=5)
    parser.set_defaults(cases=list(CASES))
    parser.add_argument(
        "--small", action="store_true", help="the smallest cases only: does it run?"
    )
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds for one step")
    parser.add_argument("--commits", type=int, default=50, help="of one change; a tenth of 1,000")
    parser.add_argument("--no-approximate-above", type=int, default=200_000, metavar="VECTORS")
    parser.add_argument("--peer-graphs-up-to", type=int, default=200_000, metavar="VECTORS")
    parser.add_argument("--keep", action="store_true", help="keep what the cases leave on the disk")
    parser.add_argument("--picture", type=Path, default=kit.ROOT / "docs" / "gallery.png")
    args = kit.parse(parser)
    if args.small:
        args.cases = [c for c in args.cases if c in SMALL] or list(SMALL)
    sys.path.append(str(args.work / "peers"))
    versions = kit.machine(("faiss-cpu", "usearch", "hnswlib", "numpy"))["packages"]
    about = {"reference": REFERENCE, "packages": versions}
    results = kit.Results(args, **about)
    for name in args.cases:
        products, each = {**CASES, **SMALL}[name]
        folder = args.work / name.replace(" ", "_").replace(",", "")
        case = Case(products, each, folder, args.threads)
        if results.wants(name):
            shutil.rmtree(folder, ignore_errors=True)
        results.run(name, partial(measure, case, args))
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    for name, found in results.cases.items():
        show(name, found)
    kit.draw(args.picture, plot(results.cases, list(ENGINES)), size=(9, 4.2))
    return 0


if __name__ == "__main__":
    sys.exit(kit.told(main))
