"""The single changes that a transaction is made of. What can be refused is refused before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from robollm.core.errors import GalleryError
from robollm.gallery import tables
from robollm.gallery.checksums import crc_of_texts, crc_of_values
from robollm.gallery.lock import now
from robollm.gallery.records import Product
from robollm.gallery.transaction import Transaction, execute_values

_MANY = 500
"""Names that go into one query."""

ProductRow = tuple[str, tuple[Any, ...]]
"""(product id, columns title to extra)."""


def storable(text: str, what: str) -> str:
    """A text that the database can keep.

    Raises:
        GalleryError: if it is no text, or no valid Unicode, or has a NUL in it.
    """
    try:
        good = "\0" not in text.encode().decode()
    except (AttributeError, UnicodeEncodeError):
        good = False
    if not good:
        raise GalleryError(
            f"{what} is {text!r}, want a text of valid Unicode without NUL", fix="correct it"
        )
    return text


def named(text: str, what: str) -> str:
    """The same for what must not be empty."""
    if not storable(text, what).strip():
        raise GalleryError(f"{what} is empty", fix="give it a name")
    return text


def distinct(names: Sequence[str], where: str) -> None:
    """Raise `GalleryError` if a name comes twice."""
    if len(set(names)) != len(names):
        twice = next(n for n, count in Counter(names).items() if count > 1)
        raise GalleryError(f"{where} names {twice!r} more than once", fix="name it once")


def listed(container: str, products: Iterable[str]) -> list[str]:
    """The products of a container, sorted.

    Raises:
        GalleryError: if an id is empty, or a product is listed twice.
    """
    named(container, "a container id")
    ids = sorted(named(p, f"a product id of container {container!r}") for p in products)
    distinct(ids, f"container {container!r}")
    return ids


def as_json(what: str, make: Callable[[], Any]) -> Any:
    """What `make` makes, with its refusals as ours."""
    try:
        return make()
    except (TypeError, ValueError) as e:
        raise GalleryError(f"{what} can't be kept: {e}", fix="correct the value") from e


def product_row(product: Product) -> ProductRow:
    """A product as it is kept.

    Raises:
        GalleryError: if it can't be.
    """
    pid = named(product.product_id, "a product id")
    values = as_json(f"product {pid!r}", lambda: tables.product_values(product))
    for text in (values[0], values[1], values[-1]):
        storable(text, f"a text of product {pid!r}")
    return pid, values


def unknown(what: str, name: str) -> GalleryError:
    """The error for something that is not there."""
    return GalleryError(
        f"the gallery has no {what} {name!r}", fix="check the spelling, or leave it out"
    )


def parts(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Names in parts that fit into a query."""
    for i in range(0, len(names), _MANY):
        yield tuple(names[i : i + _MANY])


def marks(names: Sequence[str]) -> str:
    """As many question marks."""
    return ",".join("?" * len(names))


# products


def put_product(tx: Transaction, row: ProductRow, *, only_if_new: bool = False) -> None:
    """Insert a product or replace what is known of it."""
    pid, values = row
    old = tx.conn.execute(f"SELECT {tables.PRODUCT_ROW} FROM product WHERE id=?", (pid,)).fetchone()
    if old is None:
        _insert_product(tx, pid, values)
        return
    number, created, old_crc = old[0], old[9], old[12]
    if only_if_new or old[2:9] == values:
        return
    changed = now()
    texts = crc_of_values((*values, created, changed))
    crc = tables.product_crc(number, pid, texts)
    tx.conn.execute(
        "UPDATE product SET title=?, description=?, weight_kg=?, length_m=?, width_m=?, "
        "height_m=?, extra=?, changed=?, texts=?, crc32=? WHERE number=?",
        (*values, changed, texts, crc, number),
    )
    tx.update(products=tx.state.products.minus([old_crc]).plus([crc]))


def product_number(tx: Transaction, pid: str) -> int:
    """Number of a product, which is made if it is missing."""
    row = tx.conn.execute("SELECT number FROM product WHERE id=?", (pid,)).fetchone()
    if row is not None:
        return int(row[0])
    return _insert_product(tx, pid, tables.product_values(Product(pid)))


def _insert_product(tx: Transaction, pid: str, values: tuple[Any, ...]) -> int:
    number, stamp = tx.next_ids("product", 1), now()
    texts = crc_of_values((*values, stamp, stamp))
    crc = tables.product_crc(number, pid, texts)
    execute_values(tx.conn, "product", [(number, pid, *values, stamp, stamp, texts, crc)])
    tx.update(products=tx.state.products.plus([crc]))
    return number


# references


def living(tx: Transaction, sources: Sequence[str]) -> set[str]:
    """Those of the sources that have a living reference."""
    return {
        source
        for some in parts(sources)
        for (source,) in tx.conn.execute(
            f"SELECT source FROM reference WHERE died IS NULL AND source IN ({marks(some)})", some
        )
    }


