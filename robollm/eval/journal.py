"""Files of records: appended line by line, read in the order of their keys, damage or not.

A kill can tear the last line only; a new writer cuts it off. A reader of a run that still grows, or
was copied by a broken link, leaves such lines out and counts them.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from robollm.core.errors import EvalError
from robollm.data.problems import Problems
from robollm.eval.records import Record

SYNC_S = 5.0
"""A power cut loses at most so many seconds of records; a killed process loses none."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HEAD, _ERROR, _TAIL = b'{"key":"', ',"error":', b"}\n"
_HEAD_BYTES = 1 << 14
"""Key and error of a record fit into so much; see `records.WORDS`."""
_CHUNK = 1 << 16
R = TypeVar("R")


class Journal:
    """Appends records to one file; one writer per file.

    Args:
        path: the file; its folder must exist. A torn last line is cut off.

    Attributes:
        path: the file.
        torn: bytes that were cut off when it was opened.

    Raises:
        EvalError: if it can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as e:
            raise unwritable(path, e) from e
        size = os.fstat(self._fd).st_size
        self._end = _whole(self._fd, size)
        self.torn = size - self._end
        os.ftruncate(self._fd, self._end)
        self._synced = time.monotonic()

    def append(self, record: Record) -> None:
        """Write one record; see `write`."""
        self.write(record.to_line())

    def write(self, line: bytes) -> None:
        """Write what `Record.to_line` made: when this returns, a kill can't lose it.

        Raises:
            EvalError: if the disk is full or fails. The file then ends with the record before.
        """
        try:
            done = 0
            while done < len(line):
                done += os.pwrite(self._fd, line[done:], self._end + done)
            self._end += len(line)
            if time.monotonic() - self._synced > SYNC_S:
                self._sync()
        except OSError as e:
            with suppress(OSError):  # else the next one that opens it does it
                os.ftruncate(self._fd, self._end)
            raise unwritable(self.path, e) from e

    def close(self) -> None:
        """Bring everything to the disk.

        Raises:
            EvalError: if that fails.
        """
        try:
            self._sync()
        except OSError as e:
            raise unwritable(self.path, e) from e
        finally:
            os.close(self._fd)

    def _sync(self) -> None:
        os.fsync(self._fd)
        self._synced = time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            os.close(self._fd)  # what is on its way up says more than a failing fsync


def _whole(fd: int, size: int) -> int:
    """Where the last whole line of a file ends."""
    end = size
    while end > 0:
        begin = max(0, end - _CHUNK)
        at = os.pread(fd, end - begin, begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        end = begin
    return 0


def unwritable(path: Path, error: OSError) -> EvalError:
    """The error that says why a file of a run can't be written."""
    if error.errno in FULL:
        return EvalError(
            f"no room to write {path.name}: {error.strerror}; the records before are kept",
            fix="make room, then run the same command again: it goes on where it was",
        )
    return EvalError(
        f"{str(path)!r} can't be written: {error.strerror}; the records before are kept",
        fix="repair that, then run the same command again: it goes on where it was",
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record is: file, first byte and length there; kind of its error, or nothing."""

    file: Path
    offset: int
    length: int
    error: str


class Index:
    """Where the records of a stream are.

    Of several with one key the first without an error counts; if all have one, the last.

    A line is known by its two ends. One that turns out to be damaged inside, when it is read, is
    none: the next best one with its key counts, or the key has no record any more.

    Args:
        files: the stream's files.

    Attributes:
        places: key -> place, by key.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._lines = problems = Problems()
        self._files = list(files)
        self._others: dict[str, list[Place]] = {}  # further records of a key, in their order
        found: dict[str, Place] = {}
        for file in files:
            for key, place in _lines(file, problems):
                before = found.get(key)
                if before is not None:
                    self._others.setdefault(key, []).append(place if not before.error else before)
                if before is not None and not before.error:
                    continue
                found[key] = place
        self.places = dict(sorted(found.items()))

    @property
    def problems(self) -> Problems:
        """Lines that can't be used, and records that are there twice."""
        out = Problems()
        out.merge(self._lines)
        for key, others in self._others.items():
            for place in others:
                if not place.error and not self.places[key].error:
                    where = f"{place.file.name}, byte {place.offset}"
                    out.note("duplicate_record", where, f"{key!r} has a record already")
        return out

    def read(
        self, understand: Callable[[bytes], R], keys: Collection[str] | None = None
    ) -> Iterator[R]:
        """What the line of each record says, by key.

        Args:
            understand: makes it of a line.
            keys: only these; None: all.

        Raises:
            EvalError: what `understand` raised of the first line, if it did so of every one.
        """
        wanted = self.places.keys() & (self.places.keys() if keys is None else set(keys))
        why: EvalError | None = None
        good = 0
        with ExitStack() as stack:
            handles = {}
            for file in self._files:
                handles[file] = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, handles[file])
            for key, first in [(k, p) for k, p in self.places.items() if k in wanted]:
                place: Place | None = first
                while place is not None:
                    line = os.pread(handles[place.file], place.length, place.offset)
                    try:
                        found = understand(line)
                    except EvalError as e:
                        why = why or e
                        place = self._next(key, place, e)
                        continue
                    good += 1
                    yield found
                    break
        if why is not None and keys is None and not good:
            raise why

    def _next(self, key: str, damaged: Place, why: EvalError) -> Place | None:
        """Forget a place; the next best one of its key, if there is one."""
        others = self._others.get(key, [])
        best = next((p for p in others if not p.error), others[-1] if others else None)
        if best is None:
            where = f"{damaged.file.name}, byte {damaged.offset}"
            self._lines.note("damaged_line", where, why.what, "left out, to be done again")
            del self.places[key]
            self._others.pop(key, None)
        else:
            others.remove(best)
            self.places[key] = best
        return best


def _lines(file: Path, problems: Problems) -> Iterator[tuple[str, Place]]:
    with file.open("rb") as f:
        offset = 0
        for line in f:
            place, offset = offset, offset + len(line)
            if not line.endswith(b"\n"):
                problems.note("torn_line", f"{file.name}, byte {place}", "the last line has no end")
            elif (head := _head(line)) is None:
                problems.note("damaged_line", f"{file.name}, byte {place}", "not a record")
            else:
                yield head[0], Place(file, place, len(line), head[1])


def _head(line: bytes) -> tuple[str, str] | None:
    """Key of a line, and the kind of its record's error, or nothing; None: it is no record."""
    if not (line.startswith(_HEAD) and line.endswith(_TAIL)) or b"\0" in line:
        return None  # zeros are what a power cut leaves
    read = json.JSONDecoder().raw_decode
    text = line[len(_HEAD) - 1 : _HEAD_BYTES].decode(errors="replace")
    try:
        key, end = read(text)
        if not text.startswith(_ERROR, end):
            return None
        error, _ = read(text, end + len(_ERROR))
    except ValueError:
        return None
    return str(key), str(error["kind"]) if error else ""
