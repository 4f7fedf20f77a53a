"""The best products of a whole plane: exact, or approximate with an exact rest."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from robollm.gallery.graph import Graph
from robollm.gallery.plane import Plane, by_product
from robollm.gallery.scan import Codes, Found, Scan

Part = Scan | Graph
"""A stretch of rows and a way to search it."""

Best = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Product numbers and similarities, in no order: the k best, and all that tie with the last."""

_MORE = 8
_WORTH_A_THREAD = 16384

_pool_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_of = 0


@dataclass(frozen=True, slots=True, eq=False)
class WholeSearch:
    """A plane and the parts that cover its rows, each once, in order.

    Attributes:
        plane: the rows.
        parts: how each stretch is searched.
    """

    plane: Plane
    parts: tuple[Part, ...]

    @classmethod
    def over(
        cls,
        plane: Plane,
        *,
        graph: Graph | None = None,
        codes: Codes | None = None,
        threads: int | None = None,
    ) -> WholeSearch:
        """Cover a plane: its first rows by a graph or by codes, the rest by its own vectors.

        Args:
            plane: the rows.
            graph: over the first rows of `plane.base`.
            codes: of the first rows of `plane.base`.
            threads: stretches that are scanned at the same time; None: one per core.
        """
        share = threads or cores()
        parts: list[Part] = []
        done = 0
        if graph is not None:
            parts, done = [graph], len(graph)
        elif codes is not None:
            parts, done = _shares(codes, 0, share), len(codes)
        parts += _shares(Codes(plane.base[done:]), done, share)
        parts += _shares(Codes(plane.tail), len(plane.base), share)
        return cls(plane, tuple(parts))

    @property
    def approximate(self) -> int:
        """How many rows are searched approximately."""
        return sum(len(p) for p in self.parts if p.approximate)

    def best(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> Best:
        """The k best products.

        Args:
            query: (D,) float32.
            k: how many.
            allowed: (rows,) bool, living rows that may be answered; None: all living ones.
        """
        return self._best(query, k, self._masks(allowed), self._first(k), {})

    def best_many(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> list[Best]:
        """The same for (Q, D) queries; a batch shares the work."""
        masks, n = self._masks(allowed), self._first(k)
        # FAISS spreads a batch over the cores itself.
        found = [
            part.candidates_many(queries, n, mask)
            for part, mask in zip(self.parts, masks, strict=True)
        ]
        return [
            self._best(query, k, masks, n, {i: part[q] for i, part in enumerate(found)})
            for q, query in enumerate(queries)
        ]

    def _first(self, k: int) -> int:
        return int(3 * k * self.plane.most) + 64

    def _masks(self, allowed: NDArray[np.bool_] | None) -> list[NDArray[np.bool_] | None]:
        if allowed is None:
            if self.plane.living == len(self.plane):
                return [None] * len(self.parts)
            allowed = self.plane.alive
        return [allowed[p.first : p.stop] for p in self.parts]

    def _best(
        self,
        query: NDArray[np.float32],
        k: int,
        masks: Sequence[NDArray[np.bool_] | None],
        n: int,
        found: dict[int, Found],
    ) -> Best:
        """Ask the parts for more until nothing that they left out can be among the k best."""
        best: Best = (np.empty(0, np.int32), np.empty(0, np.float32))
        open_parts = list(range(len(self.parts)))
        missing = [i for i in open_parts if i not in found]
        while True:
            found.update(zip(missing, self._ask(missing, query, n, masks), strict=True))
            rows = [found[i].rows for i in open_parts]
            # What a part says again is scored again: cheaper than to look for it.
            row = np.concatenate(rows) if rows else np.empty(0, np.int64)
            product = np.concatenate([best[0], self.plane.product[row]])
            score = np.concatenate([best[1], self.plane.exact(row, query)])
            best = _at_least(*by_product(product, score), k)
            # Equal ones may come before it by their id, so a tie counts as missed.
            last = float(best[1].min()) if len(best[0]) >= k else -np.inf
            open_parts = [
                i
                for i in open_parts
                if not found[i].everything and (last == -np.inf or found[i].ceiling >= last)
            ]
            if not open_parts:
                return best
            missing, n = open_parts, n * _MORE

    def _ask(
        self,
        parts: Sequence[int],
        query: NDArray[np.float32],
        n: int,
        masks: Sequence[NDArray[np.bool_] | None],
    ) -> list[Found]:
        heavy = [i for i in parts if len(self.parts[i]) >= _WORTH_A_THREAD]
        if len(heavy) < 2:
            return [self.parts[i].candidates(query, n, masks[i]) for i in parts]
        others = {
            i: _threads().submit(self.parts[i].candidates, query, n, masks[i]) for i in heavy[1:]
        }
        mine = {i: self.parts[i].candidates(query, n, masks[i]) for i in parts if i not in others}
        # While the helpers are at other searches, this thread does it all.
        for i, future in others.items():
            free = future.cancel()
            mine[i] = self.parts[i].candidates(query, n, masks[i]) if free else future.result()
        return [mine[i] for i in parts]


def _at_least(product: NDArray[np.int32], score: NDArray[np.float32], k: int) -> Best:
    """The k best, and all that tie with the last of them."""
    if len(product) <= k:
        return product, score
    keep = score >= np.partition(score, len(score) - k)[len(score) - k]
    return product[keep], score[keep]


def _shares(codes: Codes, first: int, shares: int) -> list[Part]:
    """Scans of stretches of about the same length."""
    if len(codes) == 0:
        return []
    n = max(1, min(shares, len(codes) // _WORTH_A_THREAD))
    edges = [len(codes) * i // n for i in range(n + 1)]
    return [Scan(codes.part(a, b), first + a) for a, b in pairwise(edges)]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _threads() -> ThreadPoolExecutor:
    """The threads that help a search; made anew in a fork, which has none."""
    global _pool, _pool_of
    with _pool_lock:
        if _pool is None or _pool_of != os.getpid():
            _pool, _pool_of = ThreadPoolExecutor(max(1, cores() - 1), "robollm-search"), os.getpid()
        return _pool
