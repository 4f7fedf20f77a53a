"""Processes that do jobs. One dies: the caller decides. The parent dies: they end by themselves."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeAlias

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
    lost: bool = False


class WorkerError(RobollmError):
    """A worker process ended, or a job failed in a way that nobody foresaw."""


Died: TypeAlias = Callable[[Any, WorkerError], Any]
"""From a job during which its process died, and what is known of that, to what stands for it."""


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


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Start a child in peace: Ctrl-C comes to both, and a half-started one would complain.

    The child inherits that this thread is deaf to Ctrl-C; `_serve` then ignores it. Here a signal
    waits until the child has all that it needs.
    """
    resource_tracker.ensure_running()  # else the first start does, and lets signals in again
    main = threading.current_thread() is threading.main_thread()
    waiting: list[int] = []
    held = (signal.SIGINT, signal.SIGTERM) if main else ()
    before = {n: signal.signal(n, lambda number, _: waiting.append(number)) for n in held}
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in waiting:
            signal.raise_signal(late)


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
    except (EOFError, ConnectionResetError):  # the latter when it was killed
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
    died: Died | None = None,
) -> Generator[Any]:
    """Do jobs in `workers` processes; yield what they return, in the order of their ends.

    Args:
        make: builds a desk, once per process; importable by name.
        arguments: of `make`.
        jobs: picklable.
        workers: processes, at least 1, each of one thread.
        jobs_per_life: a process is replaced after so many jobs, so that memory can't pile up.
        died: is asked when a process dies; another one goes on with the next job. None: that is
            an error.

    Raises:
        RobollmError: what a job raised on purpose.
        OSError: likewise, of files.
        WorkerError: if a job failed otherwise, or a process died.
    """
    context = multiprocessing.get_context("spawn")
    rest: Iterator[Any] = iter(jobs)
    crew: list[_Worker] = []

    def hire() -> None:
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, make, arguments), daemon=True)
        with _undisturbed(), _environment():
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
                value = _answer(worker, died)
                worker.done += 1
                if worker.lost or worker.done >= jobs_per_life:
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


def _answer(worker: _Worker, died: Died | None) -> Any:
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, ConnectionResetError) as e:
        worker.process.join(_END_S)
        error = WorkerError(
            f"a worker process ended with code {worker.process.exitcode} during {worker.job}",
            fix="is there enough memory? run the same command again, with fewer --workers",
        )
        if died is None:
            raise error from e
        worker.lost = True
        return died(worker.job, error)
    if kind == "refused":
        error, what, fix = value
        raise error(what, fix=fix)
    if kind == "os":
        raise OSError(*value)
    if kind == "bug":
        raise WorkerError(f"{worker.job} failed:\n{value}", fix="please report this")
    return value
