"""Which products may be answered, prepared once per snapshot and set of products."""

from __future__ import annotations

import threading
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robollm.gallery.engine import Engine, Numbered
from robollm.gallery.plane import centroids
from robollm.gallery.selection import Selection

_KEPT = 64
_SMALL = 4096
"""References up to which a set of products gets a matrix of its own: 12 MB at 768 numbers."""

_Key = tuple[frozenset[str] | None, frozenset[str] | None]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A choice of rows for the whole gallery's search.

    Attributes:
        rows: (rows of the plane,) bool.
        exactly: the approximate search must not be used: most rows are not allowed.
    """

    rows: NDArray[np.bool_]
    exactly: bool


class Choices:
    """The choices of one snapshot; the last 64 are kept.

    Args:
        numbered: references by product.
        engine: what is searched.
        kept: selections of an earlier snapshot that are still right.
    """

    def __init__(
        self,
        numbered: Numbered,
        engine: Engine,
        kept: dict[_Key, Selection | Choice] | None = None,
    ) -> None:
        self._numbered, self._engine = numbered, engine
        self._kept = kept or {}
        self._lock = threading.Lock()

    def of(
        self, allow: AbstractSet[str] | None, exclude: AbstractSet[str] | None
    ) -> Selection | Choice | None:
        """A small set's selection, a large one's rows, or None: everything may be answered."""
        if allow is None and not exclude:
            return None
        # A frozenset is itself, and keeps its hash: the same object again costs nothing.
        key = (None if allow is None else frozenset(allow), frozenset(exclude) if exclude else None)
        with self._lock:
            found = self._kept.pop(key, None)
            if found is not None:
                self._kept[key] = found
                return found
        made = self._made(*key)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]
        return made

    def after(self, numbered: Numbered, engine: Engine, dirty: NDArray[np.bool_]) -> Choices:
        """The choices of the next snapshot: containers whose products didn't change stay."""
        changed = {numbered.names[n] for n in np.flatnonzero(dirty).tolist()}
        with self._lock:
            kept = list(self._kept.items())
        return Choices(
            numbered,
            engine,
            {
                key: made
                for key, made in kept
                if isinstance(made, Selection) and key[0] is not None and changed.isdisjoint(key[0])
            },
        )

    def _made(
        self, allow: frozenset[str] | None, exclude: frozenset[str] | None
    ) -> Selection | Choice:
        names, live = self._numbered.names, self._numbered.live
        wanted = np.append(live, False)  # the last stands for nobody
        if allow is not None:
            chosen = names.find(allow, len(live))
            wanted[:] = False
            wanted[chosen] = live[chosen]
        if exclude is not None:
            wanted[names.find(exclude, len(live))] = False
        if allow is not None and self._numbered.counts[wanted[:-1]].sum() <= _SMALL:
            return self._selection(wanted)
        return Choice(self._engine.whole.plane.of_products(wanted), allow is not None)

    def _selection(self, wanted: NDArray[np.bool_]) -> Selection:
        names, plane = self._numbered.names, self._numbered.references
        numbers = np.flatnonzero(wanted)
        ids = [names[n] for n in numbers.tolist()]
        order = sorted(range(len(ids)), key=ids.__getitem__)
        rank = np.empty(len(numbers), np.int64)
        rank[order] = np.arange(len(numbers))
        if self._engine.asked.product_score == "centroid":
            vectors, owner = centroids(plane, wanted)
        else:
            rows = np.flatnonzero(plane.of_products(wanted))
            vectors, owner = plane.take(rows), plane.product[rows]
        place = rank[np.searchsorted(numbers, owner)]
        by_name = np.argsort(place, kind="stable")
        starts = np.searchsorted(place[by_name], np.arange(len(numbers)))
        return Selection.of([ids[i] for i in order], vectors[by_name], starts)
