"""Predict: jobs in, records out, one by one, in processes or on Ray. A killed run goes on.

The records go through this process, which alone writes them: what is in the file is done, and no
more than a few samples are in memory at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from robollm.core.errors import EvalError, RobollmError
from robollm.eval.progress import SILENT, Progress, stage
from robollm.eval.recorder import Desk, Job, Outcome, Recorder
from robollm.eval.records import named_error
from robollm.eval.run_folder import RunFolder
from robollm.sim.dataset.workers import run_jobs

FIRST = 50
"""If so many samples fail before any succeeds, something else is wrong than the samples."""
DEATHS = 10
"""So many processes may die one after the other."""
JOBS_PER_LIFE = 5000
DIED = "worker_died"


@dataclass(frozen=True, slots=True)
class Progressed:
    """What a stream has come to.

    Attributes:
        done: samples with an answer, new in this call.
        skipped: samples that had one before.
        failed: samples without one; they are tried again next time.
        seconds: wall time of this call.
    """

    done: int
    skipped: int
    failed: int
    seconds: float


class _Deaths:
    """Makes records of jobs whose process died, and notices when none lives long enough."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def __call__(self, job: Job, error: RobollmError) -> Outcome:
        self.in_a_row += 1
        if self.in_a_row > DEATHS:
            raise EvalError(
                f"{self.in_a_row} worker processes in a row died; the last during {job.key!r}",
                fix="is there enough memory? run the same command again, with fewer --workers",
            ) from error
        why, _, _ = error.what.partition(" during ")  # a job's own words may be long
        named = named_error(DIED, f"{why} during {job.key!r}")
        return Outcome(job.failed(named).to_line(), named)


def predict(
    run: RunFolder,
    stream: str,
    jobs: Iterable[Job],
    make_desk: Callable[..., Desk],
    arguments: tuple[Any, ...],
    *,
    workers: int,
    ray: str = "",
    progress: Progress = SILENT,
    total: int | None = None,
) -> Progressed:
    """Answer all jobs that have no answer yet, and write a record of each.

    Which process answers which job, and in which order, is chance; a record must depend on its
    job alone.

    Args:
        run: where the records go.
        stream: their stream.
        jobs: all of the stream's; may be made one by one.
        make_desk: makes a desk, once per process; importable by name.
        arguments: of `make_desk`, picklable.
        workers: processes, each of one thread; 0: one per core, on Ray as many as fit in.
        ray: empty: processes of this machine; "local": a Ray that is started for this; else a
            Ray cluster's address.
        progress: is told of every sample.
        total: how many jobs there are, if `jobs` has no length.

    Raises:
        RobollmError: what making a desk raised.
        EvalError: nothing works, or the records can't be written; what is written is kept.
        ConfigError: Ray is missing, can't be reached, or is too small.
    """
    began, deaths = time.monotonic(), _Deaths()
    if known := run.keys(stream) | run.keys(stream, failed=True):
        with stage(progress, f"{stream}: records to check", len(known)) as checked:
            run.check(stream, checked)
    before = run.keys(stream)
    todo = _Todo(run, stream, jobs, before)
    total = len(jobs) if isinstance(jobs, Sized) else total
    if total is not None:
        run.note_stream(stream, total)
    progress.begin(stream, total, len(before))
    done = failed = 0
    outcomes = _outcomes(run, stream, ray, workers, make_desk, arguments, todo, deaths)
    try:
        with run.journal(stream) as journal, closing(outcomes):
            for outcome in outcomes:
                journal.write(outcome.line)
                failed += outcome.error is not None
                done += outcome.error is None
                progress.advance(failed=outcome.error is not None)
                if outcome.error is None or outcome.error["kind"] != DIED:
                    deaths.in_a_row = 0
                if outcome.error is not None and failed == FIRST and not (done or before):
                    raise EvalError(
                        f"the first {FIRST} samples of {stream} all failed, the last with "
                        f"{outcome.error['kind']}: {outcome.error['what']}",
                        fix="repair that, then run the same command again",
                    )
    finally:
        progress.end()
    run.note_stream(stream, todo.seen)
    return Progressed(done, todo.seen - done - failed, failed, time.monotonic() - began)


class _Todo:
    """The jobs that have no answer, and how many there are at all."""

    def __init__(self, run: RunFolder, stream: str, jobs: Iterable[Job], before: set[str]) -> None:
        self._run, self._stream, self._jobs, self._before = run, stream, jobs, before
        self.seen = 0

    def __iter__(self) -> Iterator[Job]:
        keys: set[str] = set()
        for job in self._jobs:
            if job.key in keys:
                self._run.problems.note(
                    "duplicate_key", self._stream, f"{job.key!r} is there twice", "first one kept"
                )
                continue
            keys.add(job.key)
            self.seen += 1
            if job.key not in self._before:
                yield job


def _outcomes(
    run: RunFolder,
    stream: str,
    ray: str,
    workers: int,
    make_desk: Callable[..., Desk],
    arguments: tuple[Any, ...],
    jobs: Iterable[Job],
    died: Callable[[Job, RobollmError], Outcome],
) -> Generator[Outcome]:
    if not ray:
        return run_jobs(
            Recorder,
            (stream, make_desk, arguments),
            jobs,
            workers=workers or len(os.sched_getaffinity(0)),
            jobs_per_life=JOBS_PER_LIFE,
            died=died,
        )
    from robollm.eval.ray_runner import run_on_ray

    return run_on_ray(
        (stream, make_desk, arguments),
        jobs,
        workers=workers,
        address="" if ray == "local" else ray,
        root=run.card["data"].get("root", ""),
        gpu=run.card["predictor"].get("provider") in ("cuda", "tensorrt"),
        died=died,
    )
