"""Changing a gallery: products, references, containers, records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import GalleryError
from robollm.gallery import edits, tables
from robollm.gallery.manifest import Manifests
from robollm.gallery.records import MadeWith, Product
from robollm.gallery.transaction import Transaction
from robollm.gallery.vectors import unit_rows


class GalleryWriter:
    """Changes a gallery. Use it in one thread, with `with`; made by `open_writer`.

    The first change after a commit begins a transaction, which keeps every other writer waiting
    until `commit` or `rollback`: so embed first, then change and commit at once. Readers never
    wait. A refused change (an unknown product, a zero vector) changes nothing, and the transaction
    goes on; one that fails because of the disk or the database rolls back all since the last
    commit. Methods raise `GalleryError`, also for what the disk does.

    Args:
        folder: the gallery.
        made_with: the bundle of the vectors that will be added; None: none will be.
        wait_s: how long to wait for another writer.
    """

    def __init__(self, folder: Path, made_with: MadeWith | None, wait_s: float) -> None:
        self._made_with = made_with
        self._tx = Transaction(folder, wait_s)
        have = self._tx.space.made_with
        if made_with is not None and made_with.embedding_sha256 != have.embedding_sha256:
            self._tx.close()
            raise GalleryError(
                f"gallery {str(folder)!r} was made with bundle {have.bundle}, the vectors would be "
                f"of bundle {made_with.bundle}: they can't be compared",
                fix="use that bundle, or build a new gallery with this one",
            )

    def __enter__(self) -> GalleryWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Roll back what is not committed, write the log back and close."""
        self._tx.close()

    def commit(self) -> int:
        """Make all changes durable, together.

        Returns:
            The new generation; the old one if nothing changed.
        """
        return self._tx.commit()

    def rollback(self) -> None:
        """Forget all changes since the last commit."""
        self._tx.rollback()

    def known(self) -> dict[str, str]:
        """Source -> sha256 of the living references, with the changes of this transaction."""
        with self._tx.reading() as conn:
            return dict(conn.execute("SELECT source, sha256 FROM reference WHERE died IS NULL"))

    # Products and references

    def put_product(self, product: Product) -> None:
        """Insert a product, or replace what is known of it. Its references stay.

        Raises:
            GalleryError: if it can't be kept: an empty id, a value that is no JSON.
        """
        row = edits.product_row(product)
        with self._tx.changing():
            edits.put_product(self._tx, row)

    def add_references(
        self,
        product_id: str,
        vectors: NDArray[np.floating],
        *,
        sources: Sequence[str],
        sha256s: Sequence[str],
    ) -> None:
        """Add reference vectors of a product, which is made if it is missing.

        Args:
            product_id: the product.
            vectors: (N, D) float, any length but 0; kept as unit vectors in float16.
            sources: name of each image; a gallery has one living reference of a name.
            sha256s: digest of each image.

        Raises:
            GalleryError: if a vector is unusable (its source is named), a source is there already,
                or the writer was opened without a bundle. Nothing is added then.
        """
        if self._made_with is None:
            raise GalleryError(
                "this writer was opened without a bundle, so it can't add vectors",
                fix="pass made_with to open_writer",
            )
        edits.named(product_id, "a product id")
        edits.distinct([edits.named(s, "a source") for s in sources], f"product {product_id!r}")
        if len(sha256s) != len(sources):
            raise GalleryError(
                f"{len(sha256s)} digests for {len(sources)} images of {product_id!r}",
                fix="give one sha256 per image",
            )
        rows = unit_rows(vectors, sources, self._tx.space.dim)
        if not sources:
            return
        with self._tx.changing():
            edits.refuse_known(self._tx, sources)
            slot = self._tx.append(rows)
            number = edits.product_number(self._tx, product_id)
            edits.insert_references(
                self._tx, number, slot, list(zip(sources, sha256s, strict=True))
            )

    def remove_product(self, product_id: str) -> None:
        """Remove a product and its references. Containers go on listing its id.

        Raises:
            GalleryError: if it is unknown.
        """
        with self._tx.changing() as conn:
            row = conn.execute(
                "SELECT number, crc32 FROM product WHERE id=?", (product_id,)
            ).fetchone()
            if row is None:
                raise edits.unknown("product", product_id)
            edits.kill(self._tx, "product=?", row[:1])
            conn.execute("DELETE FROM product WHERE number=?", row[:1])
            self._tx.update(products=self._tx.state.products.minus([row[1]]))

    def remove_reference(self, source: str) -> None:
        """Remove the reference of one image; its product stays.

        Raises:
            GalleryError: if there is none.
        """
        self.remove_references([source])

    def remove_references(self, sources: Sequence[str]) -> int:
        """Remove the references of some images; their products stay.

        Returns:
            How many.

        Raises:
            GalleryError: if one is unknown, or named twice. None is removed then.
        """
        edits.distinct(sources, "the list of sources to remove")
        with self._tx.changing():
            known = edits.living(self._tx, sources)
            for source in sources:
                if source not in known:
                    raise edits.unknown("reference", source)
            for some in edits.parts(sources):
                edits.kill(self._tx, f"source IN ({edits.marks(some)})", some)
        return len(sources)

    # Containers

    def put_container(self, container: str, products: Iterable[str]) -> None:
        """Say which products should be in a container; replaces what was said before.

        Args:
            container: its id.
            products: product ids; they need no reference, and may be unknown.

        Raises:
            GalleryError: if an id is empty or listed twice.
        """
        listed = edits.listed(container, products)
        with self._tx.changing():
            edits.put_container(self._tx, container, listed)

    def remove_container(self, container: str) -> None:
        """Remove a container; its products stay.

        Raises:
            GalleryError: if it is unknown.
        """
        with self._tx.changing():
            edits.remove_container(self._tx, container)

    def put_manifests(self, manifests: Manifests, *, replace: bool = False) -> None:
        """Put all containers and products of manifests.

        Args:
            manifests: as `load_manifests` reads them. A product of which they say nothing but the
                id doesn't replace what is known of it.
            replace: also remove the containers that are not among them.

        Raises:
            GalleryError: see `put_product` and `put_container`. Nothing is put then.
        """
        containers = {c: edits.listed(c, ids) for c, ids in manifests.containers.items()}
        rows = [edits.product_row(p) for p in manifests.products.values()]
        bare = {p.product_id for p in manifests.products.values() if p == Product(p.product_id)}
        with self._tx.changing() as conn:
            for row in rows:
                edits.put_product(self._tx, row, only_if_new=row[0] in bare)
            for container, products in containers.items():
                edits.put_container(self._tx, container, products)
            if replace:
                for (name,) in conn.execute(
                    "SELECT id FROM container WHERE removed IS NULL"
                ).fetchall():
                    if name not in containers:
                        edits.remove_container(self._tx, name)

    # Records

    def put_record(self, kind: str, name: str, value: Mapping[str, Any]) -> None:
        """Keep a JSON document, such as a calibration; replaces the one of that name.

        Raises:
            GalleryError: if it is no JSON, or a number in it is NaN or infinite.
        """
        edits.named(kind, "a record's kind")
        edits.named(name, "a record's name")
        text = edits.as_json(f"record {kind}/{name}", lambda: tables.from_record(value))
        with self._tx.changing():
            edits.put_record(self._tx, kind, name, text)

    def remove_record(self, kind: str, name: str) -> None:
        """Remove a record.

        Raises:
            GalleryError: if there is none.
        """
        with self._tx.changing():
            edits.remove_record(self._tx, kind, name)
