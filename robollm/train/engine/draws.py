"""Which samples a step sees: a pure function of seed and step, so that a resumed run sees the same.

Nothing random about data depends on state. A batch plan tells the samples of any step; a sample's
augmentation is seeded by the dataset's seed and the sample's place in the stream. Worker processes,
their number and an interruption change nothing.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Dataset, Sampler

from robollm.core.errors import ConfigError, FrameError
from robollm.data.problems import Problem, Problems

Sample = dict[str, Any]
"""`inputs`, `data_samples`, `name` (file or id, for messages), and perhaps `problems`: what `load`
could do without, a frame of a sequence for example."""

RETRIES = 20


class Draw(NamedTuple):
    """One place in the stream of training samples.

    Attributes:
        position: counts from 0 over all processes; seeds the augmentation.
        item: which sample of the dataset.
    """

    position: int
    item: int


class Void(NamedTuple):
    """A sample that can't be read, where no other may take its place (evaluation)."""

    problem: Problem


class TaskData(Dataset[Any], ABC):
    """Samples of one task. Subclasses fill `problems` while they read lists, and define `load`.

    Args:
        task: the task's name; every batch carries it.
        seed: of the augmentations.
    """

    def __init__(self, task: str, seed: int = 0) -> None:
        self.task = task
        self.seed = seed
        self.problems = Problems()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        """Read one sample.

        Args:
            index: which one.
            rng: for augmentation; None: evaluation, nothing random.

        Raises:
            FrameError: if it can't be used; `kind` and text say why, with the file.
        """

    @final
    def __getitem__(self, draw: Draw | int) -> Sample | Void:
        """A training sample (`Draw`) or an evaluation sample (int).

        A training sample that can't be read is replaced by another one, and named in `problems`.

        Raises:
            ConfigError: if `RETRIES` samples in a row can't be read.
        """
        if not isinstance(draw, Draw):
            try:
                return {**self.load(int(draw), None), "task": self.task}
            except FrameError as e:
                return Void(Problem(e.kind, f"{self.task} sample {draw}", e.what))
        rng = np.random.default_rng([self.seed, draw.position])
        problems: list[Problem] = []
        index = draw.item
        for _ in range(RETRIES):
            try:
                sample = self.load(index, rng)
                problems += sample.get("problems", ())
                return {**sample, "task": self.task, "problems": problems}
            except FrameError as e:
                problems.append(
                    Problem(e.kind, f"{self.task} sample {index}", e.what, "replaced by another")
                )
                index = int(rng.integers(len(self)))
        raise ConfigError(
            f"{RETRIES} {self.task} samples in a row can't be used, last: {problems[-1]}",
            fix="check the data folder",
        )


class Batches(Sampler[list[Draw]], ABC):
    """An endless plan of batches, a pure function of (seed, step).

    Args:
        dataset: what to draw from.
        batch_size: samples per process.
        seed: of the plan.

    Raises:
        ConfigError: for an empty dataset or batch.
    """

    def __init__(self, dataset: Any, batch_size: int, seed: int = 0) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.start = 0
        self.rank, self.world = int(get_rank()), int(get_world_size())
        if batch_size < 1 or len(self.dataset) < 1:
            raise ConfigError(
                f"{len(self.dataset)} samples in batches of {batch_size}; want at least 1 of each",
                fix="check the data folder and batch_size",
            )

    @property
    def whole(self) -> int:
        """Samples of one step, over all processes."""
        return self.batch_size * self.world

    def __len__(self) -> int:
        """Steps of one epoch, that is until as many samples were seen as there are."""
        steps: int = max(1, len(self.dataset) // self.whole)
        return steps

    @abstractmethod
    def indices(self, step: int) -> Sequence[int]:
        """The samples of one step over all processes: `whole` indices."""

    def batch(self, step: int) -> list[Draw]:
        """This process' samples of one step."""
        first = step * self.whole
        chosen = list(enumerate(self.indices(step), start=first))
        return [Draw(p, int(i)) for p, i in chosen[self.rank :: self.world]]

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in itertools.count(self.start):
            yield self.batch(step)


@DATA_SAMPLERS.register_module()
class ShuffledBatches(Batches):
    """Every sample once per epoch, in an order of that epoch; what is left over meets the next."""

    def __init__(self, dataset: Any, batch_size: int, seed: int = 0) -> None:
        super().__init__(dataset, batch_size, seed)
        self._orders: dict[int, np.ndarray[Any, np.dtype[np.int64]]] = {}

    def indices(self, step: int) -> Sequence[int]:
        """See `Batches.indices`."""
        n = len(self.dataset)
        places = range(step * self.whole, (step + 1) * self.whole)
        # Drawn once an epoch: a permutation of all samples costs milliseconds at ARMBench's size.
        self._orders = {
            epoch: self._orders[epoch]
            if epoch in self._orders
            else np.random.default_rng([self.seed, epoch, 1]).permutation(n)
            for epoch in sorted({p // n for p in places})
        }
        return [int(self._orders[p // n][p % n]) for p in places]


def stack(items: Sequence[Any]) -> Any:
    """Tensors and arrays to one tensor with a new first axis, mappings by key, the rest to a list.

    Tensors of different shapes stay a list.
    """
    first = items[0]
    if isinstance(first, np.ndarray):
        return stack([torch.from_numpy(np.ascontiguousarray(one)) for one in items])
    if isinstance(first, torch.Tensor):
        same = all(one.shape == first.shape for one in items)
        return torch.stack(list(items)) if same else list(items)
    if isinstance(first, Mapping):
        return {key: stack([one[key] for one in items]) for key in first}
    return list(items)


def collate(samples: Sequence[Sample | Void]) -> dict[str, Any]:
    """Make a batch: `inputs` stacked (see `stack`), `data_samples`, `names` and `problems` listed.

    `inputs` is None if no sample can be used (evaluation only).
    """
    good = [s for s in samples if not isinstance(s, Void)]
    problems = [s.problem for s in samples if isinstance(s, Void)]
    problems += [p for s in good for p in s.get("problems", ())]
    return {
        "inputs": stack([s["inputs"] for s in good]) if good else None,
        "data_samples": [s["data_samples"] for s in good],
        "names": [str(s.get("name", "")) for s in good],
        "task": str(good[0]["task"]) if good and "task" in good[0] else "",
        "problems": problems,
    }
