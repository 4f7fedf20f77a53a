"""What every gallery can do, and the slow, obvious one that the others are tested against."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robollm.core.decide import Match
from robollm.core.errors import GalleryError


class Gallery(Protocol):
    """Reference vectors of products, searched by cosine."""

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def products(self) -> AbstractSet[str]:
        """Ids of all products that have at least one reference vector."""
        ...

    def search(
        self, query: NDArray[np.float32], k: int, allow: AbstractSet[str] | None = None
    ) -> list[Match]:
        """Find the products nearest to a query.

        Args:
            query: (D,) float32, unit length.
            k: how many products at most, >= 1.
            allow: product ids that may be answered; None: all.

        Returns:
            Distinct products, best first; a product's similarity is the largest cosine over its
            reference vectors; equal ones are ordered by product id.

        Raises:
            GalleryError: if the query has another size or is not finite.
        """
        ...


class ExactGallery:
    """NumPy: every vector, every time. The oracle.

    Args:
        product_ids: product of each vector; a product may occur several times.
        vectors: (N, D) float, not zero; normalised here.

    Raises:
        GalleryError: see `check_vectors`.
    """

    def __init__(self, product_ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        self._unit = check_vectors(product_ids, vectors)
        self._ids = list(product_ids)
        self._products = frozenset(product_ids)

    @property
    def dim(self) -> int:
        """See `Gallery`."""
        return int(self._unit.shape[1])

    @property
    def products(self) -> AbstractSet[str]:
        """See `Gallery`."""
        return self._products

    def search(
        self, query: NDArray[np.float32], k: int, allow: AbstractSet[str] | None = None
    ) -> list[Match]:
        """See `Gallery`."""
        check_query(query, self.dim)
        best: dict[str, float] = {}
        for product, cosine in zip(self._ids, self._unit @ query, strict=True):
            if allow is None or product in allow:
                best[product] = max(best.get(product, -2.0), float(cosine))
        return ranked(best, k)


def ranked(best: dict[str, float], k: int) -> list[Match]:
    """The k best of product id -> cosine; ties by id."""
    order = sorted(best.items(), key=lambda item: (-item[1], item[0]))
    return [Match(product, cosine) for product, cosine in order[:k]]


def check_vectors(product_ids: Sequence[str], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalise reference vectors: (N, D) float32, unit length.

    Raises:
        GalleryError: if the shapes don't belong together or a vector is zero, NaN or infinite.
    """
    if vectors.ndim != 2 or len(vectors) != len(product_ids) or vectors.shape[1] == 0:
        raise GalleryError(
            f"{len(product_ids)} products for vectors {vectors.shape}, want (N, D) with one "
            "product each",
            fix="build the gallery again",
        )
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(length[:, 0]) & (length[:, 0] > 1e-6)))
    if len(bad):
        raise GalleryError(
            f"vector {bad[0]} (product {product_ids[bad[0]]!r}) is zero or not finite",
            fix="look at that reference image, or build the gallery again",
        )
    return np.ascontiguousarray(vectors / length, np.float32)


def check_query(query: NDArray[np.float32], dim: int) -> None:
    """Raise `GalleryError` unless `query` is a finite vector of length `dim`."""
    if query.shape != (dim,) or not np.isfinite(query).all():
        raise GalleryError(
            f"query is {query.shape}, want ({dim},) and finite",
            fix="embed the query with the bundle that made the gallery",
        )