def refuse_known(tx: Transaction, sources: Sequence[str]) -> None:
    """Raise `GalleryError` if one of the sources has a living reference."""
    known = living(tx, sources)
    if known:
        raise GalleryError(
            f"the gallery has a reference of {min(known)!r} already",
            fix="remove that one first; it may be in the same transaction",
        )


def insert_references(
    tx: Transaction, product: int, slot: int, images: Sequence[tuple[str, str]]
) -> None:
    """Insert the rows of vectors that were appended from `slot` on; images: (source, sha256)."""
    ref = tx.next_ids("reference", len(images))
    created, born, space = now(), tx.state.generation + 1, tx.space.id
    rows = []
    for i, (source, sha) in enumerate(images):
        texts = crc_of_texts(source, sha, created)
        crc = tables.reference_crc(ref + i, product, space, slot + i, born, None, texts)
        rows.append(
            (ref + i, product, space, slot + i, source, sha, created, born, None, texts, crc)
        )
    execute_values(tx.conn, "reference", rows)
    tx.update(living=tx.state.living.plus(row[-1] for row in rows))


def kill(tx: Transaction, where: str, values: tuple[Any, ...]) -> None:
    """Mark living references as removed; their rows and vectors stay until `compact`."""
    rows = tx.conn.execute(
        "SELECT id, product, space, slot, born, texts, crc32 FROM reference "
        f"WHERE died IS NULL AND {where}",
        values,
    ).fetchall()
    died = tx.state.generation + 1
    new = [
        (died, tables.reference_crc(ref, product, space, slot, born, died, texts), ref)
        for ref, product, space, slot, born, texts, _ in rows
    ]
    tx.conn.executemany("UPDATE reference SET died=?, crc32=? WHERE id=?", new)
    tx.update(
        living=tx.state.living.minus(row[-1] for row in rows),
        dead=tx.state.dead.plus(crc for _, crc, _ in new),
    )


# containers


def put_container(tx: Transaction, container: str, products: list[str]) -> None:
    """Replace the list of a container by these, which are sorted."""
    row = tx.conn.execute(
        "SELECT number, crc32, removed FROM container WHERE id=?", (container,)
    ).fetchone()
    changed = tx.state.generation + 1
    crc = tables.container_crc(container, changed, products)
    containers = tx.state.containers
    if row is None:
        number = tx.conn.execute(
            "INSERT INTO container(id, changed, removed, crc32) VALUES (?, ?, NULL, ?)",
            (container, changed, crc),
        ).lastrowid
    else:
        number, old_crc, removed = row
        if removed is None:
            old = tx.conn.execute(
                "SELECT product FROM container_product WHERE container=?", (number,)
            )
            if sorted(p for (p,) in old) == products:
                return
            containers = containers.minus([old_crc])
        tx.conn.execute("DELETE FROM container_product WHERE container=?", (number,))
        tx.conn.execute(
            "UPDATE container SET changed=?, removed=NULL, crc32=? WHERE number=?",
            (changed, crc, number),
        )
    execute_values(tx.conn, "container_product", [(number, p) for p in products])
    tx.update(containers=containers.plus([crc]))


def remove_container(tx: Transaction, container: str) -> None:
    """Remove a container.

    Raises:
        GalleryError: if it is unknown.
    """
    row = tx.conn.execute(
        "SELECT number, crc32 FROM container WHERE id=? AND removed IS NULL", (container,)
    ).fetchone()
    if row is None:
        raise unknown("container", container)
    number, crc = row
    tx.conn.execute("DELETE FROM container_product WHERE container=?", (number,))
    tx.conn.execute(
        "UPDATE container SET removed=? WHERE number=?", (tx.state.generation + 1, number)
    )
    tx.update(containers=tx.state.containers.minus([crc]))


# records


def put_record(tx: Transaction, kind: str, name: str, text: str) -> None:
    """Keep a record's JSON."""
    old = _record(tx, kind, name)
    if old is not None and old[0] == text:
        return
    changed = now()
    crc = tables.record_crc(kind, name, text, changed)
    tx.conn.execute(
        "INSERT INTO record VALUES (?1, ?2, ?3, ?4, ?5) "
        "ON CONFLICT DO UPDATE SET value=?3, changed=?4, crc32=?5",
        (kind, name, text, changed, crc),
    )
    tx.update(records=tx.state.records.minus([old[1]] if old else []).plus([crc]))


def remove_record(tx: Transaction, kind: str, name: str) -> None:
    """Remove a record.

    Raises:
        GalleryError: if there is none.
    """
    old = _record(tx, kind, name)
    if old is None:
        raise unknown("record", f"{kind}/{name}")
    tx.conn.execute("DELETE FROM record WHERE kind=? AND name=?", (kind, name))
    tx.update(records=tx.state.records.minus([old[1]]))


def _record(tx: Transaction, kind: str, name: str) -> tuple[str, int] | None:
    row: tuple[str, int] | None = tx.conn.execute(
        "SELECT value, crc32 FROM record WHERE kind=? AND name=?", (kind, name)
    ).fetchone()
    return row
