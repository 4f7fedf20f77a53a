"""What a snapshot searches with: its rows by product, and the whole gallery's search over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import GalleryError
from robollm.gallery.derived import Centroids, Derived, load
from robollm.gallery.names import Names
from robollm.gallery.plan import SearchPlan
from robollm.gallery.plane import Plane, all_centroids, centroids, renewed_centroids
from robollm.gallery.rows import Changes, Rows
from robollm.gallery.whole import WholeSearch

STALE_SHARE = 0.05
"""From this share of rows that an index doesn't know, or that are dead, tidying up is advised."""

_SAMPLES = 64

_GROWN = 4
"""Centroids in memory are put together again when 1 / 4 of them came later."""


# No slots: `cached_property` needs the instance's dictionary.
@dataclass(frozen=True, eq=False)
class Numbered:
    """References of a snapshot by product.

    Attributes:
        names: product ids and their numbers; shared by snapshots.
        references: stored vectors; row i is slot i.
    """

    names: Names
    references: Plane

    @classmethod
    def of(cls, rows: Rows, names: Names) -> Numbered:
        """Number the products of rows."""
        numbers = names.add(rows.ids)
        product = np.full(len(rows.vectors), -1, np.int32)
        if len(rows.slots):
            product[rows.slots] = numbers[np.searchsorted(rows.numbers, rows.products)]
        return cls(names, Plane(rows.vectors, rows.vectors[:0], product))

    def after(self, before: Rows, changes: Changes) -> tuple[Numbered, NDArray[np.bool_]]:
        """The same after changes to `before`; and (products + 1,) bool, whose references changed.

        The last entry stands for nobody and is False.
        """
        numbers = self.names.add(changes.ids)
        plane = self.references.widened(changes.vectors)
        dead = before.slots[np.searchsorted(before.references, changes.died)]
        dirty = np.zeros(len(self.names) + 1, bool)
        dirty[plane.product[dead]] = True
        plane.product[dead] = -1
        if len(changes.slots):
            new = numbers[np.searchsorted(changes.numbers, changes.products)]
            plane.product[changes.slots] = new
            dirty[new] = True
        return Numbered(self.names, plane), dirty

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(products,) how many references each has."""
        mine = self.references.product
        return np.bincount(mine[mine >= 0], minlength=len(self.names))

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """(products,) bool, which have a reference."""
        return self.counts > 0


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """Search over the whole gallery.

    Attributes:
        asked: how to search, as asked for.
        derived: what was read of G/index.
        exact: never misses.
        whole: what was asked for, if it is there.
        references: stored vectors.
    """

    asked: SearchPlan
    derived: Derived
    exact: WholeSearch
    whole: WholeSearch
    references: Plane

    @classmethod
    def of(
        cls, folder: Path, rows: Rows, numbered: Numbered, asked: SearchPlan, *, strict: bool
    ) -> Engine:
        """Read G/index and make what is missing.

        Raises:
            GalleryError: if `strict`, and approximate search was asked for and can't be.
        """
        score = asked.product_score
        derived = load(folder, score, rows)
        plane = numbered.references
        if score == "centroid":
            kept = None if derived.centroids is None else _kept(derived.centroids, rows, numbered)
            if kept is None:
                # Without its centroids a graph or codes of them are of no use.
                why = derived.why or "the index is of vectors that are no longer there"
                derived = Derived(why=why)
                kept = all_centroids(plane, len(numbered.names))
            plane = kept
        if strict and asked.whole == "approximate" and derived.graph is None:
            raise GalleryError(
                f"gallery {str(folder)!r} can't be searched approximately: "
                + (derived.why or "tune chose an exact index for it"),
                fix=f"run: robollm gallery tune {folder} --whole approximate, or set whole to auto",
            )
        return cls._over(asked, derived, plane, numbered.references)

    @classmethod
    def _over(cls, asked: SearchPlan, derived: Derived, plane: Plane, references: Plane) -> Engine:
        exact = WholeSearch.over(plane, codes=derived.codes)
        whole = exact
        if derived.graph is not None and asked.whole != "exact":
            whole = WholeSearch.over(plane, graph=derived.graph)
        return cls(asked, derived, exact, whole, references)

    def after(self, numbered: Numbered, dirty: NDArray[np.bool_]) -> Engine:
        """The same after some products changed."""
        plane = numbered.references
        if self.asked.product_score == "centroid":
            old = self.exact.plane
            in_memory = self.derived.centroids is None
            if in_memory and len(old.tail) * _GROWN > len(old.base):
                plane = all_centroids(plane, len(numbered.names))
            else:
                plane = renewed_centroids(old, plane, dirty)
        return self._over(self.asked, self.derived, plane, numbered.references)

    def tuning(self, rows: Rows) -> Mapping[str, Any] | None:
        """What `tune` wrote down about this search."""
        return rows.records.get(record_name(self.asked.product_score))

    @property
    def plan(self) -> str:
        """What the whole gallery is searched with, for people."""
        plane, score = self.whole.plane, self.asked.product_score
        what = "references" if score == "max" else "centroids"
        if graph := self.derived.graph if self.whole is not self.exact else None:
            rest = len(plane) - len(graph)
            return f"HNSW ef {graph.ef} over {len(graph):,} {what}, {rest:,} later ones exactly"
        if self.derived.codes is not None:
            n = len(self.derived.codes)
            return f"exact: {n:,} {what} by 8-bit codes, re-scored in fp16, the others in fp16"
        why = f" ({self.derived.why})" if self.derived.why and self.asked.whole != "exact" else ""
        return f"exact: {plane.living:,} {what} in fp16{why}"

    @property
    def degraded(self) -> bool:
        """Approximate search was asked for, and its index is of a state that is no more."""
        return self.asked.whole == "approximate" and self.whole is self.exact

    @property
    def advice(self) -> str:
        """What would make search faster or the folder smaller; empty: nothing."""
        said = []
        if self.degraded:
            said.append("searched exactly, not approximately as asked for: robollm gallery tune")
        covered = self.derived.graph or self.derived.codes
        plane = self.whole.plane
        if covered is not None and len(plane) - len(covered) > STALE_SHARE * len(plane):
            share = 100 * (len(plane) - len(covered)) / len(plane)
            said.append(f"{share:.0f} % of the vectors came after the index: robollm gallery tune")
        dead = len(self.references) - self.references.living
        if dead > STALE_SHARE * len(self.references):
            share = 100 * dead / len(self.references)
            said.append(f"{share:.0f} % of the vectors are dead: robollm gallery compact")
        return "; ".join(said)


def record_name(score: str) -> tuple[str, str]:
    """Kind and name of what `tune` writes down."""
    return "tuning", "whole" if score == "max" else f"whole/{score}"


def _kept(stored: Centroids, rows: Rows, numbered: Numbered) -> Plane | None:
    """Stored centroids that are still right, and new ones of the other products.

    None if they are of another gallery, whose numbers are the same: some are computed again.
    """
    valid = np.flatnonzero(stored.valid(rows))
    product = np.full(len(stored.rows), -1, np.int32)
    of_row = numbered.names.add(rows.ids)
    product[valid] = of_row[np.searchsorted(rows.numbers, stored.numbers[valid])]
    some = valid[:: max(1, len(valid) // _SAMPLES)]
    wanted = np.zeros(len(numbered.names) + 1, bool)
    wanted[product[some]] = True
    again, owner = centroids(numbered.references, wanted)
    order = np.argsort(product[some])
    assert np.array_equal(owner, product[some][order])
    if not np.array_equal(again, stored.rows[some[order]]):
        return None
    missing = np.append(numbered.live, False)
    missing[product[valid]] = False
    return renewed_centroids(
        Plane(stored.rows, stored.rows[:0], product), numbered.references, missing
    )
