"""What the batch plans of identification have in common, and the search for look-alikes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.train.engine.draws import Batches, Draw

Ints = NDArray[np.int64]
_CELLS = 2**23  # cosines at once: 32 MB
_FEW = 10_000  # so many numbers are shuffled in no time


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

    Each step draws anew: products are equally likely, whatever the number of their samples. A
    group goes to one process as a whole: look-alikes meet in any loss, also in one that sees the
    batch of its own process only.

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
        """See `Batches.indices`; process r has the r-th `batch_size` of them."""
        rng = np.random.default_rng([self.seed, step, 4])
        rooms = [round(self.share * self.batch_size)] * self.world
        chosen: list[list[int]] = [[] for _ in rooms]
        taken: set[int] = set()
        for group in self.groups(step, rng):
            rank = rooms.index(max(rooms))
            fresh = [p for p in group if p not in taken][: min(self.group, rooms[rank])]
            if len(fresh) > 1:
                chosen[rank] += fresh
                taken.update(fresh)
                rooms[rank] -= len(fresh)
            if max(rooms) < 2:
                break
        others = draw_others(rng, self.products, taken, self.whole - len(taken))
        for part in chosen:
            count = self.batch_size - len(part)
            part += others[:count]
            del others[:count]
        items = [[int(rng.choice(self.members[p])) for p in part] for part in chosen]
        used = {i for part in items for i in part}
        spare = draw_others(rng, len(self.dataset), used, self.whole - len(used))
        for part in items:
            while len(part) < self.batch_size:
                part.append(spare.pop(0) if spare else int(rng.integers(len(self.dataset))))
        return [i for part in items for i in part]

    def batch(self, step: int) -> list[Draw]:
        """See `Batches.batch`; a process has neighbours, not every `world`-th."""
        first = step * self.whole
        chosen = list(enumerate(self.indices(step), start=first))
        own = self.rank * self.batch_size
        return [Draw(p, int(i)) for p, i in chosen[own : own + self.batch_size]]


def draw_some(rng: np.random.Generator, total: int, count: int) -> list[int]:
    """Different numbers below `total` in random order: `count` of them; all if they are few."""
    if total <= _FEW:
        return [int(i) for i in rng.permutation(total)]
    return [int(i) for i in rng.choice(total, min(total, count), replace=False)]


def draw_others(
    rng: np.random.Generator, total: int, taken: AbstractSet[int], count: int
) -> list[int]:
    """Different numbers below `total` that aren't taken: `count`, or as many as there are."""
    found = draw_some(rng, total, count + len(taken))
    return [i for i in found if i not in taken][:count]


def nearest_products(vectors: NDArray[np.float32], count: int) -> Ints:
    """The nearest other products of each, by cosine.

    Only `count` of each row are sorted. Equal cosines come in the order of their numbers, also at
    the border, where some are found and some are not.

    Args:
        vectors: (P, D) float32, L2-normalised; all 0: not known, never found.
        count: how many, K.

    Returns:
        (P, min(K, P - 1)) int64, nearest first, equal ones by number; -1: there are no more.
    """
    known = np.flatnonzero(vectors.any(axis=1))
    out = np.full((len(vectors), min(count, len(vectors) - 1)), -1, np.int64)
    count = min(out.shape[1], len(known) - 1)
    if count < 1:
        return out
    rows = vectors[known]
    step = max(16, _CELLS // len(rows))
    for first in range(0, len(rows), step):
        cosines = rows[first : first + step] @ rows.T
        own = np.arange(len(cosines))
        cosines[own, first + own] = -np.inf
        best = np.argpartition(cosines, -count, axis=1)[:, -count:]
        found = np.take_along_axis(cosines, best, axis=1)
        least = found.min(axis=1)
        for row in np.flatnonzero((cosines >= least[:, None]).sum(axis=1) > count):
            border = np.flatnonzero(cosines[row] >= least[row])  # more than there is room for
            best[row] = border[np.argsort(-cosines[row, border], kind="stable")[:count]]
            found[row] = cosines[row, best[row]]
        order = np.lexsort((best, -found), axis=1)
        out[known[first : first + step], :count] = known[np.take_along_axis(best, order, axis=1)]
    return out
