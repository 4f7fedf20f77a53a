"""Batch plans and samples: pure functions of seed and step, whoever asks, in whatever order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from robollm.core.errors import ConfigError, FrameError
from robollm.data.problems import Problem
from robollm.train.engine.draws import (
    Batches,
    Draw,
    Sample,
    ShuffledBatches,
    TaskData,
    Void,
    collate,
    stack,
)
from robollm.train.engine.evaluation import WholeBatches


class Numbers(TaskData):
    """Samples are their index and a random number; those in `bad` can't be read."""

    def __init__(self, count: int, bad: tuple[int, ...] = ()) -> None:
        super().__init__("numbers", seed=4)
        self._count, self._bad = count, bad

    def __len__(self) -> int:
        return self._count

    def load(self, index: int, rng: np.random.Generator | None) -> Sample:
        if index in self._bad:
            raise FrameError(f"{index}.jpg is cut off", kind="truncated_image")
        jitter = 0.0 if rng is None else float(rng.random())
        return {"inputs": torch.tensor([index, jitter]), "data_samples": index, "name": str(index)}


def plan_of(rank: int, world: int, *, size: int = 2, count: int = 10, seed: int = 0) -> Any:
    plan = ShuffledBatches(Numbers(count), size, seed)
    plan.rank, plan.world = rank, world
    return plan


def test_an_epoch_shows_every_sample_once_and_another_order_follows() -> None:
    plan = plan_of(0, 1)
    epochs = [[d.item for s in range(5 * e, 5 * e + 5) for d in plan.batch(s)] for e in range(3)]
    assert all(sorted(e) == list(range(10)) for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [d.item for d in plan_of(0, 1, seed=1).batch(0)] != epochs[0][:2]


def test_an_epoch_that_ends_within_a_batch_goes_on_in_the_next_one() -> None:
    plan = plan_of(0, 1, size=4, count=6)
    seen = [d.item for s in range(6) for d in plan.batch(s)]  # 24 places, four epochs
    assert Counter(seen) == dict.fromkeys(range(6), 4)


def test_steps_may_be_asked_for_in_any_order() -> None:
    straight, jumping = plan_of(0, 1), plan_of(0, 1)
    want = {step: straight.batch(step) for step in range(12)}
    for step in (11, 0, 7, 3, 7, 11):
        assert jumping.batch(step) == want[step]


def test_processes_share_a_step_without_meeting() -> None:
    alone = plan_of(0, 1, size=6)
    for step in range(4):
        shares = [plan_of(r, 3).batch(step) for r in range(3)]
        assert sorted(d for share in shares for d in share) == sorted(alone.batch(step))


def test_a_sample_is_the_same_for_the_same_place_only() -> None:
    data = Numbers(5)
    same = [data[Draw(7, 2)]["inputs"] for _ in range(2)]
    assert torch.equal(*same)
    assert not torch.equal(same[0], data[Draw(8, 2)]["inputs"])


def test_a_training_sample_that_can_not_be_read_is_replaced_and_named() -> None:
    sample = Numbers(5, bad=(2,))[Draw(0, 2)]
    assert isinstance(sample, dict)
    assert sample["data_samples"] != 2
    [problem] = sample["problems"]
    assert (problem.kind, problem.action) == ("truncated_image", "replaced by another")
    assert "2.jpg" in problem.what


def test_data_of_which_nothing_can_be_read_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"20 numbers samples in a row .*\.jpg is cut off"):
        Numbers(3, bad=(0, 1, 2))[Draw(0, 0)]


def test_an_evaluation_sample_that_can_not_be_read_is_left_out_and_named() -> None:
    data = Numbers(3, bad=(1,))
    assert isinstance(data[1], Void)
    batch = collate([data[0], data[1], data[2]])
    assert batch["names"] == ["0", "2"]
    assert batch["inputs"].tolist() == [[0, 0], [2, 0]]
    assert [p.kind for p in batch["problems"]] == ["truncated_image"]
    assert batch["task"] == "numbers"
    nothing = collate([Void(Problem("x", "here", "gone"))])
    assert nothing["inputs"] is None


def test_what_has_one_shape_is_stacked_and_what_has_not_stays_a_list() -> None:
    found = stack([{"a": np.zeros(2), "b": torch.zeros(k), "c": k} for k in (1, 2)])
    assert found["a"].shape == (2, 2)
    assert [t.shape for t in found["b"]] == [(1,), (2,)]
    assert found["c"] == [1, 2]


@pytest.mark.parametrize(("count", "size"), [(0, 2), (5, 0)])
def test_a_plan_without_samples_or_places_is_refused(count: int, size: int) -> None:
    with pytest.raises(ConfigError, match=f"{count} samples in batches of {size}"):
        ShuffledBatches(Numbers(count), size)


def test_evaluation_batches_hold_every_sample_once_and_cross_no_border() -> None:
    batches = list(WholeBatches([5, 3], 4))
    assert batches == [[0, 1, 2, 3], [4], [5, 6, 7]]


def test_a_plan_goes_on_where_it_is_told_to_start() -> None:
    plan: Batches = plan_of(0, 1)
    plan.start = 3
    assert next(iter(plan)) == plan.batch(3)
