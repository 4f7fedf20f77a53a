"""recall@k of identification, and what guessing gives; see `robollm.metrics.ranks`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import EvalError
from robollm.metrics.ranks import (
    GALLERIES,
    NEVER,
    PROTOCOLS,
    QUERIES,
    Gallery,
    Lead,
    PickRanks,
    Query,
    rank_picks,
    ranks,
)
from robollm.metrics.tally import Share, Vector

__all__ = [
    "GALLERIES",
    "NEVER",
    "PROTOCOLS",
    "QUERIES",
    "Gallery",
    "Lead",
    "PickRanks",
    "Query",
    "RetrievalTally",
    "rank_picks",
    "ranks",
]

MANIFESTS = {"0-1": (0, 1), "2-9": (2, 9), "10-19": (10, 19), "20-49": (20, 49), "50+": (50, NEVER)}
"""Sizes of manifests that are reported by themselves; both ends are included."""

Numbers = NDArray[np.float64] | NDArray[np.bool_]


class RetrievalTally:
    """Recall and chance as a `Tally`; the unit is the true product, as its picks are alike.

    Names: `recall@K_GALLERY_PROTOCOL_QUERY` for all that was searched, `chance@K_container` (what
    guessing among the manifest's products gives), and by size of the manifest
    `recall@1_container_product_QUERY_manifest-SIZES` (see `MANIFESTS`).

    A pick counts as wrong if its product, or all of its manifest, has no reference, if the product
    is not in the manifest (container only), or if the query can't be asked.

    Args:
        picks: what came out, at least of one pick.
        at: the values of k.

    Attributes:
        units: true products, sorted.
        counts: `picks`, `picks_without_reference` (of the true product), `picks_not_in_manifest`
            (it is elsewhere), `picks_with_bare_manifest` (no reference at all), and
            `picks_without_QUERY`.

    Raises:
        EvalError: if there are no picks.
    """

    def __init__(self, picks: Sequence[PickRanks], *, at: Sequence[int] = (1, 2, 3)) -> None:
        if not picks:
            raise EvalError("there is no pick to count", fix="evaluate a split that has picks")
        places = list(picks[0].before)
        queries = dict.fromkeys(query for _, _, query in places)
        names, unit = np.unique([p.product for p in picks], return_inverse=True)
        self.units: tuple[str, ...] = tuple(names.tolist())
        self.counts = _count(picks, queries)
        every = np.ones(len(picks))
        columns: dict[str, tuple[Numbers, Numbers]] = {}  # hits and cases, (N,) each
        for place in places:
            before = np.array([p.before[place] for p in picks])
            for k in at:
                columns[f"recall@{k}_{'_'.join(place)}"] = before < k, every
        choice = np.array([p.choice if p.among else 0 for p in picks])
        for k in at:
            luck = np.minimum(k, choice) / np.maximum(choice, 1)
            columns[f"chance@{k}_container"] = luck, every
        sizes = np.array([p.size for p in picks])
        for place in [p for p in places if p[:2] == ("container", "product")]:
            right = np.array([p.before[place] < 1 for p in picks])
            for name, (least, most) in MANIFESTS.items():
                some = (sizes >= least) & (sizes <= most)
                columns[f"recall@1_{'_'.join(place)}_manifest-{name}"] = right & some, some
        self._names = tuple(columns)
        # (U, figures), so that a resample is a product of matrices.
        self._hits, self._cases = (
            np.stack([_sums(unit, one[side], len(names)) for one in columns.values()], axis=1)
            for side in (0, 1)
        )

    def figures(self, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
        """All figures; see `Tally`."""
        each = np.ones(len(self.units)) if counts is None else counts.astype(np.float64)
        hits, cases = each @ self._hits, each @ self._cases
        value = np.divide(hits, cases, out=np.full(len(hits), np.nan), where=cases > 0)
        return dict(zip(self._names, value.tolist(), strict=True))

    def share(self, name: str) -> Share | None:
        """Right picks, and all; chance is no share; see `Tally`."""
        if name.startswith("chance"):
            return None
        at = self._names.index(name)
        return self._hits[:, at], self._cases[:, at]


def _sums(unit: NDArray[np.intp], values: Numbers, units: int) -> Vector:
    """(U,) sums of (N,) values by unit."""
    return np.bincount(unit, values, units).astype(np.float64)


def _count(picks: Sequence[PickRanks], queries: Iterable[str]) -> dict[str, int]:
    return {
        "picks": len(picks),
        "picks_without_reference": sum(not p.known for p in picks),
        "picks_not_in_manifest": sum(p.known and not p.among for p in picks),
        "picks_with_bare_manifest": sum(not p.choice for p in picks),
        **{f"picks_without_{q}": sum(q not in p.asked for p in picks) for q in queries},
    }
