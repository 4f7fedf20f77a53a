"""Batches whose classes are as frequent as one wants, not as the data has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.registry import DATA_SAMPLERS
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.train.engine.draws import Batches


def class_shares(labels: NDArray[np.int64], power: float) -> dict[int, float]:
    """How much of the batches a class gets: its count to the power of (1 - `power`), normalised."""
    classes, counts = np.unique(labels, return_counts=True)
    weights = counts.astype(float) ** (1.0 - power)
    return {int(c): float(w) for c, w in zip(classes, weights / weights.sum(), strict=True)}


def quotas(shares: Sequence[float], total: int, rng: np.random.Generator) -> list[int]:
    """Whole numbers that sum to `total`, each within 1 of its share and on average equal to it.

    Systematic sampling: one random number shifts the borders between the classes.
    """
    borders = np.floor(np.cumsum([0.0, *shares]) * total + rng.random())
    borders[-1] = borders[0] + total
    return [int(n) for n in np.diff(borders)]


def _earlier_equals(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal values stand before each one."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    places = np.arange(len(values))
    first = np.r_[True, ordered[1:] != ordered[:-1]][: len(values)]
    out = np.empty(len(values), np.int64)
    out[order] = places - np.maximum.accumulate(np.where(first, places, 0))
    return out


@DATA_SAMPLERS.register_module()
class BalancedBatches(Batches):
    """Draws classes in set shares, and within a class one sample per induct as long as there are.

    Every step draws anew, from all samples. An epoch counts as many samples as there are, but
    doesn't show each of them.

    Args:
        dataset: with `labels` (n,) and `groups` (n,), integers.
        batch_size: see `Batches`.
        power: 0: classes as frequent as in the data; 1: equally frequent.
        seed: see `Batches`.

    Raises:
        ConfigError: for a power out of range, or a dataset without labels.
    """

    def __init__(self, dataset: Any, batch_size: int, seed: int = 0, *, power: float = 1.0) -> None:
        super().__init__(dataset, batch_size, seed)
        if not 0 <= power <= 1:
            raise ConfigError(f"power is {power}, want 0 (natural) to 1 (uniform)")
        if not hasattr(dataset, "labels") or not hasattr(dataset, "groups"):
            raise ConfigError(
                f"BalancedBatches over a {type(dataset).__name__}, which has no labels and groups",
                fix="use it with DefectData",
            )
        self._groups = np.asarray(dataset.groups, np.int64)
        labels = np.asarray(dataset.labels, np.int64)
        self._shares = class_shares(labels, power)
        self._members = [np.flatnonzero(labels == c) for c in self._shares]

    def indices(self, step: int) -> Sequence[int]:
        """See `Batches.indices`. The classes are mixed, so that every process gets all of them."""
        rng = np.random.default_rng([self.seed, step, 2])
        chosen: list[int] = []
        used = np.zeros(1 + int(self._groups.max()), np.int64)  # how often an induct is in
        for members, count in zip(
            self._members, quotas(list(self._shares.values()), self.whole, rng), strict=True
        ):
            # A class with fewer samples than wanted: all of them once more, in another order.
            rounds = -(-count // len(members))
            pool = np.concatenate([members[:0], *(rng.permutation(members) for _ in range(rounds))])
            # An induct's second image comes after all first ones; else the random order stays.
            nth = used[self._groups[pool]] + _earlier_equals(self._groups[pool])
            taken = pool[np.argsort(nth, kind="stable")[:count]]
            np.add.at(used, self._groups[taken], 1)
            chosen += [int(i) for i in taken]
        return [int(i) for i in rng.permutation(chosen)]
