"""Rows and vectors out of the database, each compared with its checksum.

All functions read in the transaction of the connection, and raise `DamagedError`, naming the part,
if something is not what was written.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from robollm.gallery import tables
from robollm.gallery.checksums import crc_of_columns, crc_of_texts, crc_of_values
from robollm.gallery.records import Product, Reference
from robollm.gallery.schema import damaged
from robollm.gallery.tables import Space, Total
from robollm.gallery.vectors import Extent, broken_extents, holes, map_vectors

_MANY = 500
"""Numbers that go into one query."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _typed(read: Callable[Concatenate[Path, _P], _T]) -> Callable[Concatenate[Path, _P], _T]:
    """A flipped byte may give a value another type or range: that is damage, too."""

    @wraps(read)
    def reading(folder: Path, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return read(folder, *args, **kwargs)
        except (TypeError, ValueError, AttributeError, OverflowError, struct.error) as e:
            raise damaged(folder, f"a value of {read.__name__} is no such value: {e}") from e

    return reading


def complete(folder: Path, what: str, want: Total, crcs: Iterable[int]) -> None:
    """Compare with the total: is a row missing, or one there that was deleted?"""
    if isinstance(crcs, np.ndarray):
        found = Total(len(crcs), int(crcs.sum()))
    else:
        found = Total().plus(crcs)
    if found != want:
        raise damaged(
            folder, f"there are {found.rows} {what}, want {want.rows}, or other ones than written"
        )


@_typed
def living(
    folder: Path, conn: sqlite3.Connection, which: str = ""
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Living references, by id.

    Returns:
        (6, N) int64 id, product number, space, slot, born, CRC-32 of texts; (N,) CRC-32.
    """
    rows = conn.execute(
        "SELECT id, product, space, slot, born, texts, crc32 FROM reference "
        # A plain `ORDER BY id` would make SQLite scan the table instead of using an index.
        f"WHERE died IS NULL {which} ORDER BY {'+' if which else ''}id"
    ).fetchall()
    columns = np.array(rows, np.int64).reshape(len(rows), 7).T.copy()
    number, product, space, slot, born, texts, crcs = columns
    found = crc_of_columns((number, product, space, slot, born, np.zeros_like(number), texts))
    bad = np.flatnonzero(found != crcs)
    if len(bad):
        raise damaged(folder, f"the row of reference {number[bad[0]]} is not what was written")
    return columns[:6], crcs


@_typed
def products(
    folder: Path, conn: sqlite3.Connection, want: Total
) -> tuple[NDArray[np.int64], list[str]]:
    """All products: (P,) int64 numbers, ascending, and their ids."""
    numbers, ids, crcs = _product_rows(folder, conn, "ORDER BY number")
    complete(folder, "products", want, crcs)
    return numbers, ids


@_typed
def lookups(
    folder: Path,
    conn: sqlite3.Connection,
    references: NDArray[np.int64],
    numbers: NDArray[np.int64],
    ids: list[str],
) -> None:
    """Compare the two indexes that look-ups go by with the rows, or one might miss a row.

    Args:
        folder: the gallery.
        conn: connection.
        references: (>= 2, N) int64 id and product number of the living references.
        numbers: (P,) int64, of all products.
        ids: of all products.
    """
    want = (references.shape[1], *(int(c.sum()) for c in references[:2]))
    found = conn.execute(
        "SELECT count(*), ifnull(sum(id), 0), ifnull(sum(product), 0) "
        "FROM reference INDEXED BY reference_product WHERE died IS NULL"
    ).fetchone()
    if found != want:
        raise damaged(folder, "the index of references by product doesn't fit its rows")
    by_id = conn.execute("SELECT id, number FROM product INDEXED BY sqlite_autoindex_product_1")
    if dict(by_id) != dict(zip(ids, numbers.tolist(), strict=True)):
        raise damaged(folder, "the index of products by id doesn't fit its rows")


@_typed
def some_products(
    folder: Path, conn: sqlite3.Connection, wanted: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[str]]:
    """Those products by number, which are ascending; all of them must be there."""
    ids: list[str] = []
    for i in range(0, len(wanted), _MANY):
        some = ",".join(map(str, wanted[i : i + _MANY].tolist()))
        ids += _product_rows(folder, conn, f"WHERE number IN ({some}) ORDER BY number")[1]
    if len(ids) != len(wanted):
        raise damaged(folder, "a reference belongs to no product")
    return wanted, ids


def _product_rows(
    folder: Path, conn: sqlite3.Connection, which: str
) -> tuple[NDArray[np.int64], list[str], NDArray[np.int64]]:
    rows = conn.execute(f"SELECT number, id, texts, crc32 FROM product {which}").fetchall()
    number, texts, crcs = (np.array([r[i] for r in rows], np.int64) for i in (0, 2, 3))
    ids = [r[1] for r in rows]
    of_ids = np.fromiter((zlib.crc32(i.encode()) for i in ids), np.int64, len(ids))
    bad = np.flatnonzero(crc_of_columns((number, of_ids, texts)) != crcs)
    if len(bad):
        raise damaged(folder, f"the row of product {ids[bad[0]]!r} is not what was written")
    return number, ids, crcs


def containers(folder: Path, conn: sqlite3.Connection, want: Total) -> dict[str, frozenset[str]]:
    """All containers: id -> product ids."""
    found = container_rows(folder, conn, "removed IS NULL")
    complete(folder, "containers", want, (crc for _, crc in found.values()))
    return {name: listed for name, (listed, _) in found.items()}


@_typed
def product(folder: Path, conn: sqlite3.Connection, product_id: str) -> Product | None:
    """What is known of a product; None: there is none."""
    row = conn.execute(
        f"SELECT {tables.PRODUCT_ROW} FROM product WHERE id=?", (product_id,)
    ).fetchone()
    if row is None:
        return None
    number, pid, *values, texts, crc = row
    if crc_of_values(values) != texts or tables.product_crc(number, pid, texts) != crc:
        raise damaged(folder, f"the row of product {pid!r} is not what was written")
    return tables.to_product(row[1:])


@_typed
def references(folder: Path, conn: sqlite3.Connection, product_id: str) -> list[Reference]:
    """The living references of a product, oldest first."""
    found = []
    for row in conn.execute(
        "SELECT r.id, r.product, r.space, r.slot, r.born, r.died, r.texts, r.crc32, "
        "r.source, r.sha256, r.created FROM reference r JOIN product p ON p.number = r.product "
        "WHERE r.died IS NULL AND p.id=? ORDER BY r.id",
        (product_id,),
    ):
        *numbers, crc, source, sha, created = row
        if (
            tables.reference_crc(*numbers) != crc
            or crc_of_texts(source, sha, created) != numbers[-1]
        ):
            raise damaged(folder, f"the row of reference {row[0]} is not what was written")
        found.append(Reference(row[0], product_id, source, sha, created, row[3]))
    return found


@_typed
def container_rows(
    folder: Path, conn: sqlite3.Connection, where: str
) -> dict[str, tuple[frozenset[str], int]]:
    """Some containers: id -> product ids, CRC-32."""
    listed: dict[int, list[str]] = {}
    for number, product in conn.execute(
        "SELECT container, product FROM container_product WHERE container IN "
        f"(SELECT number FROM container WHERE {where})"
    ):
        listed.setdefault(number, []).append(product)
    found = {}
    for number, name, changed, crc in conn.execute(
        f"SELECT number, id, changed, crc32 FROM container WHERE {where}"
    ):
        ids = listed.get(number, [])
        if tables.container_crc(name, changed, ids) != crc:
            raise damaged(folder, f"the manifest of container {name!r} is not what was written")
        found[name] = (frozenset(ids), crc)
    return found


@_typed
def records(
    folder: Path, conn: sqlite3.Connection, want: Total
) -> dict[tuple[str, str], dict[str, Any]]:
    """All records: (kind, name) -> value."""
    found, crcs = {}, []
    for kind, name, value, changed, crc in conn.execute(
        "SELECT kind, name, value, changed, crc32 FROM record"
    ):
        if tables.record_crc(kind, name, value, changed) != crc:
            raise damaged(folder, f"the record {kind}/{name} is not what was written")
        found[kind, name] = tables.to_record(value)
        crcs.append(crc)
    complete(folder, "records", want, crcs)
    return found


@_typed
def vectors(
    folder: Path, conn: sqlite3.Connection, space: Space, known: int = 0
) -> NDArray[np.float16]:
    """The committed vectors, (slots, dim) float16, mapped; those behind the `known` are verified.

    Raises:
        VectorsGoneError: see `map_vectors`.
    """
    extents: list[Extent] = conn.execute(
        "SELECT first, count, crc32 FROM extent WHERE space=? ORDER BY first", (space.id,)
    ).fetchall()
    wrong = holes(extents, space.slots)
    if wrong:
        raise damaged(folder, wrong)
    mapped = map_vectors(folder / space.file, space.dim, space.slots)
    new = [e for e in extents if e[0] + e[1] > known]
    for first, count, _ in broken_extents(mapped, new):
        raise damaged(
            folder,
            f"{space.file}: the bytes of slots {first} to {first + count - 1} are not those that "
            "were written",
        )
    return mapped
