"""Where the true product ranks among reference images (ARMBench's identification protocol).

Three protocols. `product`: the devkit's: products rank by their best image. `image`: RoboLLM's
published code: reference images rank, a product may be there several times. `centroid`: a product
has one vector, the mean of its references.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GALLERIES = ("container", "all")
PROTOCOLS = ("product", "image", "centroid")
QUERIES = ("n1", "n3", "n3max")
"""Of one view; of three, fused by the bundle; of three, each reference's nearest (the devkit's)."""
NEVER = 2**31
"""So many come before a truth that can't be found."""
_CHUNK = 64  # times 600,000 reference images of ARMBench: 150 MB
_ROWS = 65_536  # 200 MB of vectors
_CLOSE = 2e-5  # more than float32 sums in another order differ, for unit vectors

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """Reference vectors, sorted by product.

    Attributes:
        products: the P products that have a reference, sorted.
        vectors: (R, D) float32, unit vectors.
        starts: (P,) int, the first row of each product.
    """

    products: tuple[str, ...]
    vectors: Vectors
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, items: Sequence[tuple[str, str, Vectors]]) -> Gallery:
        """Make a gallery of (product, image, vector); the same image twice counts once."""
        unique = {(product, image): vector for product, image, vector in items}
        rows = sorted(unique)
        products = [product for product, _ in rows]
        vectors = np.stack([unique[row] for row in rows]).astype(np.float32)
        names, starts = np.unique(np.array(products, object), return_index=True)
        return cls(tuple(str(n) for n in names), vectors, starts.astype(np.int64))

    @property
    def ends(self) -> NDArray[np.int64]:
        """(P,) int, after the last row of each product."""
        return np.append(self.starts[1:], len(self.vectors))

    def sizes_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(C,) int, how many vectors each of some products has, by its row in `products`."""
        last = len(self.starts) - 1
        ends = np.where(rows < last, self.starts[np.minimum(rows + 1, last)], len(self.vectors))
        return ends - self.starts[rows]

    def centroids(self) -> Gallery:
        """One vector per product: the mean of its own, at unit length."""
        mean = np.add.reduceat(self.vectors, self.starts, axis=0)
        norm = np.linalg.norm(mean, axis=1, keepdims=True)
        vectors = np.divide(mean, norm, out=np.zeros_like(mean), where=norm > 0)
        return Gallery(self.products, vectors, np.arange(len(mean)))


class Lead(NamedTuple):
    """Who leads among the products of a pick's manifest.

    Attributes:
        right: cosine of the true product; -inf: it can't be found.
        wrong: the best cosine of another product; -inf: there is none.
        other: that product; "": there is none.
    """

    right: float
    wrong: float
    other: str


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A pick as it asks.

    Attributes:
        key: of the pick.
        product: the true one.
        manifest: products of its container, the truth among them or not.
        vectors: query, as in `QUERIES` -> (D,) float32, or (V, D) float32 for several views of
            which each reference takes the nearest. A query that can't be asked is absent.
    """

    key: str
    product: str
    manifest: tuple[str, ...]
    vectors: Mapping[str, Vectors]


@dataclass(frozen=True, slots=True, eq=False)
class PickRanks:
    """How a pick's true product came out.

    Attributes:
        key: of the pick.
        product: the true one.
        size: products of its manifest.
        choice: those of them that have a reference.
        among: whether the truth is one of these.
        known: whether the truth has a reference at all.
        before: (gallery, protocol, query) -> how many others come before the truth; `NEVER` if it
            can't be found, or if the query can't be asked.
        asked: the queries that could be asked.
        leads: query -> who leads in the container, if that was searched; without those that
            can't be asked.
    """

    key: str
    product: str
    size: int
    choice: int
    among: bool
    known: bool
    before: Mapping[tuple[str, str, str], int]
    asked: tuple[str, ...]
    leads: Mapping[str, Lead]


