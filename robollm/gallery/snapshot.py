"""A gallery at one generation, for search; immutable, and cheap to follow up."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.decide import Match
from robollm.core.errors import GalleryError
from robollm.gallery.base import as_queries, as_query, best_of, ranked
from robollm.gallery.choice import Choice, Choices
from robollm.gallery.engine import Engine, Numbered
from robollm.gallery.manifest import Manifests
from robollm.gallery.names import LiveNames, Names
from robollm.gallery.plan import SearchPlan
from robollm.gallery.reader import GalleryReader
from robollm.gallery.records import GalleryCard, MadeWith, Product, Reference
from robollm.gallery.rows import Rows
from robollm.gallery.selection import Selection
from robollm.gallery.whole import Best, WholeSearch


class StoredGallery:
    """A stored gallery at one generation. Made by `open_gallery`; any thread may search.

    What a search answers never changes: `refreshed` makes a new snapshot when somebody committed.
    Only `product`, `reference_of` and texts in `manifests` are looked up when asked for, so they
    tell what is known now.

    Attributes:
        generation: number of commits.
        search_plan: how it is searched, as asked for.
    """

    def __init__(
        self,
        reader: GalleryReader,
        rows: Rows,
        numbered: Numbered,
        engine: Engine,
        choices: Choices,
    ) -> None:
        self._reader, self._rows, self._numbered = reader, rows, numbered
        self._engine, self._choices = engine, choices
        self._lock = threading.Lock()
        self._products = LiveNames(numbered.names, numbered.live)
        self.generation = rows.generation
        self.search_plan = engine.asked

    @classmethod
    def opened(
        cls,
        folder: Path,
        *,
        embedding_sha256: str | None,
        bundle: str,
        search: SearchPlan | None = None,
    ) -> StoredGallery:
        """Open a gallery folder; see `robollm.gallery.store.open_gallery`."""
        reader = GalleryReader(folder, embedding_sha256=embedding_sha256, bundle=bundle)
        try:
            rows = reader.load()
            numbered = Numbered.of(rows, Names())
            engine = Engine.of(folder, rows, numbered, search or SearchPlan(), strict=True)
        except BaseException:
            reader.close()
            raise
        return cls(reader, rows, numbered, engine, Choices(numbered, engine))

    def refreshed(self) -> StoredGallery:
        """The newest snapshot: this one if nobody committed, else a new one.

        This one stays as it is. What has changed is read, not the whole gallery, unless it was
        compacted or replaced. Being new goes before being fast: where the index of an approximate
        search fits no more, it is exact from now on, and `plan` and `advice` say so.

        Raises:
            GalleryError: if the gallery is gone, damaged, or made with another bundle now.
        """
        if not self._reader.changed(self._rows):
            return self
        with self._lock:
            changes = self._reader.changes_since(self._rows)
            folder, names = self._reader.folder, self._numbered.names
            if changes is None:
                rows = self._reader.load()
                numbered = Numbered.of(rows, names)
                engine = Engine.of(folder, rows, numbered, self.search_plan, strict=False)
                return StoredGallery(
                    self._reader, rows, numbered, engine, Choices(numbered, engine)
                )
            rows = self._rows.with_changes(changes)
            numbered, dirty = self._numbered.after(self._rows, changes)
            if self._engine.tuning(rows) != self._engine.tuning(self._rows):
                engine = Engine.of(folder, rows, numbered, self.search_plan, strict=False)
            else:
                engine = self._engine.after(numbered, dirty)
            choices = self._choices.after(numbered, engine, dirty)
        return StoredGallery(self._reader, rows, numbered, engine, choices)

    def close(self) -> None:
        """Let go of the database, also for the snapshots that followed. Searches still work."""
        self._reader.close()

    # What there is

    @property
    def dim(self) -> int:
        """See `Gallery`."""
        return self._rows.dim

    @property
    def products(self) -> AbstractSet[str]:
        """See `Gallery`."""
        return self._products

    @property
    def made_with(self) -> MadeWith:
        """The bundle that made the vectors."""
        return self._rows.made_with

    @cached_property
    def card(self) -> GalleryCard:
        """What the gallery is, for people; its size on disk is that of now."""
        return replace(
            self._reader.card(),
            generation=self.generation,
            products=len(self._products),
            references=len(self._rows.references),
            containers=len(self._rows.containers),
            removed=len(self._rows.vectors) - len(self._rows.references),
        )

    @cached_property
    def manifests(self) -> Manifests:
        """The containers that are kept in the gallery, and texts of all its products."""
        return Manifests(_Texts(self._reader, self._products), self._rows.containers)

    @property
    def plan(self) -> str:
        """What the whole gallery is searched with, for people."""
        return self._engine.plan

    @property
    def advice(self) -> str:
        """What would make search faster or the folder smaller; empty: nothing."""
        return self._engine.advice

    def record(self, kind: str, name: str) -> dict[str, Any] | None:
        """A record of this generation, or None."""
        return self._rows.records.get((kind, name))

    def reference_of(self, product_id: str) -> list[Reference]:
        """The references of a product, oldest first; none if it is unknown."""
        return self._reader.references(product_id)

    def vectors_of(self, product_id: str) -> tuple[list[Reference], NDArray[np.float32]]:
        """The references of a product that this generation searches, and their vectors.

        Returns:
            References, oldest first, without those removed since; and (R, D) float32 unit vectors.
        """
        known = self._rows.references
        found = self.reference_of(product_id)
        at = np.searchsorted(known, [r.id for r in found])
        here = [i < len(known) and known[i] == r.id for i, r in zip(at, found, strict=True)]
        slots = self._rows.slots[at[here]]
        kept = [r for r, keep in zip(found, here, strict=True) if keep]
        return kept, self._rows.vectors[slots].astype(np.float32)

    def product(self, product_id: str) -> Product:
        """What is known of a product.

        Raises:
            GalleryError: if nothing is.
        """
        return self._reader.product(product_id)

    # Search

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        allow: AbstractSet[str] | None = None,
        *,
        exclude: AbstractSet[str] | None = None,
    ) -> list[Match]:
        """See `Gallery`."""
        query = as_query(query, self.dim)
        choice = self._choices.of(allow, exclude)
        if isinstance(choice, Selection):
            return choice.search(query, k)
        return self._named(self._over(choice).best(query, k, _mask(choice)), k)

    def search_many(
        self,
        queries: NDArray[np.float32],
        k: int,
        allow: AbstractSet[str] | None = None,
        *,
        exclude: AbstractSet[str] | None = None,
    ) -> list[list[Match]]:
        """See `Gallery`."""
        queries = as_queries(queries, self.dim)
        choice = self._choices.of(allow, exclude)
        if isinstance(choice, Selection):
            return choice.search_many(queries, k)
        found = self._over(choice).best_many(queries, k, _mask(choice))
        return [self._named(best, k) for best in found]

    def search_views(
        self,
        queries: NDArray[np.float32],
        k: int,
        allow: AbstractSet[str] | None = None,
        *,
        exclude: AbstractSet[str] | None = None,
    ) -> list[Match]:
        """See `Gallery`."""
        queries = as_queries(queries, self.dim)
        choice = self._choices.of(allow, exclude)
        if not isinstance(choice, Selection):
            return best_of(self.search_many(queries, k, allow, exclude=exclude), k)
        return choice.search_views(queries, k) if len(queries) else []

    def _over(self, choice: Choice | None) -> WholeSearch:
        exactly = choice is not None and choice.exactly
        return self._engine.exact if exactly else self._engine.whole

    def _named(self, best: Best, k: int) -> list[Match]:
        names = self._numbered.names
        product, score = best
        return ranked(
            ((names[p], s) for p, s in zip(product.tolist(), score.tolist(), strict=True)), k
        )


def _mask(choice: Choice | None) -> NDArray[np.bool_] | None:
    return None if choice is None else choice.rows


class _Texts(Mapping[str, Product]):
    """What is known of each product, looked up one by one: 190,000 texts are not kept in memory."""

    def __init__(self, reader: GalleryReader, products: AbstractSet[str]) -> None:
        self._reader, self._products = reader, products

    def __getitem__(self, product_id: str) -> Product:
        try:
            return self._reader.product(product_id)
        except GalleryError as e:
            raise KeyError(product_id) from e

    def __iter__(self) -> Iterator[str]:
        return iter(self._products)

    def __len__(self) -> int:
        return len(self._products)
