"""Recall of the true product among the reference images (ARMBench's identification protocol)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from robollm.core.errors import ConfigError, TrainingError
from robollm.metrics.retrieval import (
    GALLERIES,
    PROTOCOLS,
    Gallery,
    Query,
    RetrievalTally,
    rank_picks,
)

_QUERY = "all_views"  # of a pick there is one vector, of the views that the head takes


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
        asked = [
            Query(
                str(r.get("pick")),
                r["product_id"],
                tuple(r["manifest"]),
                {_QUERY: r["embedding"]} if "embedding" in r else {},
            )
            for r in picks
        ]
        tally = RetrievalTally(
            list(
                rank_picks(
                    asked, gallery,
                    galleries=self._galleries, protocols=self._protocols, queries=(_QUERY,),
                )
            ),
            at=sorted({1, *self._at}),  # chance is of the first alone
        )  # fmt: skip
        found = tally.figures()
        out = {
            "picks": float(len(picks)),
            "picks_without_view": float(tally.counts[f"picks_without_{_QUERY}"]),
            "picks_without_reference": float(tally.counts["picks_without_reference"]),
        }
        for where, protocol, k in product(self._galleries, self._protocols, self._at):
            suffix = where if protocol == "product" else f"{where}_{protocol}"
            out[f"recall@{k}_{suffix}"] = found[f"recall@{k}_{where}_{protocol}_{_QUERY}"]
        if "container" in self._galleries:
            out["chance@1_container"] = found["chance@1_container"]
        return out
