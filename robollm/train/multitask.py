"""Several tasks on one encoder: a batch belongs to one task, and tasks take turns."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import Dataset

from robollm.core.errors import ConfigError
from robollm.data.problems import Problems
from robollm.train.engine.draws import Batches, Draw, TaskData


@DATASETS.register_module()
class ManyData(Dataset[Any]):
    """The datasets of several tasks behind each other.

    Args:
        datasets: task -> config or dataset.
    """

    def __init__(self, datasets: Mapping[str, Any]) -> None:
        self.parts: dict[str, TaskData] = {
            task: one if isinstance(one, TaskData) else DATASETS.build(one)
            for task, one in datasets.items()
        }
        self._ends = list(accumulate(len(p) for p in self.parts.values()))
        self.problems = Problems()
        for part in self.parts.values():
            self.problems.merge(part.problems)

    @property
    def lengths(self) -> list[int]:
        """Samples of each part, in order."""
        return [len(p) for p in self.parts.values()]

    def offset(self, task: str) -> int:
        """Index of a task's first sample."""
        place = list(self.parts).index(task)
        return self._ends[place] - len(self.parts[task])

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, draw: Draw | int) -> Any:
        item = draw.item if isinstance(draw, Draw) else int(draw)
        place = bisect_right(self._ends, item)
        part = list(self.parts.values())[place]
        own = item - (self._ends[place] - len(part))
        return part[Draw(draw.position, own) if isinstance(draw, Draw) else own]


@DATA_SAMPLERS.register_module()
class AlternatingBatches(Batches):
    """Turns of the tasks in fixed proportions, spread evenly.

    An epoch is over when the task that needs most turns has seen as many samples as it has.

    Args:
        dataset: the tasks' datasets.
        plans: task -> config of its batch plan, with its `batch_size`.
        turns: task -> share of the steps; all alike if not given.
        seed: of the plans that have none.

    Raises:
        ConfigError: if plans, turns and datasets are not of the same tasks, or a share is 0.
    """

    def __init__(
        self,
        dataset: ManyData,
        plans: Mapping[str, Any],
        turns: Mapping[str, float] | None = None,
        batch_size: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(dataset, batch_size, seed)
        shares = dict(turns or dict.fromkeys(plans, 1.0))
        if not set(plans) == set(shares) == set(dataset.parts) or min(shares.values()) <= 0:
            raise ConfigError(
                f"plans of {sorted(plans)}, turns {shares}, datasets {sorted(dataset.parts)}",
                fix="give every task a dataset, a plan and a share above 0",
            )
        total = sum(shares.values())
        self._shares = {task: share / total for task, share in shares.items()}
        self.plans: dict[str, Batches] = {
            task: DATA_SAMPLERS.build({"seed": seed, **plan, "dataset": dataset.parts[task]})
            for task, plan in plans.items()
        }
        self._schedule: list[tuple[str, int]] = []
        self._taken = dict.fromkeys(plans, 0)

    def __len__(self) -> int:
        return max(round(len(p) / self._shares[t]) for t, p in self.plans.items())

    def turn(self, step: int) -> tuple[str, int]:
        """Whose step it is, and the how-many-th of that task: always the one furthest behind."""
        while len(self._schedule) <= step:
            done = len(self._schedule) + 1
            task = max(self._shares, key=lambda t: self._shares[t] * done - self._taken[t])
            self._schedule.append((task, self._taken[task]))
            self._taken[task] += 1
        return self._schedule[step]

    def indices(self, step: int) -> Sequence[int]:
        """See `Batches.indices`."""
        task, own = self.turn(step)
        offset = self.dataset.offset(task)
        return [offset + i for i in self.plans[task].indices(own)]

    def batch(self, step: int) -> list[Draw]:
        """See `Batches.batch`; positions are those of the task's own stream."""
        task, own = self.turn(step)
        offset = self.dataset.offset(task)
        return [Draw(d.position, offset + d.item) for d in self.plans[task].batch(own)]
