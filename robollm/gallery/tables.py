"""Rows of a gallery's database as records, and back, with their checksums."""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from robollm.gallery.checksums import crc_of_numbers, crc_of_texts, crc_of_values
from robollm.gallery.records import MadeWith, Product
from robollm.gallery.schema import damaged

IMAGE = "image"
PRODUCT_TEXTS = "title, description, weight_kg, length_m, width_m, height_m, extra"
PRODUCT_ROW = f"number, id, {PRODUCT_TEXTS}, created, changed, texts, crc32"


@dataclass(frozen=True, slots=True)
class Total:
    """How many rows there are, and the sum of their CRC-32: proves that no row is missing."""

    rows: int = 0
    crcs: int = 0

    def plus(self, crcs: Iterable[int]) -> Total:
        """With more rows."""
        added = list(crcs)
        return Total(self.rows + len(added), self.crcs + sum(added))

    def minus(self, crcs: Iterable[int]) -> Total:
        """With fewer rows."""
        gone = list(crcs)
        return Total(self.rows - len(gone), self.crcs - sum(gone))


@dataclass(frozen=True, slots=True)
class State:
    """What a commit leaves: its number, and the totals of the tables.

    Attributes:
        generation: number of commits.
        living: of references that are searched.
        dead: of references that were removed.
        products: of products.
        containers: of containers that are not removed.
        records: of records.
    """

    generation: int = 0
    living: Total = field(default=Total())
    dead: Total = field(default=Total())
    products: Total = field(default=Total())
    containers: Total = field(default=Total())
    records: Total = field(default=Total())

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> State:
        """From JSON."""
        raw = json.loads(text)
        return cls(raw.pop("generation"), **{name: Total(**v) for name, v in raw.items()})


@dataclass(frozen=True, slots=True)
class Space:
    """A set of vectors that can be compared with each other.

    Attributes:
        id: its number.
        name: `image`; the embeddings of titles will be another one.
        dim: length of a vector.
        dtype: of the file, `float16`.
        made_with: the bundle.
        file: name of the vector file.
        slots: how many vectors of it are committed.
    """

    id: int
    name: str
    dim: int
    dtype: str
    made_with: MadeWith
    file: str
    slots: int

    def row(self) -> tuple[Any, ...]:
        """Its columns, the CRC-32 last."""
        values = (self.id, self.name, self.dim, self.dtype, self.made_with.embedding_sha256,
                  self.made_with.bundle, self.file, self.slots)  # fmt: skip
        return (*values, crc_of_values(values))


def read_card(conn: sqlite3.Connection, folder: Path) -> dict[str, str]:
    """The table `card`.

    Raises:
        GalleryError: if a row is damaged or missing.
    """
    card = {}
    for key, value, crc in conn.execute("SELECT key, value, crc32 FROM card"):
        if crc_of_texts(key, value) != crc:
            raise damaged(folder, f"the card's {key!r} is not what was written")
        card[key] = value
    lost = {"gallery", "created", "state"} - card.keys()
    if lost:
        raise damaged(folder, f"the card lacks {sorted(lost)}")
    return card


def read_state(conn: sqlite3.Connection, folder: Path) -> State:
    """What the last commit left.

    Raises:
        GalleryError: if it is damaged.
    """
    return State.of(read_card(conn, folder)["state"])


def write_card(conn: sqlite3.Connection, key: str, value: str) -> None:
    """Write one row of the table `card`."""
    conn.execute(
        "INSERT INTO card VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value=?2, crc32=?3",
        (key, value, crc_of_texts(key, value)),
    )


def read_space(conn: sqlite3.Connection, folder: Path) -> Space:
    """The space of the image embeddings.

    Raises:
        GalleryError: if its row is damaged or missing.
    """
    row = conn.execute("SELECT * FROM space WHERE name=?", (IMAGE,)).fetchone()
    if row is None:
        raise damaged(folder, f"the space {IMAGE!r} is missing")
    number, name, dim, dtype, fingerprint, made_by, file, slots, crc = row
    space = Space(number, name, dim, dtype, MadeWith(fingerprint, made_by), file, slots)
    if space.row()[-1] != crc:
        raise damaged(folder, f"the row of space {IMAGE!r} is not what was written")
    return space


def write_space(conn: sqlite3.Connection, space: Space) -> None:
    """Write the row of a space."""
    conn.execute(
        "INSERT INTO space VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) "
        "ON CONFLICT DO UPDATE SET file=?7, slots=?8, crc32=?9",
        space.row(),
    )


def product_values(product: Product) -> tuple[Any, ...]:
    """The columns title to extra.

    Raises:
        TypeError, ValueError: if a number is none, below 0 or not finite, or `extra` is no JSON.
    """
    sides = product.dimensions_m or (None, None, None)
    numbers = [None if v is None else float(v) for v in (product.weight_kg, *sides)]
    if not all(v is None or (math.isfinite(v) and v >= 0) for v in numbers):
        raise ValueError(f"weight or dimensions {numbers} are not all finite and >= 0")
    extra = json.dumps(dict(product.extra), ensure_ascii=False, allow_nan=False)
    return (product.title, product.description, *numbers, extra)


def to_product(row: tuple[Any, ...]) -> Product:
    """From the columns id, title to extra."""
    pid, title, description, weight, length, width, height, extra, *_ = row
    sides = None if length is None else (length, width, height)
    return Product(pid, title, description, weight, sides, json.loads(extra))


def product_crc(number: int, product_id: str, texts: int) -> int:
    """CRC-32 of a product's row; `texts` is the CRC-32 of its other columns."""
    return crc_of_numbers(number, zlib.crc32(product_id.encode()), texts)


def reference_crc(
    number: int, product: int, space: int, slot: int, born: int, died: int | None, texts: int
) -> int:
    """CRC-32 of a reference's row; `texts` is the CRC-32 of source, sha256 and created."""
    return crc_of_numbers(number, product, space, slot, born, died or 0, texts)


def container_crc(container: str, changed: int, products: Iterable[str]) -> int:
    """CRC-32 of a container and all products that it lists."""
    return crc_of_texts(container, str(changed), *sorted(products))


def record_crc(kind: str, name: str, value: str, changed: str) -> int:
    """CRC-32 of a record."""
    return crc_of_texts(kind, name, value, changed)


def to_record(value: str) -> dict[str, Any]:
    """From a record's JSON."""
    record: dict[str, Any] = json.loads(value)
    return record


def from_record(value: Mapping[str, Any]) -> str:
    """To a record's JSON."""
    return json.dumps(dict(value), ensure_ascii=False, sort_keys=True, allow_nan=False)
