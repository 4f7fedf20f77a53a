"""Reading a gallery: the rows that a search needs, proved whole, and what changed since.

    reader = GalleryReader(folder, embedding_sha256=..., bundle=...)
    rows = reader.load()                      # one commit, whole; verified
    ...
    if reader.changed(rows):                  # microseconds when nothing changed
        changes = reader.changes_since(rows)  # None: compacted or replaced, `load` again
        rows = reader.load() if changes is None else rows.with_changes(changes)

`Rows` are plain arrays and a mapped file: they stay right after the reader is closed, the gallery
changed, or even compacted. Product texts are not among them: `GalleryReader.product` looks them up.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from robollm.core.errors import GalleryError
from robollm.gallery import tables, verified
from robollm.gallery.lock import check_generation, noted_generation
from robollm.gallery.records import GalleryCard, Product, Reference
from robollm.gallery.rows import Changes, Rows
from robollm.gallery.schema import (
    DATABASE,
    FORMAT_VERSION,
    connect,
    damaged,
    ours,
    read_format,
)
from robollm.gallery.tables import Space, State
from robollm.gallery.vectors import VectorsGoneError

_TRIES = 5


class GalleryReader:
    """A connection for reading. One thread at a time gets it; the others wait.

    Args:
        folder: the gallery.
        embedding_sha256: of the bundle that will embed the queries; None: any.
        bundle: that bundle's title, for messages.

    Raises:
        GalleryError: if it is missing, damaged, of another format, or made with another bundle.
    """

    def __init__(
        self, folder: Path, *, embedding_sha256: str | None = None, bundle: str = ""
    ) -> None:
        self.folder = folder
        self._wanted = (embedding_sha256, bundle)
        self._lock = threading.Lock()
        self._conn: sqlite3.Connection | None = None
        self._file: tuple[int, ...] = ()
        self._pid = os.getpid()
        self._seen: tuple[int, int] | None = None
        with self.reading() as conn:
            self._space(conn)

    def close(self) -> None:
        """Close the connection. Rows stay usable."""
        with self._lock:
            self._disconnect()

    def changed(self, rows: Rows) -> bool:
        """Whether another commit, or another gallery, is there now.

        Raises:
            GalleryError: if the gallery is gone or damaged.
        """
        with self._connected() as conn:
            if self._file != rows.identity:
                return True
            version = conn.execute("PRAGMA data_version").fetchone()[0]
            if self._seen is None or self._seen[0] != version:
                self._seen = (version, tables.read_state(conn, self.folder).generation)
            return self._seen[1] != rows.generation

    def load(self) -> Rows:
        """Everything that a search needs, of the newest commit.

        Raises:
            GalleryError: if any of it is not what was written; or see the class.
        """
        with self.snapshot() as (rows, _):
            return rows

    @contextmanager
    def snapshot(self) -> Iterator[tuple[Rows, sqlite3.Connection]]:
        """The same, and the read transaction that it was read in, for further tables."""
        for left in reversed(range(_TRIES)):
            with self.reading() as conn:
                try:
                    rows = self._rows(conn)
                except VectorsGoneError:
                    if left:
                        continue
                    raise
                yield rows, conn
                return

    def _rows(self, conn: sqlite3.Connection) -> Rows:
        state = tables.read_state(conn, self.folder)
        space = self._space(conn)
        columns, crcs = verified.living(self.folder, conn)
        verified.complete(self.folder, "references", state.living, crcs)
        numbers, ids = verified.products(self.folder, conn, state.products)
        verified.lookups(self.folder, conn, columns, numbers, ids)
        containers = verified.containers(self.folder, conn, state.containers)
        records = verified.records(self.folder, conn, state.records)
        vectors = verified.vectors(self.folder, conn, space)
        identity = self._file
        found = np.unique(columns[1])
        place = np.searchsorted(numbers, found)
        if len(found) and (place[-1] >= len(numbers) or (numbers[place] != found).any()):
            raise damaged(self.folder, "a reference belongs to no product")
        return Rows(
            generation=state.generation,
            references=columns[0],
            products=columns[1],
            slots=columns[3],
            numbers=found,
            ids=tuple(ids[i] for i in place),
            containers=containers,
            records=records,
            vectors=vectors,
            file=space.file,
            made_with=space.made_with,
            living=state.living,
            crcs=crcs,
            identity=identity,
        )

    def changes_since(self, rows: Rows) -> Changes | None:
        """What the commits after `rows` changed; None if only a new `load` can tell.

        Raises:
            GalleryError: if something is not what was written.
        """
        with self.reading() as conn:
            state = tables.read_state(conn, self.folder)
            space = self._space(conn)
            then = rows.generation
            if (
                self._file != rows.identity
                or space.file != rows.file
                or state.generation < then
                or space.slots < len(rows.vectors)
            ):
                return None
            new, crcs = verified.living(self.folder, conn, f"AND born > {then}")
            died = np.array(
                conn.execute("SELECT id FROM reference WHERE died > ? ORDER BY +id", (then,))
                .fetchall(),
                np.int64,
            ).ravel()  # fmt: skip
            numbers, ids = verified.some_products(self.folder, conn, np.unique(new[1]))
            changed = verified.container_rows(
                self.folder, conn, f"removed IS NULL AND changed > {then}"
            )
            gone = {
                name
                for (name,) in conn.execute("SELECT id FROM container WHERE removed > ?", (then,))
            }
            if len(rows.containers.keys() - gone | changed.keys()) != state.containers.rows:
                return None  # `compact` forgot some that were removed
            records = verified.records(self.folder, conn, state.records)
            try:
                vectors = verified.vectors(self.folder, conn, space, known=len(rows.vectors))
            except VectorsGoneError:
                return None
        changes = Changes(
            generation=state.generation,
            references=new[0],
            products=new[1],
            slots=new[3],
            crcs=crcs,
            died=died[np.isin(died, rows.references)],
            numbers=numbers,
            ids=ids,
            containers={c: p for c, (p, _) in changed.items()},
            containers_removed=tuple(gone),
            records=records,
            vectors=vectors,
            living=state.living,
        )
        kept = rows.crcs[~np.isin(rows.references, changes.died)]
        verified.complete(self.folder, "references", state.living, np.concatenate([kept, crcs]))
        return changes

    # One thing at a time, as it is now

    def product(self, product_id: str) -> Product:
        """What is known of a product now.

        Raises:
            GalleryError: if nothing is.
        """
        with self.reading() as conn:
            product = verified.product(self.folder, conn, product_id)
        if product is None:
            raise GalleryError(
                f"gallery {str(self.folder)!r} has no product {product_id!r}",
                fix=f"look it up: robollm gallery find {self.folder} WORDS",
            )
        return product

    def references(self, product_id: str) -> list[Reference]:
        """The living references of a product now, oldest first."""
        with self.reading() as conn:
            return verified.references(self.folder, conn, product_id)

    def record(self, kind: str, name: str) -> dict[str, Any] | None:
        """A record now, or None."""
        with self.reading() as conn:
            state = tables.read_state(conn, self.folder)
            return verified.records(self.folder, conn, state.records).get((kind, name))

    def card(self) -> GalleryCard:
        """What the gallery is now, without its vectors."""
        with self.reading() as conn:
            card = tables.read_card(conn, self.folder)
            state, space = State.of(card["state"]), self._space(conn)
            products = conn.execute(
                "SELECT count(DISTINCT product) FROM reference WHERE died IS NULL"
            ).fetchone()[0]
        return GalleryCard(
            folder=self.folder,
            format_version=FORMAT_VERSION,
            made_with=space.made_with,
            dim=space.dim,
            created=card["created"],
            generation=state.generation,
            products=products,
            products_without_reference=state.products.rows - products,
            references=state.living.rows,
            containers=state.containers.rows,
            removed=state.dead.rows,
            bytes_on_disk=_bytes_below(self.folder),
        )

    # Parts

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        if self._pid != os.getpid():
            raise GalleryError(
                f"gallery {str(self.folder)!r} was opened by process {self._pid}, this is its "
                f"fork {os.getpid()}: SQLite doesn't survive a fork",
                fix="open the gallery in the process that uses it",
            )
        with self._lock, ours(self.folder, "read"):
            try:
                found = (self.folder / DATABASE).stat()
            except FileNotFoundError:
                read_format(self.folder)
                raise damaged(self.folder, f"{DATABASE} is missing") from None
            file = (found.st_dev, found.st_ino)
            if self._conn is None or file != self._file:
                self._disconnect()
                read_format(self.folder)
                self._conn, self._file = connect(self.folder, write=False), file
            yield self._conn

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: everything in it is of one commit."""
        with self._connected() as conn:
            noted = noted_generation(self.folder)
            conn.execute("BEGIN")
            try:
                found = tables.read_state(conn, self.folder).generation
                check_generation(self.folder, noted, found)
                yield conn
            finally:
                conn.execute("ROLLBACK")

    def _disconnect(self) -> None:
        if self._conn is not None:
            self._conn.close()
        self._conn, self._seen = None, None

    def _space(self, conn: sqlite3.Connection) -> Space:
        space = tables.read_space(conn, self.folder)
        sha, bundle = self._wanted
        if sha is not None and sha != space.made_with.embedding_sha256:
            raise GalleryError(
                f"gallery {str(self.folder)!r} was made with bundle {space.made_with.bundle}, the "
                f"loaded bundle is {bundle}: their embeddings can't be compared",
                fix="build the gallery again with this bundle",
            )
        return space


def _bytes_below(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # another process' file of a moment ago
            total += file.stat().st_size if file.is_file() else 0
    return total
