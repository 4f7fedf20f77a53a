"""A process for each engine of bench/gallery.py, so that its memory is its own; asked in turns."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from gallery_engines import Case, Engine
from gallery_vectors import Floats
from numpy.typing import NDArray

from robollm.core.errors import InferenceError, RobollmError
from robollm.runtime.measure import Times, forget_files, resident_mib

CHUNK = 50


class Worker:
    """An object in a process of its own; `call` runs a method there.

    Args:
        make: makes the object in the new process; importable from there.
        *args: of `make`.
    """

    def __init__(self, make: Callable[..., Any], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, make, args), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, name: str, *args: Any, timeout_s: float) -> Any:
        """Call a method and wait for what it returns.

        Raises:
            InferenceError: it raised, took too long, or its process died; it is ended then.
        """
        try:
            self._ours.send((name, args))
            if not self._ours.poll(timeout_s):
                raise InferenceError(f"{name} took more than {timeout_s:.0f} s")
            good, value = self._ours.recv()
        except (EOFError, OSError) as e:
            self.end()
            code = self._process.exitcode
            raise InferenceError(f"its process ended in {name}, exit code {code}") from e
        except InferenceError:
            self.end()
            raise
        if not good:
            self.end()
            raise InferenceError(f"{name}: {value}")
        return value

    def end(self) -> None:
        """End the process."""
        self._ours.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def serve(pipe: Connection, make: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """What runs in the process: make the object, call what is asked, until the other side ends."""
    made: Any = None
    while True:
        try:
            name, given = pipe.recv()
        except EOFError:
            return
        try:
            if made is None:
                made = make(*args)
            answer = (True, getattr(made, name)(*given))
        except RobollmError as e:
            answer = (False, e.what)
        except Exception as e:  # a border: the other process has to hear of it, whatever it is
            answer = (False, f"{type(e).__name__}: {str(e)[:300]}")
        pipe.send(answer)


class Bench:
    """An engine in its process: builds, opens, answers, and weighs itself.

    Args:
        kind: which engine.
        case: at which size.
    """

    def __init__(self, kind: type[Engine], case: Case) -> None:
        self._engine = kind(case)
        self._engine.load()
        self._containers: dict[int, list[Any]] = {}
        self._imports = memory()["rss_mib"]

    def build(self) -> dict[str, Any]:
        """Build, and say what it took: seconds, processor seconds, memory at its peak."""
        wall, cpu = time.perf_counter(), time.process_time()
        more = self._engine.build()
        return {
            "build_s": digits(time.perf_counter() - wall),
            "build_cpu_s": digits(time.process_time() - cpu),
            "build_peak_mib": resident_mib()[1],
            "disk_mib": digits(sum(size_of(p) for p in self._engine.files()) / 2**20),
            **more,
        }

    def open(self, query: Floats, cold: bool) -> dict[str, Any]:
        """Open and answer once: seconds, and what memory it takes then."""
        dropped = cold and forget_files(self._engine.case.folder)
        began = time.perf_counter()
        self._engine.open()
        opened = time.perf_counter() - began
        self._engine.whole(query)
        name = "cold" if cold else "warm"
        spent = time.perf_counter() - began
        times = {f"open_{name}_s": digits(opened), f"open_{name}_and_search_s": digits(spent)}
        if cold:
            return {**times, "files_dropped": dropped}
        now = {f"{k}_opened": v for k, v in memory().items()}
        return {**times, "rss_mib_imports": self._imports, **now}

    def tune(self, queries: Floats, wanted: Sequence[int]) -> dict[str, Any]:
        """See `Engine.tune`."""
        return self._engine.tune(queries, wanted)

    def answers(self, queries: Floats) -> list[int]:
        """The nearest product of each (Q, D)."""
        parts = range(0, len(queries), CHUNK)
        return [p for i in parts for p in self._engine.batch(queries[i : i + CHUNK])]

    def one_by_one(self, queries: Floats) -> list[int]:
        """The same, each alone."""
        return [self._engine.whole(q) for q in queries]

    def time_whole(self, queries: Floats) -> tuple[list[float], float]:
        """Seconds of each query, and processor seconds of one on average."""
        return timed(self._engine.whole, [(q,) for q in queries])

    def time_batch(self, queries: Floats) -> tuple[list[float], float]:
        """Seconds of all queries at once, three times, and processor seconds."""
        return timed(self._engine.batch, [(queries,)] * 3)

    def containers(self, queries: Floats, products: NDArray[np.int64]) -> tuple[list[int], float]:
        """Prepare containers, (C, size) product numbers; queries of a container follow each other.

        Returns:
            All answers, and the median of the seconds that a container's first query took.
        """
        prepared = [self._engine.prepare(row) for row in products]
        each = len(queries) // len(products)
        self._containers[products.shape[1]] = [c for c in prepared for _ in range(each)]
        found, times = [], []
        for q, one in zip(queries, self._containers[products.shape[1]], strict=True):
            began = time.perf_counter()
            found.append(self._engine.container(q, one))
            times.append(time.perf_counter() - began)
        return found, float(np.median(times[::each]))

    def time_container(self, queries: Floats, size: int) -> tuple[list[float], float]:
        """As `time_whole`, in the containers of that size."""
        return timed(
            self._engine.container, list(zip(queries, self._containers[size], strict=True))
        )

    def refresh(self, query: Floats) -> Any:
        """See `Engine.refresh`."""
        return self._engine.refresh(query)

    def change_one(self, vector: Floats) -> float:
        """Make one change last, where an engine can; seconds."""
        began = time.perf_counter()
        self._engine.change_one(vector)
        return time.perf_counter() - began

    def weigh(self) -> dict[str, Any]:
        """Memory after all, and what else there is to say."""
        return {**memory(), "rss_mib_peak": resident_mib()[1], **self._engine.about()}


def timed(run: Callable[..., object], calls: list[Any]) -> tuple[list[float], float]:
    """Seconds of each call, and processor seconds per call. The first runs untimed before them."""
    run(*calls[0])
    walls = []
    cpu = time.process_time()
    for call in calls:
        began = time.perf_counter()
        run(*call)
        walls.append(time.perf_counter() - began)
    return walls, (time.process_time() - cpu) / len(calls)


def in_turns(
    benches: dict[str, Worker], name: str, args: tuple[Any, ...], rounds: int, timeout_s: float
) -> tuple[dict[str, Times], dict[str, str]]:
    """Call a timing method of all, in turns, every second round in reverse.

    Returns:
        Times of each; and those that refused, with the reason.
    """
    times = {n: Times() for n in benches}
    refused: dict[str, str] = {}
    for turn in range(rounds):
        for n in list(benches) if turn % 2 == 0 else list(benches)[::-1]:
            if n in refused:
                continue
            try:
                walls, cpu = benches[n].call(name, *args, timeout_s=timeout_s)
            except InferenceError as e:
                refused[n] = e.what
                continue
            times[n].wall += walls
            times[n].cpu += [cpu] * len(walls)
    return {n: t for n, t in times.items() if n not in refused}, refused


def memory(status: Path = Path("/proc/self/status")) -> dict[str, float]:
    """Resident memory in MiB; `own`: what isn't pages of files, which the system can take back."""
    lines = (line.partition(":") for line in status.read_text().splitlines())
    kib = {k: int(v.split()[0]) for k, _, v in lines if k in ("VmRSS", "RssAnon", "RssShmem")}
    own = kib["RssAnon"] + kib["RssShmem"]
    return {"rss_mib": round(kib["VmRSS"] / 1024, 1), "rss_mib_own": round(own / 1024, 1)}


def size_of(path: Path) -> int:
    """Bytes of a file, or of all in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def digits(value: float) -> float:
    """Three digits that count."""
    return float(f"{value:.3g}")
