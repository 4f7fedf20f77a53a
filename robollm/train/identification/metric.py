"""Recall of the true product among the reference images (ARMBench's identification protocol)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from numpy.typing import NDArray

from robollm.core.errors import ConfigError, TrainingError

GALLERIES = ("container", "all")
PROTOCOLS = ("product", "image", "centroid")
_CHUNK = 64  # times 600,000 reference images of ARMBench: 150 MB
_NEVER = 2**31

Vectors = NDArray[np.float32]
Flags = NDArray[np.bool_]


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

    def centroids(self) -> Gallery:
        """One vector per product: the mean of its own, at unit length."""
        mean = np.add.reduceat(self.vectors, self.starts, axis=0)
        norm = np.linalg.norm(mean, axis=1, keepdims=True)
        vectors = np.divide(mean, norm, out=np.zeros_like(mean), where=norm > 0)
        return Gallery(self.products, vectors, np.arange(len(mean)))


def ranks(
    queries: Vectors,
    truths: NDArray[np.int64],
    gallery: Gallery,
    choices: Sequence[NDArray[np.int64]] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """How many others come before the true product; equal scores come before it.

    Args:
        queries: (Q, D) float32, unit vectors.
        truths: (Q,) row of the true product in the gallery; -1: it has no reference.
        gallery: what is searched.
        choices: Q x (C,), rows of each pick's products, sorted; only their vectors are read. A
            truth that isn't among them can't be found. None: all.

    Returns:
        "product": other products whose best image scores at least as much as the truth's best,
        "image": images of other products that do. A truth that can't be found, or whose score is
        not finite: a large number. A score of another one that is not a number comes before it.
    """
    if choices is None:
        scores = queries @ gallery.vectors.T
        found = [_before(s, gallery.starts, int(t)) for s, t in zip(scores, truths, strict=True)]
    else:
        found = []
        for query, truth, choice in zip(queries, truths, choices, strict=True):
            sizes = gallery.ends[choice] - gallery.starts[choice]
            starts = np.cumsum(sizes) - sizes
            rows = np.repeat(gallery.starts[choice] - starts, sizes) + np.arange(sizes.sum())
            # Row by row, so that equal vectors have equal scores wherever they stand.
            near = (gallery.vectors[rows] * query).sum(axis=1)
            place = np.flatnonzero(choice == truth)
            found.append(_before(near, starts, int(place[0]) if len(place) else -1))
    counts = np.array(found, np.int64).reshape(-1, 2)
    return {"product": counts[:, 0], "image": counts[:, 1]}


def _before(scores: NDArray[np.float32], starts: NDArray[np.int64], truth: int) -> tuple[int, int]:
    """Other products and images that score at least as much as a product; see `ranks`."""
    if truth < 0:
        return _NEVER, _NEVER
    best = np.maximum.reduceat(scores, starts)
    mine = best[truth]
    if not np.isfinite(mine):
        return _NEVER, _NEVER
    own = slice(starts[truth], starts[truth + 1] if truth + 1 < len(starts) else None)
    images = np.count_nonzero(~(scores < mine)) - np.count_nonzero(~(scores[own] < mine))
    return np.count_nonzero(~(best < mine)) - 1, images


@METRICS.register_module()
class RetrievalMetric(BaseMetric):  # type: ignore[misc]
    """recall@k: the share of picks whose true product is among the first k.

    Names: `recall@1_container` (among the products of the pick's manifest) and `recall@1_all`
    (among all references of the evaluation); with `_image` the first k reference images count
    instead of the first k products (RoboLLM's published table), with `_centroid` a product has one
    vector, the mean of its references. `chance@1_container` is what guessing gives.

    A pick counts as wrong if its product has no readable reference, is not in its manifest
    (container only), or if no view of it can be used. Equal scores count against the truth.

    Args:
        at: the values of k.
        galleries: of "container" and "all".
        protocols: of "product", "image" and "centroid".

    Raises:
        ConfigError: for an unknown gallery or protocol, or k < 1; when it computes, if there are
            no picks or no references.
    """

    def __init__(
        self,
        at: Sequence[int] = (1, 2, 3),
        galleries: Sequence[str] = GALLERIES,
        protocols: Sequence[str] = ("product", "image"),
    ) -> None:
        super().__init__()
        strange = sorted({*galleries} - {*GALLERIES} | {*protocols} - {*PROTOCOLS})
        if strange or not at or min(at) < 1 or not galleries or not protocols:
            raise ConfigError(
                f"at {tuple(at)}, galleries {tuple(galleries)}, protocols {tuple(protocols)}; want "
                f"k >= 1, some of {', '.join(GALLERIES)}, some of {', '.join(PROTOCOLS)}",
                fix="correct the metric's settings",
            )
        self._at, self._galleries, self._protocols = tuple(at), tuple(galleries), tuple(protocols)

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep what the head predicted.

        Raises:
            TrainingError: if an embedding is not finite; names the sample.
        """
        for s in data_samples:
            if not np.isfinite(s.get("embedding", 0.0)).all():
                name = s.get("pick") or f"{s['product_id']}/{s.get('image')}"
                raise TrainingError(
                    f"the embedding of {s['kind']} {name} is not finite",
                    fix="go back to an earlier checkpoint, or lower the learning rate",
                )
        keys = ("kind", "pick", "product_id", "manifest", "image", "embedding")
        self.results += [{k: s[k] for k in keys if k in s} for s in data_samples]

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """All recalls, and `picks`, `picks_without_reference`, `picks_without_view`.

        Raises:
            ConfigError: if there are no picks or no references.
        """
        picks = [r for r in results if r["kind"] == "pick"]
        shown = [r for r in results if r["kind"] == "reference" and "embedding" in r]
        if not picks or not shown:
            raise ConfigError(
                f"{len(picks)} picks and {len(shown)} reference images; want some of each",
                fix="evaluate on a PickData of split val or test",
            )
        gallery = Gallery.of([(r["product_id"], r["image"], r["embedding"]) for r in shown])
        number = {p: i for i, p in enumerate(gallery.products)}
        seen = [r for r in picks if "embedding" in r]
        out = {
            "picks": float(len(picks)),
            "picks_without_view": float(len(picks) - len(seen)),
            "picks_without_reference": float(sum(r["product_id"] not in number for r in picks)),
        }
        before = self._before(seen, gallery, number)
        for name in before:
            where, protocol = name
            suffix = where if protocol == "product" else f"{where}_{protocol}"
            for k in self._at:
                hits = int((before[name] < k).sum())
                out[f"recall@{k}_{suffix}"] = hits / len(picks)
        if "container" in self._galleries:
            chances = []
            for r in picks:
                choice = {p for p in r["manifest"] if p in number}
                chances.append(1 / len(choice) if r["product_id"] in choice else 0.0)
            out["chance@1_container"] = float(np.mean(chances))
        return out

    def _before(
        self, picks: Sequence[Mapping[str, Any]], gallery: Gallery, number: Mapping[str, int]
    ) -> dict[tuple[str, str], NDArray[np.int64]]:
        """(gallery, protocol) -> how many come before the truth, per pick; see `ranks`."""
        pools = {"": gallery}
        if "centroid" in self._protocols:
            pools["centroid"] = gallery.centroids()
        found: dict[tuple[str, str], list[NDArray[np.int64]]] = {
            (where, protocol): [] for where in self._galleries for protocol in self._protocols
        }
        for first in range(0, len(picks), _CHUNK):
            some = picks[first : first + _CHUNK]
            queries = np.stack([r["embedding"] for r in some]).astype(np.float32)
            truths = np.array([number.get(r["product_id"], -1) for r in some], np.int64)
            choices = [
                np.array(sorted({number[p] for p in r["manifest"] if p in number}), np.int64)
                for r in some
            ]
            for where in self._galleries:
                among = choices if where == "container" else None
                done = {pool: ranks(queries, truths, g, among) for pool, g in pools.items()}
                for protocol in self._protocols:
                    mean = protocol == "centroid"
                    rank = done["centroid"]["product"] if mean else done[""][protocol]
                    found[where, protocol].append(rank)
        empty = np.zeros(0, np.int64)
        return {name: np.concatenate([empty, *parts]) for name, parts in found.items()}
