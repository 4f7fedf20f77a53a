"""Read everything that a gallery holds and name what is not as it was written."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import GalleryError
from robollm.gallery import derived, lock, tables
from robollm.gallery.checksums import crc_of_texts, crc_of_values
from robollm.gallery.reader import GalleryReader
from robollm.gallery.schema import CARD, DamagedError, connect, ours, read_format
from robollm.gallery.tables import Space, State, Total
from robollm.gallery.vectors import (
    Extent,
    VectorsGoneError,
    broken_extents,
    holes,
    map_vectors,
)

_NAMED = 20
"""Problems of one kind that are named; more are counted."""

_BLOCK = 4096
_TRIES = 5


@dataclass(slots=True)
class CheckReport:
    """What `check_gallery` found.

    Attributes:
        folder: the gallery.
        generation: of the commit that was read; -1 if it can't be told.
        references: living references.
        vectors: slots whose bytes were compared.
        problems: what is damaged; empty: nothing.
        notes: what is no damage and still worth knowing: what of `index` is left out, what takes
            space for nothing.
    """

    folder: Path
    generation: int = -1
    references: int = 0
    vectors: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_gallery(folder: Path) -> CheckReport:
    """Check a gallery: database, rows, vectors, words, index.

    Changes nothing, and disturbs neither readers nor writers. Needs room for a second copy of the
    database where SQLite keeps temporary files.

    Args:
        folder: the gallery.

    Raises:
        GalleryError: if there is no gallery of this format and schema at all, or it can't be read.
    """
    read_format(folder)
    for left in reversed(range(_TRIES)):
        report = CheckReport(folder)
        noted = lock.noted_generation(folder)
        try:
            with ours(folder, "check"), closing(connect(folder, write=False)) as conn:
                conn.execute("BEGIN")
                _Check(report, conn).run(noted)
        except VectorsGoneError as e:
            if left:  # a compaction ended in this moment
                continue
            report.problems.append(e.what)
        except DamagedError as e:
            report.problems.append(e.what)
        if not report.problems:
            _index(report)
        return report
    raise AssertionError("unreachable")


class _Check:
    """The parts, in one read transaction. Each goes on where another one found damage."""

    def __init__(self, report: CheckReport, conn: sqlite3.Connection) -> None:
        self._report, self._conn, self._folder = report, conn, report.folder

    def run(self, noted: int) -> None:
        """Run all of them.

        Raises:
            VectorsGoneError: if a compaction ended before the vectors were mapped.
        """
        self._attempt("space", self._vectors)
        self._attempt("database", self._database)
        self._attempt("card", lambda: self._rows(noted))
        self._attempt("words", self._words)

    def _attempt(self, part: str, check: Callable[[], None]) -> None:
        try:
            check()
        except VectorsGoneError:
            raise
        except GalleryError as e:
            self._report.problems.append(e.what)
        except (sqlite3.Error, struct.error, OSError, ValueError, TypeError, AttributeError) as e:
            # A damaged page gives SQLite's errors, or values of the wrong type to ours.
            self._report.problems.append(f"{part}: {type(e).__name__}: {e}")

    def _name(self, problems: Iterator[str]) -> None:
        """Note the first problems of a kind and how many more there are."""
        more = 0
        for i, problem in enumerate(problems):
            if i < _NAMED:
                self._report.problems.append(problem)
                last = problem
            else:
                more += 1
        if more:
            self._report.problems.append(f"and {more} more like: {last}")

    def _database(self) -> None:
        lines = self._conn.execute(f"PRAGMA integrity_check({_NAMED})").fetchall()
        self._name(f"database: {line}" for (line,) in lines if line != "ok")
        self._name(
            f"database: row {row} of {table} names a {parent} that is not there"
            for table, row, parent, _ in self._conn.execute("PRAGMA foreign_key_check")
        )

    def _rows(self, noted: int) -> None:
        state = tables.read_state(self._conn, self._folder)
        self._report.generation, self._report.references = state.generation, state.living.rows
        self._attempt("note", lambda: lock.check_generation(self._folder, noted, state.generation))
        self._attempt("products", lambda: self._name(self._products(state)))
        self._attempt("containers", lambda: self._name(self._containers(state)))
        self._attempt("records", lambda: self._name(self._records(state)))
        space = tables.read_space(self._conn, self._folder)
        self._attempt(CARD, lambda: self._name(self._static_card(space)))
        self._attempt("references", lambda: self._name(self._references(state, space)))
        if state.dead.rows:
            self._report.notes.append(
                f"{state.dead.rows} removed vectors take space: "
                f"robollm gallery compact {self._folder}"
            )
        for file in sorted(self._folder.glob("vectors-*.fp16")):
            if file.name != space.file:
                self._report.notes.append(
                    f"{file.name} is of a compaction at work, or left from one that was "
                    "interrupted; the next one removes it"
                )

    def _static_card(self, space: Space) -> Iterator[str]:
        card = json.loads((self._folder / CARD).read_bytes())
        want = {
            "created": tables.read_card(self._conn, self._folder)["created"],
            "dim": space.dim,
            "bundle": space.made_with.bundle,
            "embedding_sha256": space.made_with.embedding_sha256,
        }
        for key, value in want.items():
            if card.get(key) != value:
                yield f"{CARD}: {key} is {card.get(key)!r}, the database says {value!r}"

    def _references(self, state: State, space: Space) -> Iterator[str]:
        totals = {True: Total(), False: Total()}
        sources: set[str] = set()
        taken = np.zeros(space.slots, bool)
        products = {number for (number,) in self._conn.execute("SELECT number FROM product")}
        for row in self._conn.execute(
            "SELECT id, product, space, slot, born, died, texts, crc32, source, sha256, created "
            "FROM reference NOT INDEXED ORDER BY id"
        ):
            *numbers, crc, source, sha, created = row
            ref, product, of_space, slot, born, died, texts = numbers
            name = f"reference {ref} ({source!r})"
            if tables.reference_crc(*numbers) != crc or crc_of_texts(source, sha, created) != texts:
                yield f"the row of {name} is not what was written"
            alive = died is None
            totals[alive] = totals[alive].plus([crc])
            if of_space != space.id or not 0 <= slot < space.slots:
                yield f"{name} names slot {slot} of space {of_space}, which has {space.slots}"
            elif taken[slot]:
                yield f"{name} names slot {slot}, which another one has"
            else:
                taken[slot] = True
            if max(born, died or 0) > state.generation:
                yield f"{name} is of a commit after {state.generation}, the last one"
            if not alive:
                continue
            if product not in products:
                yield f"{name} belongs to no product"
            if source in sources:
                yield f"{name} is there more than once"
            sources.add(source)
        yield from _total("references", state.living, totals[True])
        yield from _total("removed references", state.dead, totals[False])
        if not taken.all():
            yield f"{np.count_nonzero(~taken)} slots of {space.slots} belong to no reference"

    def _products(self, state: State) -> Iterator[str]:
        total = Total()
        for row in self._conn.execute(f"SELECT {tables.PRODUCT_ROW} FROM product NOT INDEXED"):
            number, pid, *texts, sum_of_texts, crc = row
            if (
                crc_of_values(texts) != sum_of_texts
                or tables.product_crc(number, pid, sum_of_texts) != crc
            ):
                yield f"the row of product {pid!r} is not what was written"
            total = total.plus([crc])
        yield from _total("products", state.products, total)

    def _containers(self, state: State) -> Iterator[str]:
        total = Total()
        for number, name, changed, crc in self._conn.execute(
            "SELECT number, id, changed, crc32 FROM container NOT INDEXED WHERE removed IS NULL"
        ):
            listed = self._conn.execute(
                "SELECT product FROM container_product WHERE container=?", (number,)
            )
            if tables.container_crc(name, changed, (p for (p,) in listed)) != crc:
                yield f"the manifest of container {name!r} is not what was written"
            total = total.plus([crc])
        yield from _total("containers", state.containers, total)

    def _records(self, state: State) -> Iterator[str]:
        total = Total()
        for kind, name, value, changed, crc in self._conn.execute(
            "SELECT kind, name, value, changed, crc32 FROM record NOT INDEXED"
        ):
            if tables.record_crc(kind, name, value, changed) != crc:
                yield f"the record {kind}/{name} is not what was written"
            total = total.plus([crc])
        yield from _total("records", state.records, total)

    def _vectors(self) -> None:
        space = tables.read_space(self._conn, self._folder)
        mapped = map_vectors(self._folder / space.file, space.dim, space.slots)
        extents: list[Extent] = self._conn.execute(
            "SELECT first, count, crc32 FROM extent WHERE space=? ORDER BY first", (space.id,)
        ).fetchall()
        if wrong := holes(extents, space.slots):
            self._report.problems.append(f"{space.file}: {wrong}")
            return
        self._report.vectors = len(mapped)
        broken = broken_extents(mapped, extents)
        self._name(self._hit(space, extent) for extent in broken)
        if not broken:
            self._name(_odd_lengths(space, mapped))

    def _hit(self, space: Space, extent: Extent) -> str:
        first, last = extent[0], extent[0] + extent[1] - 1
        hit = [
            str(pid)
            for (pid,) in self._conn.execute(
                "SELECT DISTINCT p.id FROM reference r JOIN product p ON p.number = r.product "
                "WHERE r.died IS NULL AND r.slot BETWEEN ? AND ? ORDER BY r.slot",
                (first, last),
            )
        ]
        more = f" and {len(hit) - _NAMED} more" if len(hit) > _NAMED else ""
        return (
            f"{space.file}: the bytes of slots {first} to {last} are not those that were written; "
            f"they are of {', '.join(hit[:_NAMED]) or 'removed products'}{more}"
        )

    def _words(self) -> None:
        # The check is an INSERT, so it runs on a copy: nothing here may write. SQLite deletes the
        # temporary file of a database without a name, and keeps it in memory while it is small.
        with closing(sqlite3.connect("")) as copy:
            self._conn.backup(copy)
            try:
                copy.execute("INSERT INTO words(words, rank) VALUES ('integrity-check', 1)")
            except sqlite3.DatabaseError:
                self._report.problems.append(
                    "the index of words is damaged (look-up by words only); "
                    f"robollm gallery compact {self._folder} makes it again"
                )


def _total(what: str, want: Total, found: Total) -> Iterator[str]:
    if want.rows != found.rows:
        yield f"there are {found.rows} {what}, want {want.rows}"
    elif want != found:
        yield f"the {want.rows} {what} are other ones than were written"


def _odd_lengths(space: Space, vectors: NDArray[np.float16]) -> Iterator[str]:
    for i in range(0, len(vectors), _BLOCK):
        length = np.linalg.norm(vectors[i : i + _BLOCK].astype(np.float32), axis=1)
        for at in np.flatnonzero(~(abs(length - 1) < 0.01)):
            yield f"{space.file}: the vector of slot {i + at} has length {length[at]:.3f}, want 1"


def _index(report: CheckReport) -> None:
    """Note what a search would leave out of the derived files."""
    place = report.folder / derived.FOLDER
    cards = [s for s in ("max", "centroid") if (place / f"{s}.json").exists()]
    if not cards:
        return
    with closing(GalleryReader(report.folder)) as reader:
        rows = reader.load()
    report.notes += [
        f"{derived.FOLDER}/{score}: {found.why}"
        for score in cards
        if (found := derived.load(report.folder, score, rows)).why
    ]
