"""Vectors and whose they are: references as they are stored, or one centroid per product."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from robollm.gallery.base import dots
from robollm.gallery.halves import to_float32

_BLOCK = 8192
_HASH = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads consecutive numbers


# No slots: `cached_property` needs the instance's dictionary.
@dataclass(frozen=True, eq=False)
class Plane:
    """Vectors and whose they are.

    Attributes:
        base: (n, D) float16, mapped or in memory.
        tail: (m, D) float16, rows n to n + m: what came after `base`.
        product: (n + m,) int32, whose each row is; -1: nobody's, not searched.
    """

    base: NDArray[np.float16]
    tail: NDArray[np.float16]
    product: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.product)

    @cached_property
    def alive(self) -> NDArray[np.bool_]:
        """(n + m,) bool, which rows are somebody's."""
        return self.product >= 0

    @cached_property
    def living(self) -> int:
        """How many rows are somebody's."""
        return int(np.count_nonzero(self.alive))

    @cached_property
    def most(self) -> float:
        """Rows per product, on average, at least 1."""
        products = np.count_nonzero(np.bincount(self.product[self.alive])) if self.living else 1
        return self.living / products if self.living else 1.0

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """(R, D) float16, a copy."""
        if len(self.tail) == 0:
            return self.base[rows]
        n = len(self.base)
        taken = np.empty((len(rows), self.base.shape[1]), np.float16)
        late = rows >= n
        taken[~late] = self.base[rows[~late]]
        taken[late] = self.tail[rows[late] - n]
        return taken

    def exact(self, rows: NDArray[np.int64], query: NDArray[np.float32]) -> NDArray[np.float32]:
        """(R,) cosines of rows and a query."""
        if len(rows) <= _BLOCK:
            return np.clip(dots(to_float32(self.take(rows)), query), -1, 1)
        parts = [rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK)]
        return np.concatenate([self.exact(part, query) for part in parts])

    def of_products(self, products: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which rows belong to some products: (rows,) bool of (products + 1,) bool.

        The last entry of `products` stands for nobody and is False.
        """
        return products[self.product]

    def widened(self, base: NDArray[np.float16]) -> Plane:
        """With a longer `base` of the same beginning, whose new rows are nobody's yet."""
        more = np.full(len(base) - len(self.base), -1, np.int32)
        return Plane(base, self.tail, np.concatenate([self.product, more]))


def by_product(
    product: NDArray[np.int32], scores: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The largest score of each product among (R,) products and (R,) scores."""
    if len(product) == 0:
        return product, scores
    order = np.argsort(product, kind="stable")
    product, scores = product[order], scores[order]
    starts = np.flatnonzero(np.r_[True, product[1:] != product[:-1]])
    return product[starts], np.maximum.reduceat(scores, starts)


def centroids(
    references: Plane, wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.float16], NDArray[np.int32]]:
    """The normalised mean of the references of each wanted product.

    Args:
        references: of all products.
        wanted: (products + 1,) bool, as `Plane.of_products` takes it.

    Returns:
        (P, D) float16, as references are stored; zero where references cancel each other out.
        And (P,) int32, whose each is, ascending.
    """
    rows = np.flatnonzero(references.of_products(wanted))
    owner = references.product[rows]
    order = np.argsort(owner, kind="stable")
    rows, owner = rows[order], owner[order]
    starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]]) if len(owner) else rows
    ends = np.r_[starts[1:], len(rows)]
    out = np.empty((len(starts), references.base.shape[1]), np.float16)
    first = 0
    while first < len(starts):  # some thousand rows at a time, products whole
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + _BLOCK, "right")))
        begin, end = starts[first], ends[last - 1]
        block = to_float32(references.take(rows[begin:end]))
        sums = np.add.reduceat(block, starts[first:last] - begin, axis=0)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        out[first:last] = np.where(length > 1e-6, sums / np.maximum(length, 1e-6), 0)
        first = last
    return out, owner[starts]


def all_centroids(references: Plane, products: int) -> Plane:
    """One centroid per product; `products` is how many numbers are known."""
    wanted = np.ones(products + 1, bool)
    wanted[-1] = False
    base, owner = centroids(references, wanted)
    return Plane(base, base[:0], owner)


def renewed_centroids(old: Plane, references: Plane, dirty: NDArray[np.bool_]) -> Plane:
    """The centroids after some products changed; theirs move to the tail.

    Args:
        old: all centroids before.
        references: as they are now.
        dirty: (products + 1,) bool, as `Plane.of_products` takes it: whose references changed.
    """
    keep = ~dirty[np.minimum(old.product, len(dirty) - 1)] & old.alive
    fresh, owner = centroids(references, dirty)
    n = len(old.base)
    stays = np.flatnonzero(keep[n:])
    return replace(
        old,
        tail=np.concatenate([old.tail[stays], fresh]),
        product=np.concatenate(
            [np.where(keep[:n], old.product[:n], -1), old.product[n:][stays], owner]
        ).astype(np.int32),
    )


def signatures(
    products: NDArray[np.int64], references: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """A number per product that changes when its set of references does.

    Args:
        products: (R,) product number of each reference.
        references: (R,) reference ids, which are never used again.

    Returns:
        (P,) product numbers, ascending, each once; and (P,) their signatures.
    """
    mixed = (references.astype(np.uint64) + np.uint64(1)) * _HASH
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    order = np.argsort(products, kind="stable")
    found, starts = np.unique(products[order], return_index=True)
    if len(found) == 0:
        return found, mixed
    return found, np.add.reduceat(mixed[order], starts)
