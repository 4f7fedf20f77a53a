"""Processes that do jobs. One dies: an error says so. The parent dies: they end by themselves."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from robollm.core.errors import RobollmError

_SINGLE = {
    "MUJOCO_GL": "osmesa",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "LP_NUM_THREADS": "0",  # Mesa's rasteriser: in the calling thread
}
_END_S = 5.0


class Desk(Protocol):
    """What a worker builds once and then does its jobs with."""

    def run(self, job: Any) -> Any: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    job: Any = None
    done: int = 0


class WorkerError(RobollmError):
    """A worker process ended, or a job failed in a way that nobody foresaw."""


@contextmanager
def _environment() -> Iterator[None]:
    """What the children shall inherit; this process gets its own values back."""
    before = {k: os.environ.get(k) for k in _SINGLE}
    chosen = {k: os.environ[k] for k in ("MUJOCO_GL",) if k in os.environ}
    os.environ.update({**_SINGLE, **chosen})
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _serve(pipe: Connection, make: Callable[..., Desk], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides
    desks: list[Desk] = []
    try:
        while _serve_one(pipe, desks, make, arguments):
            pass
    finally:
        for desk in desks:
            desk.close()


def _serve_one(
    pipe: Connection, desks: list[Desk], make: Callable[..., Desk], arguments: tuple[Any, ...]
) -> bool:
    """Do one job; False when the parent is gone or wants no more."""
    try:
        job = pipe.recv()
    except EOFError:
        return False
    answer: tuple[str, Any]
    try:
        if not desks:
            desks.append(make(*arguments))
        answer = ("done", desks[0].run(job))
    except RobollmError as e:
        answer = ("refused", (type(e), e.what, e.fix))
    except OSError as e:
        answer = ("os", (e.errno or 0, e.strerror or str(e), e.filename))
    except Exception:  # a bug; the parent shows where, and stops
        answer = ("bug", traceback.format_exc())
    try:
        pipe.send(answer)
    except BrokenPipeError:
        return False
    return True


def run_jobs(
    make: Callable[..., Desk],
    arguments: tuple[Any, ...],
    jobs: Iterable[Any],
    *,
    workers: int,
    jobs_per_life: int = 200,
) -> Iterator[Any]:
    """Do jobs in `workers` processes; yield what they return, in the order of their ends.

    Args:
        make: builds a desk, once per process; importable by name.
        arguments: of `make`.
        jobs: picklable.
        workers: processes, at least 1, each of one thread.
        jobs_per_life: a process is replaced after so many jobs, so that memory can't pile up.

    Raises:
        RobollmError: what a job raised on purpose.
        OSError: likewise, of files.
        WorkerError: if a process died or a job failed otherwise.
    """
    context = multiprocessing.get_context("spawn")
    rest: Iterator[Any] = iter(jobs)
    crew: list[_Worker] = []

    def hire() -> None:
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, make, arguments), daemon=True)
        with _environment():
            process.start()
        there.close()
        crew.append(_Worker(process, here))

    def feed(worker: _Worker) -> None:
        worker.job = next(rest, None)
        if worker.job is None:
            _dismiss(worker)
            crew.remove(worker)
        else:
            with suppress(BrokenPipeError):  # it died early; the next read says so
                worker.pipe.send(worker.job)

    try:
        waiting = list(itertools.islice(rest, workers))
        rest = itertools.chain(waiting, rest)
        for _ in waiting:  # no more processes than jobs
            hire()
            feed(crew[-1])
        while crew:
            ready = {id(p) for p in wait([w.pipe for w in crew])}
            for worker in [w for w in crew if id(w.pipe) in ready]:
                value = _answer(worker)
                worker.done += 1
                if worker.done >= jobs_per_life:
                    _dismiss(worker)
                    crew.remove(worker)
                    hire()
                    feed(crew[-1])
                else:
                    feed(worker)
                yield value
    finally:
        for worker in crew:
            worker.process.terminate()
            _dismiss(worker)


def _dismiss(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.join(_END_S)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    worker.process.close()


def _answer(worker: _Worker) -> Any:
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, ConnectionResetError) as e:
        worker.process.join(_END_S)
        raise WorkerError(
            f"a worker process ended with code {worker.process.exitcode} during {worker.job}",
            fix="is there enough memory? run the same command again, with fewer --workers",
        ) from e
    if kind == "refused":
        error, what, fix = value
        raise error(what, fix=fix)
    if kind == "os":
        raise OSError(*value)
    if kind == "bug":
        raise WorkerError(f"{worker.job} failed:\n{value}", fix="please report this")
    return value
