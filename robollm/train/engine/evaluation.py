"""Validation over one or several tasks: every sample once, results of all processes together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch.utils.data import Sampler


class WholeBatches(Sampler[list[int]]):
    """Batches of consecutive indices that never cross a border; each process has its share.

    Args:
        lengths: how many samples each part has, in order.
        batch_size: most samples of a batch.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int) -> None:
        batches: list[list[int]] = []
        first = 0
        for length in lengths:
            last = first + length
            batches += [
                list(range(i, min(i + batch_size, last))) for i in range(first, last, batch_size)
            ]
            first = last
        self._mine = batches[int(get_rank()) :: int(get_world_size())]

    def __len__(self) -> int:
        return len(self._mine)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._mine)


@METRICS.register_module()
class OfTask(BaseMetric):  # type: ignore[misc]
    """A task's own metric, which sees the batches of that task from all processes.

    Args:
        task: batches of other tasks are passed over; "": sees all.
        metric: config of the metric.
        named: put the task's name before the values' names.
    """

    def __init__(self, task: str, metric: Mapping[str, Any], *, named: bool = False) -> None:
        super().__init__()
        self._task, self._named = task, named
        self._metric: Any = METRICS.build(dict(metric))

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Hand a batch on."""
        if self._task in ("", data_batch["task"]):
            self._metric.process(data_batch, data_samples)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Hand on; called by `evaluate`."""
        found: dict[str, float] = self._metric.compute_metrics(results)
        prefix = f"{self._task}/" if self._named else ""
        return {f"{prefix}{k}": float(v) for k, v in found.items()}

    def evaluate(self, size: int) -> dict[str, float]:
        """Compute from the results of all processes, in each of them."""
        parts = all_gather_object(self._metric.results)
        self._metric.results = []
        return self.compute_metrics([r for part in parts for r in part])
