"""What every gallery can do, and the slow, obvious one that the others are tested against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robollm.core.decide import Match
from robollm.core.errors import GalleryError


class Gallery(Protocol):
    """Reference vectors of products, searched by cosine.

    What a product's references count for is the gallery's `product_score`: the most similar one
    ("max"), or their normalised mean ("centroid").
    """

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def products(self) -> AbstractSet[str]:
        """Ids of all products that have at least one reference vector."""
        ...

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        allow: AbstractSet[str] | None = None,
        *,
        exclude: AbstractSet[str] | None = None,
    ) -> list[Match]:
        """Find the products nearest to a query.

        Args:
            query: (D,) float32, unit length.
            k: how many products at most, >= 1.
            allow: product ids that may be answered; None: all.
            exclude: product ids that may not, even if allowed; None: none.

        Returns:
            Distinct products, best first, with similarities in [-1, 1]; equal ones are ordered by
            product id.

        Raises:
            GalleryError: if the query has another size or is not finite.
        """
        ...

    def search_many(
        self,
        queries: NDArray[np.float32],
        k: int,
        allow: AbstractSet[str] | None = None,
        *,
        exclude: AbstractSet[str] | None = None,
    ) -> list[list[Match]]:
        """Answer (Q, D) queries, each as `search` would; faster than one by one."""
        ...

    def search_views(
        self,
        queries: NDArray[np.float32],
        k: int,
        allow: AbstractSet[str] | None = None,
        *,
        exclude: AbstractSet[str] | None = None,
    ) -> list[Match]:
        """Find one object by (V, D) views of it: a product's best similarity over views counts."""
        ...


class ExactGallery:
    """NumPy and dictionaries: every vector, every time. The oracle.

    Args:
        product_ids: product of each vector; a product may occur several times.
        vectors: (N, D) float, not zero.
        product_score: see `Gallery`.
        normalise: False takes the vectors as a store keeps them: unit within its rounding.

    Raises:
        GalleryError: see `check_vectors`.
    """

    def __init__(
        self,
        product_ids: Sequence[str],
        vectors: NDArray[np.float32],
        *,
        product_score: str = "max",
        normalise: bool = True,
    ) -> None:
        unit = check_vectors(product_ids, vectors)
        self._ids = list(product_ids)
        self._unit = unit if normalise else np.ascontiguousarray(vectors, np.float32)
        if product_score == "centroid":
            rows: dict[str, list[int]] = {}
            for row, product in enumerate(self._ids):
                rows.setdefault(product, []).append(row)
            means = [self._unit[r].astype(np.float64).mean(axis=0) for r in rows.values()]
            self._ids = list(rows)
            self._unit = np.array(
                [m / (np.linalg.norm(m) or 1.0) for m in means], np.float32
            ).reshape(len(means), unit.shape[1])

    @property
    def dim(self) -> int:
        """See `Gallery`."""
        return int(self._unit.shape[1])

    @property
    def products(self) -> AbstractSet[str]:
        """See `Gallery`."""
        return frozenset(self._ids)

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
        best: dict[str, float] = {}
        for product, cosine in zip(self._ids, np.clip(dots(self._unit, query), -1, 1), strict=True):
            if (allow is None or product in allow) and (exclude is None or product not in exclude):
                best[product] = max(best.get(product, -2.0), float(cosine))
        return ranked(best.items(), k)

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
        return [self.search(q, k, allow, exclude=exclude) for q in queries]

    def search_views(
        self,
        queries: NDArray[np.float32],
        k: int,
        allow: AbstractSet[str] | None = None,
        *,
        exclude: AbstractSet[str] | None = None,
    ) -> list[Match]:
        """See `Gallery`."""
        everything = max(1, len(self._ids))
        return best_of(self.search_many(queries, everything, allow, exclude=exclude), k)


def dots(rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) inner products of (N, D) rows and (D,).

    Unlike a BLAS product, equal rows always get equal numbers, wherever they stand: a tie is a tie.
    """
    products: NDArray[np.float32] = np.einsum("ij,j->i", rows, query)
    return products


def ranked(scores: Iterable[tuple[str, float]], k: int) -> list[Match]:
    """The k best of (product id, similarity), each product once; ties by id."""
    order = sorted(scores, key=lambda item: (-item[1], item[0]))
    return list(map(Match._make, order[:k]))


def best_of(views: Sequence[Sequence[Match]], k: int) -> list[Match]:
    """The k best products over the answers to several views.

    It is exact if every answer holds its k best: a product among the k best of all is among the k
    best of the view that it is best in.
    """
    best: dict[str, float] = {}
    for matches in views:
        for product, similarity in matches:
            best[product] = max(best.get(product, -2.0), similarity)
    return ranked(best.items(), k)


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


def as_query(query: NDArray[np.floating], dim: int) -> NDArray[np.float32]:
    """A query as (`dim`,) float32.

    Raises:
        GalleryError: see `as_queries`.
    """
    if query.shape != (dim,):
        raise _no_query(query.shape, f"({dim},)")
    row: NDArray[np.float32] = _in_float32(query[None], f"({dim},)")[0]
    return row


def as_queries(queries: NDArray[np.floating], dim: int) -> NDArray[np.float32]:
    """Queries as (Q, `dim`) float32, contiguous.

    Raises:
        GalleryError: if they have another shape or are not finite, as float32.
    """
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise _no_query(queries.shape, f"(Q, {dim})")
    return _in_float32(queries, f"(Q, {dim})")


def _in_float32(queries: NDArray[np.floating], want: str) -> NDArray[np.float32]:
    if queries.dtype != np.float32:
        with np.errstate(over="ignore"):  # infinite then, and refused
            queries = queries.astype(np.float32)
    if not np.isfinite(queries).all():
        raise _no_query(queries.shape, want)
    return np.ascontiguousarray(queries)


def _no_query(found: tuple[int, ...], want: str) -> GalleryError:
    return GalleryError(
        f"query is {found}, want {want} and finite",
        fix="embed the query with the bundle that made the gallery",
    )
