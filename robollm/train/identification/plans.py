"""What the batch plans of identification have in common, and the search for look-alikes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.train.engine.draws import Batches

Ints = NDArray[np.int64]
_CHUNK = 1024


class ProductPlan(Batches):
    """What the plans here share: which samples show which product.

    Products are numbered from 0 without gaps, in the order of the dataset's labels.

    Args:
        dataset: has `labels`, (len,) int: the product of each training sample.
        batch_size: samples per process.
        seed: of the plan.
    """

    def __init__(self, dataset: Any, batch_size: int, seed: int = 0) -> None:
        super().__init__(dataset, batch_size, seed)
        labels: Ints = np.asarray(dataset.labels, np.int64)
        self.labels, of_item = np.unique(labels, return_inverse=True)
        order = np.argsort(of_item, kind="stable")
        ends = np.cumsum(np.bincount(of_item))
        self.members = np.split(order, ends[:-1])

    @property
    def products(self) -> int:
        """How many products there are."""
        return len(self.members)


class GroupedBatches(ProductPlan):
    """A share of the batch comes in groups of look-alikes, the rest are any other products.

    Each step draws anew: products are equally likely, whatever the number of their samples.

    Args:
        dataset: see `ProductPlan`.
        batch_size: samples per process.
        seed: of the plan.
        share: of the batch that comes in groups.
        group: most products of a group.

    Raises:
        ConfigError: for a share or group out of range.
    """

    def __init__(
        self, dataset: Any, batch_size: int, seed: int = 0, *, share: float = 0.5, group: int = 4
    ) -> None:
        super().__init__(dataset, batch_size, seed)
        if not 0 <= share <= 1 or group < 2:
            raise ConfigError(
                f"share is {share}, group {group}; want 0 <= share <= 1 and group >= 2",
                fix="correct the batch_sampler's settings",
            )
        self.share, self.group = share, group

    @abstractmethod
    def groups(self, step: int, rng: np.random.Generator) -> Iterator[list[int]]:
        """Groups of look-alikes for one step, best wishes first in each."""

    def indices(self, step: int) -> Sequence[int]:
        """See `Batches.indices`."""
        rng = np.random.default_rng([self.seed, step, 4])
        places = round(self.share * self.whole)
        chosen: dict[int, None] = {}
        for group in self.groups(step, rng):
            room = min(self.group, places - len(chosen))
            fresh = [p for p in group if p not in chosen][:room]
            if len(fresh) > 1:
                chosen |= dict.fromkeys(fresh)
            if places - len(chosen) < 2:
                break
        for product in rng.permutation(self.products).tolist():
            if len(chosen) >= self.whole:
                break
            chosen[product] = None
        items = [int(rng.choice(self.members[p])) for p in chosen]
        used = set(items)
        spare = [i for i in rng.permutation(len(self.dataset)).tolist() if i not in used]
        items += spare[: self.whole - len(items)]
        while len(items) < self.whole:
            items.append(int(rng.integers(len(self.dataset))))
        return items


def nearest_products(vectors: NDArray[np.float32], count: int) -> Ints:
    """The nearest other products of each, by cosine.

    Args:
        vectors: (P, D) float32, L2-normalised; all 0: not known, never found.
        count: how many, K.

    Returns:
        (P, min(K, P - 1)) int64, nearest first, equal ones by number; -1: there are no more.
    """
    known: NDArray[np.bool_] = np.asarray(vectors.any(axis=1))
    count = min(count, len(vectors) - 1)
    out = np.full((len(vectors), count), -1, np.int64)
    for first in range(0, len(vectors), _CHUNK):
        cosines = vectors[first : first + _CHUNK] @ vectors.T
        cosines[:, ~known] = -np.inf
        own = np.arange(len(cosines))
        cosines[own, first + own] = -np.inf
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        found = np.isfinite(np.take_along_axis(cosines, best, axis=1))
        found &= known[first : first + _CHUNK].reshape(-1, 1)
        out[first : first + _CHUNK] = np.where(found, best, -1)
    return out
