"""The products of a container, prepared: a search is one small matrix product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robollm.core.decide import Match
from robollm.gallery.halves import to_float32

_MATRIX = 16
"""From so many queries on, a matrix product pays."""

_ALONE = 400_000
"""Numbers that OpenBLAS multiplies in one thread (its limit is 460,800). Beyond, it wakes others;
where all cores are busy, as beside inference, a search of .05 ms then takes 12 now and then."""

_NEGATIVE_ZERO = np.uint16(0x8000)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Some products and their vectors.

    Attributes:
        ids: (P,) object, product ids in their order.
        matrix: (U, D) float32, their different vectors.
        rows: (R,) row of `matrix` of each reference, product after product; None: 0, 1, 2, ...
            Equal references share a row, so that they tie exactly, whatever BLAS does.
        starts: (P,) where each product begins in `rows`; None: every product has one.
    """

    ids: NDArray[np.object_]
    matrix: NDArray[np.float32]
    rows: NDArray[np.int64] | None
    starts: NDArray[np.int64] | None

    @classmethod
    def of(
        cls, ids: list[str], vectors: NDArray[np.float16], starts: NDArray[np.int64]
    ) -> Selection:
        """Prepare products.

        Args:
            ids: product ids, sorted.
            vectors: (R, D) float16, their vectors, product after product.
            starts: (P,) where each product begins in `vectors`.
        """
        if len(vectors) == 0:
            return cls(np.empty(0, object), vectors.astype(np.float32), None, None)
        bits = vectors.view(np.uint16)
        if (negative := bits == _NEGATIVE_ZERO).any():
            bits = np.where(negative, 0, bits)  # so equal rows have equal bytes
        whole = bits.view(np.dtype((np.void, bits.shape[1] * bits.itemsize)))[:, 0]
        _, first, back = np.unique(whole, return_index=True, return_inverse=True)
        if len(first) == len(vectors):
            matrix, rows = to_float32(vectors), None
        else:
            matrix, rows = to_float32(vectors[first]), back.astype(np.int64)
        return cls(
            np.array(ids, object), matrix, rows, starts if len(starts) < len(vectors) else None
        )

    def search(self, query: NDArray[np.float32], k: int) -> list[Match]:
        """The k best products for a (D,) query."""
        return self._ranked(self._scores(query[None]), k)[0]

    def search_many(self, queries: NDArray[np.float32], k: int) -> list[list[Match]]:
        """The k best products for each of (Q, D) queries."""
        return self._ranked(self._scores(queries), k)

    def search_views(self, queries: NDArray[np.float32], k: int) -> list[Match]:
        """The k best products for (V, D) views, V >= 1: the best view counts."""
        return self._ranked(self._scores(queries).max(axis=0, keepdims=True), k)[0]

    def _scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """(Q, U) inner products."""
        if len(queries) >= _MATRIX:
            return queries @ self.matrix.T
        scores = np.empty((len(queries), len(self.matrix)), np.float32)
        step = max(1, _ALONE // self.matrix.shape[1])
        for row, query in zip(scores, queries, strict=True):
            for i in range(0, len(self.matrix), step):
                np.dot(self.matrix[i : i + step], query, out=row[i : i + step])
        return scores

    def _ranked(self, scores: NDArray[np.float32], k: int) -> list[list[Match]]:
        """The k best products for each of (Q, U) scores."""
        if self.rows is not None:
            scores = scores[:, self.rows]
        if self.starts is not None:
            scores = np.maximum.reduceat(scores, self.starts, axis=1)
        scores = np.minimum(np.maximum(scores, -1), 1)
        # Products stand in the order of their ids, and a stable sort keeps it among equals.
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(scores, order, 1)
        return [
            list(map(Match._make, zip(ids, values, strict=True)))
            for ids, values in zip(self.ids[order].tolist(), best.tolist(), strict=True)
        ]
