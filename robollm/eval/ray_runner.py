"""The jobs of an evaluation on Ray: several processes, or several machines.

Ray places the models and moves the jobs; the driver alone writes the records. Paths travel, not
pictures: every machine must see the data and the bundle under the same names, as on a shared
folder, and have robollm installed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from robollm.core.errors import ConfigError, EvalError, RobollmError
from robollm.eval.recorder import Job, Outcome, Recorder
from robollm.runtime.ray_cluster import cluster, need_answer, need_ray, places


def run_on_ray(
    recorder: tuple[Any, ...],
    jobs: Iterable[Job],
    *,
    workers: int,
    address: str,
    root: str,
    gpu: bool,
    died: Callable[[Job, RobollmError], Outcome],
) -> Generator[Outcome]:
    """Do jobs with `workers` actors; yield what comes of them, in the order of their ends.

    Args:
        recorder: arguments of `Recorder`.
        jobs: picklable.
        workers: actors, each of one thread; 0: as many as fit in.
        address: of a running cluster; empty: one is started on this machine, for as long as it
            takes; one that this process is connected to is used.
        root: folder of the data, absolute, which every machine must see; may be empty.
        gpu: each needs one.
        died: gives what stands for a job during which its actor died.

    Raises:
        ConfigError: Ray is missing, can't be reached, or is too small; or a machine lacks files.
        RobollmError: what making a desk raised.
        EvalError: if Ray fails.
    """
    need_ray()
    need_answer(address)
    import ray

    with cluster(address, workers):
        count = places(workers, threads=1, gpus=int(gpu))
        actor = ray.remote(num_cpus=1, num_gpus=int(gpu), max_restarts=0)(_Actor)

        def hire() -> Any:
            return actor.remote(recorder, root)

        rest = iter(jobs)
        busy: dict[Any, tuple[Any, Job]] = {}
        try:
            for job in islice(rest, count):
                one = hire()
                busy[one.answer.remote(job)] = (one, job)
            while busy:
                [ref], _ = ray.wait(list(busy), num_returns=1)
                one, job = busy.pop(ref)
                try:
                    outcome = _given(ray.get(ref))
                except ray.exceptions.RayActorError as e:
                    if e.actor_init_failed:
                        raise _not_on_ray("start a worker", e) from e
                    outcome, one = died(job, EvalError(_last_line(e))), None
                except ray.exceptions.RayError as e:
                    raise _not_on_ray(f"work on {job.key!r}", e) from e
                after = next(rest, None)
                if after is not None:
                    one = one or hire()
                    busy[one.answer.remote(after)] = (one, after)
                yield outcome
        finally:
            for one, _ in busy.values():
                with suppress(ray.exceptions.RayError):
                    ray.kill(one)


class _Actor:
    """A desk in a process of Ray's. Its errors travel as data: Ray would wrap them.

    Args:
        recorder: arguments of `Recorder`.
        root: folder of the data; may be empty.
    """

    def __init__(self, recorder: tuple[Any, ...], root: str) -> None:
        self._recorder: Recorder | None = None
        self._error: RobollmError | None = None
        try:
            if root and not Path(root).exists():
                raise ConfigError(
                    f"{socket.gethostname()} doesn't see the data {root!r}",
                    fix="give all machines the data under the same path, on a shared folder",
                )
            self._recorder = Recorder(*recorder)
        except RobollmError as e:
            self._error = e

    def answer(self, job: Job) -> Outcome | RobollmError:
        """Answer one job; or say why there is no desk."""
        if self._recorder is None:
            assert self._error is not None
            return self._error
        return self._recorder.run(job)


def _given(answer: Outcome | RobollmError) -> Outcome:
    if isinstance(answer, RobollmError):
        raise answer
    return answer


def _not_on_ray(what: str, error: Exception) -> EvalError:
    return EvalError(
        f"Ray could not {what}: {_last_line(error)}",
        fix="see that every machine has this robollm and its extra `ray`; then run the same "
        "command again: it goes on where it was",
    )


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]