def ranks(
    queries: Vectors | Sequence[Vectors],
    truths: NDArray[np.int64],
    gallery: Gallery,
    choices: Sequence[NDArray[np.int64]] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """How many others come before the true product; equal scores come before it.

    Scores decide row by row, so the same vectors give the same ranks in any company.

    Args:
        queries: Q of (D,) float32, unit vectors, or of (V, D): the nearest of V views counts.
        truths: (Q,) row of the true product in the gallery; -1: it has no reference.
        gallery: what is searched.
        choices: Q x (C,), rows of each pick's products, sorted; only their vectors are read. A
            truth that isn't among them can't be found. None: all.

    Returns:
        "product": other products whose best image scores at least as much as the truth's best,
        "image": images of other products that do. A truth that can't be found, or whose score is
        not finite: `NEVER`. A score of another one that is not a number comes before it.
    """
    if choices is None:
        found = list(_among_all([np.atleast_2d(q) for q in queries], truths, gallery))
    else:
        found = [
            _within(np.atleast_2d(query), int(truth), gallery, choice).before
            for query, truth, choice in zip(queries, truths, choices, strict=True)
        ]
    counts = np.array(found, np.int64).reshape(-1, 2)
    return {"product": counts[:, 0], "image": counts[:, 1]}


class _Seen(NamedTuple):
    before: tuple[int, int]  # products, images
    right: float
    wrong: float
    other: int  # row of the product; -1: none


def _within(views: Vectors, truth: int, gallery: Gallery, choice: NDArray[np.int64]) -> _Seen:
    """Search some products only; see `ranks`."""
    if not len(choice):
        return _Seen((NEVER, NEVER), -np.inf, -np.inf, -1)
    sizes = gallery.sizes_of(choice)
    starts = np.cumsum(sizes) - sizes
    rows = np.repeat(gallery.starts[choice] - starts, sizes) + np.arange(sizes.sum())
    scores = _exact(views, gallery, rows)
    best = np.maximum.reduceat(scores, starts)
    place = np.flatnonzero(choice == truth)
    others = np.where(np.isnan(best), np.inf, best).astype(np.float64)
    right, before = -np.inf, (NEVER, NEVER)
    if len(place):
        at = int(place[0])
        others[at] = -np.inf
        if np.isfinite(best[at]):
            right = float(best[at])
            owners = np.repeat(np.arange(len(choice)), sizes)
            before = _before(np.flatnonzero(~(scores < best[at])), owners, at)
    lead = int(others.argmax())
    if np.isneginf(others[lead]):
        return _Seen(before, right, -np.inf, -1)
    return _Seen(before, right, float(others[lead]), int(choice[lead]))


def _among_all(
    queries: Sequence[Vectors], truths: NDArray[np.int64], gallery: Gallery
) -> Iterator[tuple[int, int]]:
    """Search all products; see `ranks`."""
    ends = gallery.ends
    owners = np.repeat(np.arange(len(ends)), ends - gallery.starts)
    step = max(1, _CHUNK // max((len(views) for views in queries), default=1))
    for first in range(0, len(queries), step):
        some = queries[first : first + step]
        scores = np.concatenate(some) @ gallery.vectors.T
        last = np.cumsum([len(views) for views in some])
        for views, end, truth in zip(some, last, truths[first : first + step], strict=True):
            row = scores[end - 1] if len(views) == 1 else scores[end - len(views) : end].max(axis=0)
            if truth < 0:
                yield NEVER, NEVER
                continue
            own = np.arange(gallery.starts[truth], ends[truth])
            mine = _exact(views, gallery, own).max()
            if not np.isfinite(mine):
                yield NEVER, NEVER
                continue
            # The product of matrices adds up in another order for each size; so what is close is
            # taken again row by row.
            rows = np.flatnonzero(~(row < mine - _CLOSE))
            best = row[rows]
            close = best <= mine + _CLOSE
            best[close] = _exact(views, gallery, rows[close])
            yield _before(rows[~(best < mine)], owners, int(truth))


def _exact(views: Vectors, gallery: Gallery, rows: NDArray[np.int64]) -> Vectors:
    """(N,) float32, the best score of any view for each row; equal vectors score equally."""
    out = np.empty(len(rows), np.float32)
    for first in range(0, len(rows), _ROWS):
        part = slice(first, first + _ROWS)
        near = gallery.vectors[rows[part]]
        out[part] = np.max([(near * view).sum(axis=1) for view in views], axis=0)
    return out


def _before(rows: NDArray[np.int64], owners: NDArray[np.int64], truth: int) -> tuple[int, int]:
    """Products and images that are not the truth's, of rows that score at least as much."""
    theirs = owners[rows]
    theirs = theirs[theirs != truth]
    return int(np.count_nonzero(np.diff(theirs, prepend=-1))), len(theirs)


def rank_picks(
    picks: Iterable[Query],
    gallery: Gallery,
    *,
    galleries: Sequence[str] = GALLERIES,
    protocols: Sequence[str] = PROTOCOLS,
    queries: Sequence[str] = QUERIES,
) -> Iterator[PickRanks]:
    """Search for every pick, as it comes; memory is that of the gallery.

    Args:
        picks: what asks.
        gallery: the references.
        galleries: of `GALLERIES`.
        protocols: of `PROTOCOLS`.
        queries: names of those that are asked; others are passed over.

    Yields:
        One for each pick, in their order.
    """
    number = {product: row for row, product in enumerate(gallery.products)}
    pools = {"": gallery}
    if "centroid" in protocols:
        pools["centroid"] = gallery.centroids()
    rest = iter(picks)
    while some := list(islice(rest, _CHUNK)):
        yield from _rank_some(some, pools, number, list(product(galleries, protocols, queries)))


def _rank_some(
    picks: Sequence[Query],
    pools: Mapping[str, Gallery],
    number: Mapping[str, int],
    places: Sequence[tuple[str, str, str]],
) -> Iterator[PickRanks]:
    truths = np.array([number.get(p.product, -1) for p in picks], np.int64)
    choices = [
        np.array(sorted({number[one] for one in p.manifest if one in number}), np.int64)
        for p in picks
    ]
    queries = tuple(dict.fromkeys(query for _, _, query in places))
    before = [dict.fromkeys(places, NEVER) for _ in picks]
    leads: list[dict[str, Lead]] = [{} for _ in picks]
    for (pool, gallery), query in product(pools.items(), queries):
        asked = [i for i, p in enumerate(picks) if query in p.vectors]
        views = [np.atleast_2d(picks[i].vectors[query]) for i in asked]
        found: dict[str, Iterable[tuple[int, int]]] = {}
        if any(where == "container" for where, _, _ in places):
            seen = [
                _within(v, int(truths[i]), gallery, choices[i])
                for i, v in zip(asked, views, strict=True)
            ]
            found["container"] = [one.before for one in seen]
            for i, one in zip(asked, seen, strict=True):
                other = gallery.products[one.other] if one.other >= 0 else ""
                leads[i].setdefault(query, Lead(one.right, one.wrong, other))  # not by centroid
        if any(where == "all" for where, _, _ in places):
            found["all"] = _among_all(views, truths[asked], gallery)
        for where, counts in found.items():
            for i, (products, images) in zip(asked, counts, strict=True):
                ours = {"centroid": products} if pool else {"product": products, "image": images}
                for protocol, count in ours.items():
                    if (where, protocol, query) in before[i]:
                        before[i][where, protocol, query] = count
    for i, pick in enumerate(picks):
        yield PickRanks(
            pick.key,
            pick.product,
            size=len({*pick.manifest}),
            choice=len(choices[i]),
            among=bool(np.isin(truths[i], choices[i])),
            known=bool(truths[i] >= 0),
            before=before[i],
            asked=tuple(query for query in queries if query in pick.vectors),
            leads=leads[i],
        )
