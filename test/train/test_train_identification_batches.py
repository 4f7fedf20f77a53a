"""Batches in which look-alikes meet, and mining."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robollm.core.errors import ConfigError
from robollm.train.parts import register_parts

register_parts("identification")

from pick_folders import (  # noqa: E402
    head,
)

from robollm.train.identification.batches import (  # noqa: E402
    FamilyBatches,
    MinedBatches,
    MineNegatives,
    ProductBatches,
)
from robollm.train.identification.data import PickData  # noqa: E402
from robollm.train.identification.plans import nearest_products  # noqa: E402


class Labelled:
    """Products with different numbers of samples; families of three."""

    def __init__(self, counts):
        self.labels = np.repeat(np.arange(len(counts)) * 2 + 1, counts)
        self.families = np.arange(2 * len(counts) + 1) // 6

    def __len__(self):
        return len(self.labels)


COUNTS = [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]


def test_a_batch_has_different_products_and_an_epoch_all_samples():
    data = Labelled(COUNTS)
    plan = ProductBatches(data, 6, seed=3)
    assert len(plan) == 7
    for epoch in range(3):
        steps = [plan.indices(epoch * 7 + k) for k in range(7)]
        assert all(len(set(data.labels[s])) == 6 for s in steps)
        assert len({i for s in steps for i in s}) == 42
    assert list(plan.indices(2)) == list(ProductBatches(data, 6, seed=3).indices(2))
    assert list(plan.indices(2)) != list(ProductBatches(data, 6, seed=4).indices(2))


def test_a_batch_larger_than_the_data_repeats_samples():
    assert len(ProductBatches(Labelled([2, 1]), 8).indices(0)) == 8
    assert len(FamilyBatches(Labelled([2, 1]), 8).indices(0)) == 8


def test_batches_contain_near_duplicates_and_no_product_twice(whole):
    data = PickData(whole, "train", size=16)
    plan = FamilyBatches(data, 8, share=0.75, group=3)
    order = [list(plan.indices(k)) for k in range(30)]
    for items in order:
        labels = data.labels[items]
        assert len(set(labels.tolist())) == 8
        sizes = np.bincount(data.families[labels])
        assert (sizes >= 2).sum() >= 2
    assert {i for items in order for i in items} == set(range(36))
    again = FamilyBatches(PickData(whole, "train", size=16), 8, share=0.75, group=3)
    assert [list(again.indices(k)) for k in (7, 3)] == [order[7], order[3]]


def test_titles_that_have_nothing_in_common_make_no_families():
    data = Labelled([1, 1])
    data.families = np.arange(5)
    with pytest.raises(ConfigError, match="no two of 2 products have similar titles"):
        FamilyBatches(data, 2)


def test_nearest_products_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[4, 9]] = 0
    found = nearest_products(vectors, 28)
    for i in range(30):
        others = [j for j in range(30) if j not in (i, 4, 9)]
        want = sorted(others, key=lambda j: -float(vectors[i] @ vectors[j]))
        if i in (4, 9):
            want = []
        assert found[i].tolist() == want + [-1] * (28 - len(want))


def test_mined_batches_bring_together_what_the_model_confuses():
    data = Labelled([2] * 12)
    plan = MinedBatches(data, 4, share=1.0, group=2)
    before = [list(plan.indices(k)) for k in range(20)]
    angles = np.repeat(np.arange(6), 2) * 1.0
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    plan.update(vectors, np.unique(data.labels), start=10)
    after = [list(plan.indices(k)) for k in range(20)]
    assert after[:10] == before[:10]
    for items in after[10:]:
        pairs = (data.labels[items] // 2) // 2
        assert len(set(pairs.tolist())) == 2
    fresh = MinedBatches(data, 4, share=1.0, group=2)
    fresh.load_state_dict(plan.state_dict())
    assert [list(fresh.indices(k)) for k in range(20)] == after


def test_mining_comes_back_from_a_checkpoint():
    class Runner:
        _resume = True

    def make():
        runner = Runner()
        runner.model = Runner()
        runner.model.heads = {"identification": head()}
        runner.train_loop = Runner()
        runner.train_loop.plan = MinedBatches(Labelled([2] * 12), 4, share=1.0)
        return runner, MineNegatives(every=2, ahead=2)

    def steps(runner, hook, numbers):
        for number in numbers:
            rng = torch.Generator().manual_seed(number)
            vectors = torch.nn.functional.normalize(torch.randn(4, 8, generator=rng), dim=1)
            labels = torch.tensor([1, 3, 5, 7]) + 2 * (number % 9)
            runner.model.heads["identification"].latest = (vectors, labels)
            hook.after_train_iter(runner, number, {"task": "identification"})

    straight, hook = make()
    hook.before_train(straight)
    steps(straight, hook, range(3))
    checkpoint = {"optimizer": {}}
    hook.before_save_checkpoint(straight, checkpoint)
    steps(straight, hook, range(3, 9))
    resumed, other = make()
    other.after_load_checkpoint(resumed, checkpoint)
    steps(resumed, other, range(3, 9))
    want, found = (
        [list(r.train_loop.plan.indices(k)) for k in range(7, 20)] for r in (straight, resumed)
    )
    assert want == found
    assert straight.train_loop.plan.state_dict()["starts"] == [6, 8, 10]
    straight.train_loop.plan = ProductBatches(Labelled([2]), 1)
    with pytest.raises(ConfigError, match="found a ProductBatches, want MinedBatches"):
        hook.before_train(straight)
