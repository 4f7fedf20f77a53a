"""Give back what removed references take, and bring the vectors into one piece."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import GalleryError
from robollm.gallery import tables, verified
from robollm.gallery.checksums import crc_of_columns
from robollm.gallery.tables import Total
from robollm.gallery.transaction import Transaction
from robollm.gallery.vectors import (
    Extent,
    Progress,
    VectorWriter,
    file_name,
    file_number,
    no_progress,
)

_BLOCK = 8192
"""Vectors that are copied at a time."""


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What `compact_gallery` did.

    Attributes:
        generation: the new one.
        references: living references.
        dropped: rows and vectors of removed references that are gone now.
        bytes_before: of the folder.
        bytes_after: of the folder; open snapshots keep the old vector file on the disk until they
            are closed.
        left: why the database file was not made smaller (the disk is full, somebody writes);
            empty: it was. Its free pages are used again in any case.
    """

    generation: int
    references: int
    dropped: int
    bytes_before: int
    bytes_after: int
    left: str = ""


def compact_gallery(
    folder: Path, *, wait_s: float = 10.0, progress: Progress = no_progress
) -> CompactReport:
    """Rewrite a gallery without its removed references.

    Searches go on: they see the old vectors until their next refresh. Writers wait. The index of
    words is made again. If something was removed, an approximate index doesn't fit afterwards: run
    `robollm gallery tune`. If nothing was, the vectors stay where they are.

    Args:
        folder: the gallery.
        wait_s: how long to wait for another writer.
        progress: called with (vectors done, vectors).

    Raises:
        GalleryError: if it is damaged (nothing is dropped then), busy, or the disk is full.
    """
    before = _bytes(folder)
    with closing(Transaction(folder, wait_s)) as tx:
        try:
            with tx.changing() as conn:
                _remove_unnamed(tx)
                dropped, living = tx.state.dead.rows, tx.state.living.rows
                if dropped:
                    _rewrite(tx, progress)
                conn.execute("DELETE FROM container WHERE removed IS NOT NULL")
                conn.execute("INSERT INTO words(words) VALUES ('rebuild')")
                tx.update()
            generation = tx.commit()
        except BaseException:
            tx.rollback()
            _clean_up(tx)  # most likely the disk is full: not with half a file, too
            raise
        _clean_up(tx)
        try:
            tx.conn.execute("VACUUM")
            left = ""
        except sqlite3.Error as e:
            left = str(e)
    return CompactReport(generation, living, dropped, before, _bytes(folder), left)


def _rewrite(tx: Transaction, progress: Progress) -> None:
    """Write the living vectors into the next file, in the order of their slots, and name it."""
    folder, conn, space = tx.folder, tx.conn, tx.space
    columns, crcs = verified.living(folder, conn)
    verified.complete(folder, "references", tx.state.living, crcs)
    columns = columns[:, np.argsort(columns[3])]
    vectors = verified.vectors(folder, conn, space)
    file = file_name(file_number(space.file) + 1)
    extents = _copy(folder / file, vectors, columns[3], progress)
    conn.execute("DELETE FROM reference WHERE died IS NOT NULL")
    living = _renumber(conn, columns)
    conn.execute("DELETE FROM extent WHERE space=?", (space.id,))
    conn.executemany("INSERT INTO extent VALUES (?, ?, ?, ?)", [(space.id, *e) for e in extents])
    tables.write_space(conn, replace(space, file=file, slots=columns.shape[1]))
    tx.update(living=living, dead=Total())


def _copy(
    file: Path, vectors: NDArray[np.float16], slots: NDArray[np.int64], progress: Progress
) -> list[Extent]:
    """Write these slots, ascending, to the disk; the checksums of the new file."""
    with closing(VectorWriter(file, vectors.shape[1], 0, None)) as new:
        for i in range(0, len(slots), _BLOCK):
            new.append(vectors[slots[i : i + _BLOCK]])
            progress(min(i + _BLOCK, len(slots)), len(slots))
        new.sync()
        return list(new.extents.values())


def _renumber(conn: sqlite3.Connection, columns: NDArray[np.int64]) -> Total:
    """Give each reference its place in the new file; the new total."""
    number, product, space, _, born, texts = columns
    slots = np.arange(len(number))
    crcs = crc_of_columns((number, product, space, slots, born, np.zeros_like(number), texts))
    # In ascending order each slot is free by the time it is given: slots only become smaller.
    conn.executemany(
        "UPDATE reference SET slot=?, crc32=? WHERE id=?",
        zip(slots.tolist(), crcs.tolist(), number.tolist(), strict=True),
    )
    return Total(len(crcs), int(crcs.sum()))


def _clean_up(tx: Transaction) -> None:
    """Remove vector files that no commit names; what fails is left to the next compaction.

    Under the lock, and by what is committed then: nobody else's new file is taken away.
    """
    with suppress(GalleryError):
        try:
            with tx.changing():
                _remove_unnamed(tx)
        finally:
            tx.rollback()


def _remove_unnamed(tx: Transaction) -> None:
    for file in tx.folder.glob("vectors-*.fp16"):
        if file.name != tx.space.file:
            file.unlink(missing_ok=True)


def _bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
