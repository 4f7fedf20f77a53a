"""A writing transaction over a gallery's database and its vector file, as one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import GalleryError
from robollm.gallery import lock, tables
from robollm.gallery.schema import connect, ours, read_format
from robollm.gallery.tables import Space, State
from robollm.gallery.vectors import VectorWriter


class Transaction:
    """One connection that writes, and at most one transaction of it at a time.

    Order of a commit: vectors to the disk, then the rows that name them. Whatever dies in between
    leaves vectors that no row names; the next writer writes over them.

    Args:
        folder: the gallery.
        wait_s: how long to wait for another writer.

    Attributes:
        conn: the connection.
        state: the totals, as this transaction leaves them.
        space: of the image embeddings, as committed.
    """

    def __init__(self, folder: Path, wait_s: float) -> None:
        read_format(folder)
        self.folder = folder
        self._wait_s = wait_s
        self._pid = os.getpid()
        self._vectors: VectorWriter | None = None
        self._next: dict[str, int] = {}
        self._dirty = False
        self.state: State
        self.space: Space
        self.conn = connect(folder, write=True, wait_s=wait_s)
        try:
            with ours(folder, "read"):
                noted = lock.noted_generation(folder)
                self._read_committed(noted)
        except BaseException:
            self.conn.close()
            raise

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Begin if need be. What fails because of the disk or the database rolls all back.

        A `GalleryError` of the caller doesn't: it must come before the first change.
        """
        self._check_process()
        if not self.conn.in_transaction:
            noted = lock.noted_generation(self.folder)
            lock.begin(self.conn, self.folder, self._wait_s)
            with ours(self.folder, "read"), self._or_back():
                try:
                    self._read_committed(noted)
                except GalleryError:  # damaged: let go of the lock
                    self.rollback()
                    raise
        with ours(self.folder, "write to"), self._or_back():
            yield self.conn

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, to look at what is committed and what this transaction changed."""
        self._check_process()
        with ours(self.folder, "read"):
            yield self.conn

    def update(self, **totals: Any) -> None:
        """Note that something changed, and the new totals."""
        self.state = replace(self.state, **totals)
        self._dirty = True

    def append(self, rows: NDArray[np.float16]) -> int:
        """Write (N, D) float16 vectors behind the last ones; their first slot."""
        if self._vectors is None:
            last = self.conn.execute(
                "SELECT first, count, crc32 FROM extent WHERE space=? ORDER BY first DESC LIMIT 1",
                (self.space.id,),
            ).fetchone()
            file = self.folder / self.space.file
            self._vectors = VectorWriter(file, self.space.dim, self.space.slots, last)
        first = self._vectors.slots
        self._vectors.append(rows)
        self._dirty = True
        return first

    def next_ids(self, table: str, n: int) -> int:
        """The first of n numbers that the table never had."""
        if table not in self._next:
            row = self.conn.execute(
                "SELECT seq FROM sqlite_sequence WHERE name=?", (table,)
            ).fetchone()
            self._next[table] = 1 if row is None else row[0] + 1
        first = self._next[table]
        self._next[table] += n
        return first

    def commit(self) -> int:
        """Make all changes durable; the generation, which is the old one if nothing changed."""
        self._check_process()
        if not self._dirty:
            self.rollback()
            return self.state.generation
        with ours(self.folder, "write to"), self._or_back():
            if self._vectors is not None:
                self._vectors.sync()
                for extent in self._vectors.extents.values():
                    self.conn.execute(
                        "INSERT INTO extent VALUES (?1, ?2, ?3, ?4) "
                        "ON CONFLICT DO UPDATE SET count=?3, crc32=?4",
                        (self.space.id, *extent),
                    )
                tables.write_space(self.conn, replace(self.space, slots=self._vectors.slots))
            self.state = replace(self.state, generation=self.state.generation + 1)
            tables.write_card(self.conn, "state", self.state.text())
            lock.end(self.folder)
            self.conn.execute("COMMIT")
        generation = self.state.generation
        self._forget()
        # It is committed: no error may say otherwise. A note that stays older is always allowed.
        with suppress(OSError):
            lock.note_generation(self.folder, generation)
        return generation

    def rollback(self) -> None:
        """Forget all changes since the last commit."""
        self._check_process()
        self._forget()
        if self.conn.in_transaction:
            with ours(self.folder, "roll back"):
                lock.end(self.folder)
                self.conn.execute("ROLLBACK")

    def close(self) -> None:
        """Roll back what is not committed, write the log back and close."""
        if self._pid != os.getpid():
            return  # a fork's copy; the connection is the parent's
        try:
            self.rollback()
            # Not if somebody reads it, or the disk is full: what is in the log is committed, too.
            with suppress(sqlite3.Error):
                self.conn.execute("PRAGMA busy_timeout=0")
                self.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self.conn.close()

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise GalleryError(
                f"the writer of gallery {str(self.folder)!r} belongs to process {self._pid}, this "
                f"is its fork {os.getpid()}: SQLite doesn't survive a fork",
                fix="open the writer in the process that uses it",
            )

    def _read_committed(self, noted: int) -> None:
        self.state = tables.read_state(self.conn, self.folder)
        self.space = tables.read_space(self.conn, self.folder)
        lock.check_generation(self.folder, noted, self.state.generation)

    @contextmanager
    def _or_back(self) -> Iterator[None]:
        """Roll back on what is no deliberate refusal, and let it through."""
        try:
            yield
        except GalleryError:
            raise
        except BaseException:
            self._forget()
            lock.end(self.folder)
            if self.conn.in_transaction:  # SQLite may have rolled back by itself
                self.conn.execute("ROLLBACK")
            raise

    def _forget(self) -> None:
        if self._vectors is not None:
            self._vectors.close()
        self._vectors = None
        self._next = {}
        self._dirty = False


def execute_values(conn: sqlite3.Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Insert rows that have a value for every column."""
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        conn.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
