"""Make a dataset: plan, do the jobs that have no record yet, merge the records.

A job writes its files, then its record under `.jobs/`; so whatever ends a run, the next one knows
what is done. What a job writes depends on the settings and its index alone, and records are merged
in the plan's order: the bytes don't depend on workers, order or interruptions.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from robollm.core.errors import ConfigError
from robollm.data.armbench_files import read_object, sweep, write_json
from robollm.sim.dataset.merge import finalize
from robollm.sim.dataset.plan import DatasetSettings, Job, disk_bytes, identity, pictures, plan
from robollm.sim.dataset.workers import Desk, run_jobs
from robollm.sim.products.fonts import fonts_used

JOBS = ".jobs"
SETTINGS_FILE = "settings.json"
_SLACK_BYTES = 200 * 2**20  # a disk is not filled to its last byte


class Progress(Protocol):
    """Called after each job."""

    def __call__(self, *, jobs: int, of: int, pictures: int, fresh: int) -> None:
        """Say how many jobs of how many have a record; how many pictures were made in this run.

        `fresh`: jobs done in this run.
        """


@dataclass(frozen=True, slots=True)
class Made:
    """What `make_dataset` did: jobs of the dataset, jobs and pictures of this run."""

    jobs: int
    fresh: int
    pictures: int
    card: dict[str, Any]


class _Laboratory:
    """A worker's desk: writes what a studio returns as a job's record, last."""

    def __init__(
        self, studio: Callable[[Path, DatasetSettings], Desk], root: Path, settings: DatasetSettings
    ) -> None:
        self._studio = studio(root, settings)
        self._jobs = root / JOBS

    def run(self, job: Job) -> int:
        """Do a job; return how many pictures it made."""
        record = self._studio.run(job)
        write_json(self._jobs / f"{job.key}.json", record)
        return int(record.get("pictures", 0))

    def close(self) -> None:
        """Close the studio."""
        self._studio.close()


def make_dataset(
    out: Path,
    settings: DatasetSettings,
    *,
    workers: int = 2,
    progress: Progress | None = None,
    studio: Callable[[Path, DatasetSettings], Desk] | None = None,
) -> Made:
    """Make a dataset, or go on with one that was interrupted.

    Args:
        out: its folder; new, empty, or of the same settings and version.
        settings: everything that its bytes depend on.
        workers: processes.
        progress: is told after each job.
        studio: does the jobs; None: the simulator.

    Raises:
        ConfigError: if `out` holds something else, is in use, or the disk has no room; or what
            the simulator refuses.
        WorkerError: if a worker process died.
        KeyboardInterrupt: after Ctrl-C, with the workers ended; call again to go on.
    """
    if workers < 1:
        raise ConfigError(f"workers is {workers}, want 1 or more")
    jobs = plan(settings)
    if not jobs:
        raise ConfigError("these settings make no picture", fix="ask for totes or picks")
    with _folder(out, settings):
        if studio is None:
            from robollm.sim.dataset.jobs import Studio

            studio = Studio
        sweep(out)
        rest = tuple(j for j in jobs if not _is_done(out / JOBS / f"{j.key}.json"))
        _check_room(out, settings, rest)
        made = 0
        done = len(jobs) - len(rest)
        if progress:
            progress(jobs=done, of=len(jobs), pictures=0, fresh=0)
        with _room_error(out):
            runs = run_jobs(_Laboratory, (studio, out, settings), rest, workers=workers)
            for fresh, count in enumerate(runs, start=1):
                made += count
                if progress:
                    progress(jobs=done + fresh, of=len(jobs), pictures=made, fresh=fresh)
            sweep(out)
            card = finalize(out, settings, _records(out, jobs))
    return Made(len(jobs), len(rest), made, card)


@contextmanager
def _folder(out: Path, settings: DatasetSettings) -> Iterator[None]:
    """Claim the folder for this run: it is ours, of these settings, and nobody else is in it."""
    file, want = out / JOBS / SETTINGS_FILE, identity(settings, fonts_used())
    if not file.is_file() and out.is_dir() and any(p.name != JOBS for p in out.iterdir()):
        raise ConfigError(
            f"{out} is not empty and holds no dataset of `robollm sim`", fix="give a new folder"
        )
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file", fix="give a new folder")
    if file.is_file():
        have = read_object(file)
        if have != want:
            raise ConfigError(
                f"{out} holds a dataset with {_difference(have, want)}",
                fix="give the same options as then, or a new folder",
            )
    try:
        (out / JOBS).mkdir(parents=True, exist_ok=True)
        lock = os.open(out / JOBS / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise ConfigError(
            f"{out} can't be written: {e.strerror}", fix="give a folder on a disk with room"
        ) from e
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise ConfigError(
                f"another process is making {out}", fix="wait for it, or give another folder"
            ) from e
        if not file.is_file():
            with _room_error(out):
                write_json(file, want, indent=1)
        yield
    finally:
        os.close(lock)


def _difference(have: dict[str, Any], want: dict[str, Any]) -> str:
    """Name what differs between two identities, with both values."""
    flat_have = {**have, **(have.get("settings") or {})}
    flat_want = {**want, **want["settings"]}
    names = [k for k in {**flat_want, **flat_have} if k not in ("settings", "fonts")]
    pairs = [
        f"{k} {flat_have.get(k)!r}, not {flat_want.get(k)!r}"
        for k in names
        if flat_have.get(k) != flat_want.get(k)
    ]
    return "; ".join(pairs) or "the same settings, made with other font files"


def _check_room(out: Path, settings: DatasetSettings, rest: tuple[Job, ...]) -> None:
    stats = os.statvfs(out)
    free, need = stats.f_bavail * stats.f_frsize, disk_bytes(settings, rest)
    if rest and free < need + _SLACK_BYTES:
        count = sum(pictures(settings, j) for j in rest)
        raise ConfigError(
            f"{count} pictures need about {need / 2**30:.2f} GiB and {_SLACK_BYTES / 2**30:.1f} "
            f"GiB to spare; {out} has {free / 2**30:.2f} GiB free",
            fix="free some space, choose another disk, or make fewer or smaller pictures",
        )


@contextmanager
def _room_error(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ConfigError(
            f"the disk of {out} is full",
            fix="free some space and run the same command again: what is done stays done",
        ) from e


def _is_done(record: Path) -> bool:
    """Say whether a job has a record that can be read; a crash of the machine can leave a stump."""
    try:
        read_object(record)
    except ConfigError:
        return False
    return True


def _records(out: Path, jobs: tuple[Job, ...]) -> Iterator[tuple[Job, dict[str, Any]]]:
    for job in sorted(jobs, key=lambda j: j.key):
        yield job, read_object(out / JOBS / f"{job.key}.json")
