"""The folder of one evaluation: what was asked, on which machine, and every record.

RUN/run.json is the card, see run_card.py. RUN/records/<stream>.<worker>.jsonl has a line per
sample. RUN/lock is held by the process that writes.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from robollm.core.errors import EvalError, RobollmError
from robollm.data.problems import Problems
from robollm.eval import run_card
from robollm.eval.journal import FULL, Index, Journal, unwritable
from robollm.eval.records import Json, Record, from_line, kind_of

LOCK, RECORDS = "lock", "records"


class RunFolder:
    """One run. Make it with `create_or_resume` to write, with `open` to read.

    As a context manager it notes how the run ended. Several threads may read, one may write.

    Attributes:
        path: the folder.
        card: what `run.json` holds.
        problems: what a writer left out; goes into the card.
    """

    def __init__(self, path: Path, card: Json, lock: int | None) -> None:
        self.path, self.card, self._lock = path, card, lock
        self.problems = Problems()
        self._noted = False
        self._indexes: dict[str, tuple[tuple[tuple[str, int], ...], Index]] = {}
        self._began, self._cpu = time.monotonic(), run_card.cpu_s()
        self._spent = (float(card["wall_s"]), float(card["cpu_s"]))

    @classmethod
    def create_or_resume(cls, path: Path, card: Mapping[str, Any]) -> RunFolder:
        """Begin a run in a new or empty folder, or go on with the one that is there.

        Args:
            path: the folder.
            card: `source` (folder, bag, ros), `data`, `predictor`, `settings`: all that decides
                what a record says. A resumed run must have the same, but for the places
                `data.root` and, if `predictor.sha256` is given, `predictor.bundle`.

        Raises:
            EvalError: another run is there, or something else; another process writes there; or
                the folder can't be written.
        """
        asked: Json = json.loads(json.dumps(dict(card), allow_nan=False))
        _refuse_foreign(path)
        lock = _take_lock(path)
        try:
            old = run_card.read_card(path) if (path / run_card.CARD).exists() else None
            if old is not None:
                run_card.refuse_other(path, old, asked)
            run = cls(path, run_card.begun(asked, old), lock)
            for line in run_card.mixed(run.card):
                run.problems.note("mixed_sessions", path.name, line, "kept")
            run._write()
        except BaseException:
            os.close(lock)
            raise
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Read a run, also one that another process writes.

        Raises:
            EvalError: if there is none.
        """
        return cls(path, run_card.read_card(path), None)

    @property
    def streams(self) -> list[str]:
        """Names of the streams that have records, sorted."""
        names = {f.name.rsplit(".", 2)[0] for f in (self.path / RECORDS).glob("*.*.jsonl")}
        return sorted(n.replace("__", "/") for n in names)

    def records(self, stream: str, keys: Collection[str] | None = None) -> Iterator[Record]:
        """The records of a stream, by key: however they came, they are read in one order.

        Args:
            stream: its name; one without records is empty.
            keys: only these, as far as they are there; None: all.

        Lines that are torn or damaged, and second records of one key, are left out and counted,
        see `damage`. A sample that failed and then succeeded has the good record only.

        Raises:
            EvalError: if no line at all is a record of the stream.
        """
        yield from self._index(stream).read(partial(from_line, stream), keys)

    def keys(self, stream: str, *, failed: bool = False) -> set[str]:
        """Keys of samples with an answer; `failed`: of those whose record has an error."""
        places = self._index(stream).places
        return {key for key, place in places.items() if bool(place.error) == failed}

    def check(self, stream: str, passed: Callable[[], None] = lambda: None) -> None:
        """Read every record once, so that `keys` has none that is damaged inside.

        Raises:
            EvalError: see `records`.
        """
        for _ in self.records(stream):
            passed()

    def damage(self, stream: str) -> Problems:
        """What could not be read of a stream's files."""
        return self._index(stream).problems

    def journal(self, stream: str, worker: str = "0") -> Journal:
        """Append to a stream; see `open_journal`.

        Raises:
            EvalError: if the run is open for reading, or the file can't be written.
        """
        if self._lock is None:
            raise EvalError(f"{str(self.path)!r} is open for reading", fix="resume it to write")
        journal = open_journal(self.path, stream, worker)
        if journal.torn:
            what = f"{journal.torn} bytes of a line that a kill left"
            self.problems.note("torn_line", journal.path.name, what, "cut off, to be done again")
        return journal

    def note_stream(self, stream: str, samples: int) -> None:
        """Note how many samples a stream has, and how many of them have an answer or an error.

        Raises:
            EvalError: if the card can't be written.
        """
        done, failed = self._tally(stream)
        row = {"samples": samples, "done": done, "failed": failed}
        self.card["streams"][stream] = row
        self._write()

    def finish(self, reason: str = "") -> None:
        """Note the end of a session.

        Args:
            reason: why it ended early; empty: it is complete if all samples of the streams that
                were noted have a record, be it one with an error.

        Raises:
            EvalError: if the card can't be written.
        """
        self._noted = True
        reason = reason or "; ".join(self._short())
        self.card |= {"complete": not reason, "reason": reason}
        self._write()

    def gaps(self) -> list[str]:
        """Why samples of this run have no record; empty: all have one.

        Counted from the records as they are now: files can be lost after a run.
        """
        if not self.card["complete"]:
            return [f"the run is not complete: {self.card['reason']}"]
        why = []
        for stream, row in sorted(self.card["streams"].items()):
            done, failed = self._tally(stream)
            lost, samples = row["samples"] - done - sum(failed.values()), row["samples"]
            if lost > 0:
                missing = f"{lost} of {samples} samples of {stream}"
                why.append(f"{missing} have no record any more: files are lost or damaged")
        return why

    def partial_reasons(self) -> list[str]:
        """Why figures of this run don't rest on answers to all samples; empty: they do."""
        why = self.gaps()
        for stream, row in sorted(self.card["streams"].items()):
            _, failed = self._tally(stream)
            if failed:
                kinds = ", ".join(f"{n} {kind}" for kind, n in failed.items())
                why.append(
                    f"{sum(failed.values())} of {row['samples']} samples of {stream} have no "
                    f"answer and count as wrong: {kinds}"
                )
        return why

    def close(self) -> None:
        """Let others write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                with suppress(EvalError):  # a full disk: the error on its way up says more
                    self.finish(_why(error))
            elif self._lock is not None and not self._noted:
                self.finish()
        finally:
            self.close()

    def _tally(self, stream: str) -> tuple[int, dict[str, int]]:
        """How many samples have an answer, and kind of error -> how many have that instead."""
        kinds = Counter(p.error for p in self._index(stream).places.values())
        done = kinds.pop("", 0)
        return done, dict(sorted(kinds.items()))

    def _short(self) -> list[str]:
        """Streams that lack records."""
        rows = sorted(self.card["streams"].items())
        missing = {s: r["samples"] - r["done"] - sum(r["failed"].values()) for s, r in rows}
        return [
            f"{missing[s]} of {r['samples']} samples of {s} have no record"
            for s, r in rows
            if missing[s] > 0
        ]

    def _index(self, stream: str) -> Index:
        """Where the records are; scanned again only when a file has changed its size."""
        kind_of(stream)
        files = sorted((self.path / RECORDS).glob(f"{_stem(stream)}.*.jsonl"))
        sizes = tuple((f.name, f.stat().st_size) for f in files)
        known = self._indexes.get(stream)
        if known is None or known[0] != sizes:
            known = self._indexes[stream] = (sizes, Index(files))
        return known[1]

    def _write(self) -> None:
        problems = Problems()
        problems.merge(self.problems)
        for _, index in self._indexes.values():
            problems.merge(index.problems)
        wall, cpu = self._spent
        self.card |= {
            "wall_s": round(wall + time.monotonic() - self._began, 3),
            "cpu_s": round(cpu + run_card.cpu_s() - self._cpu, 3),
            "finished": run_card.now(),
            "problems": {"counts": problems.counts, "lines": problems.lines()},
        }
        run_card.write_json(self.path / run_card.CARD, self.card)


def open_journal(run: Path, stream: str, worker: str) -> Journal:
    """Append to a stream of a run whose lock this process, or the one that started it, holds.

    Args:
        run: the folder.
        stream: see records.py.
        worker: who writes, a word without a dot; two never write at the same time.

    Raises:
        EvalError: if there is no such stream, or the file can't be written.
    """
    kind_of(stream)
    try:
        (run / RECORDS).mkdir(exist_ok=True)
    except OSError as e:
        raise unwritable(run / RECORDS, e) from e
    return Journal(run / RECORDS / f"{_stem(stream)}.{worker}.jsonl")


def _stem(stream: str) -> str:
    return stream.replace("/", "__")


def _take_lock(path: Path) -> int:
    """Make the folder and take its lock, which is the kernel's: it goes with the process.

    Raises:
        EvalError: if another process has it, who is named; or the folder can't be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as e:
        if e.errno in FULL:
            raise unwritable(path, e) from e
        raise EvalError(
            f"{str(path)!r} can't be written: {e.strerror}",
            fix="give a folder as --out that can be written",
        ) from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        holder = os.read(fd, 200).decode(errors="replace").strip() or "a process without a name"
        os.close(fd)
        raise EvalError(
            f"{str(path)!r} is being written by {holder}",
            fix="wait until it is done, or end it; its records are kept",
        ) from e
    except OSError as e:
        os.close(fd)
        raise EvalError(
            f"{str(path / LOCK)!r} can't be locked: {e.strerror}",
            fix="give a folder on a disk of this machine, or on a share that knows locks",
        ) from e
    note = f"process {os.getpid()} ({Path(sys.argv[0]).name}) since {run_card.now()}\n"
    with suppress(OSError):  # a full disk: only the name is missing
        os.ftruncate(fd, 0)
        os.pwrite(fd, note.encode(), 0)
    return fd


def _refuse_foreign(path: Path) -> None:
    """See that a folder is new, empty or a run's, before anything is written into it.

    Raises:
        EvalError: if it is not.
    """
    if (path / run_card.CARD).exists() or not path.exists():
        return
    if not path.is_dir():
        raise EvalError(f"{str(path)!r} is no folder", fix="give a new folder as --out")
    ours = (LOCK, f"{run_card.CARD}.part")  # what a kill in the first moment leaves
    others = sorted(p.name for p in path.iterdir() if p.name not in ours)
    if others:
        raise EvalError(
            f"{str(path)!r} is no run and not empty: it has {', '.join(others[:5])}",
            fix="give a new folder as --out",
        )


def _why(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    words = error.what if isinstance(error, RobollmError) else repr(error)
    return f"stopped: {words}"
