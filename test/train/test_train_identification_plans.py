from __future__ import annotations

import numpy as np
import pytest
import torch

from robollm.data.problems import Problems
from robollm.train.parts import register_parts

register_parts("identification")

from mmengine.registry import MODELS  # noqa: E402

from robollm.train import config as configs  # noqa: E402
from robollm.train.engine import draws  # noqa: E402
from robollm.train.identification import families, plans  # noqa: E402
from robollm.train.identification.batches import (  # noqa: E402
    FamilyBatches,
    MinedBatches,
    MineNegatives,
)


class Pairs:
    """Families of four products with two samples each."""

    def __init__(self, products):
        self.labels = np.repeat(np.arange(products), 2)
        self.families = np.arange(products) // 4

    def __len__(self):
        return len(self.labels)


def mined(data, *args, **options):
    """Products of a family are each other's nearest."""
    plan = MinedBatches(data, *args, keep=3, **options)
    family = np.eye(len(data.families) // 4, dtype=np.float32)[data.families]
    plan.update(family, np.arange(len(data.families)))
    return plan


# several processes


@pytest.mark.parametrize("make", [FamilyBatches, mined])
@pytest.mark.parametrize("world", [1, 4, 8])
def test_look_alikes_meet_in_the_batch_of_their_own_process(make, world, monkeypatch):
    data = Pairs(600)
    monkeypatch.setattr(draws, "get_world_size", lambda: world)
    parts = []
    for rank in range(world):
        monkeypatch.setattr(draws, "get_rank", lambda rank=rank: rank)
        parts.append(make(data, 16, seed=3))
    for step in (0, 1, 7):
        batches = [plan.batch(step) for plan in parts]
        assert batches == [plan.batch(step) for plan in parts]
        assert [len(b) for b in batches] == [16] * world
        every = [d for b in batches for d in b]
        assert [d.position for d in every] == list(
            range(step * 16 * world, (step + 1) * 16 * world)
        )
        assert [d.item for d in every] == list(parts[0].indices(step))
        assert len({data.labels[d.item] for d in every}) == 16 * world
        for batch in batches:
            family = data.families[data.labels[[d.item for d in batch]]]
            alike = np.bincount(family)[family] > 1
            assert alike.sum() >= 8


def test_a_group_is_cut_to_the_room_of_its_process_and_not_split(monkeypatch):
    monkeypatch.setattr(draws, "get_world_size", lambda: 3)
    plan = FamilyBatches(Pairs(600), 12, share=0.5, group=4)
    for step in range(20):
        family = plan.dataset.families[plan.labels[plan.dataset.labels[plan.indices(step)]]]
        for part in family.reshape(3, 12):
            assert sorted(np.unique(part[:6], return_counts=True)[1].tolist()) == [2, 4]


def test_every_loss_config_takes_the_batches_of_all_processes_as_one():
    for name in configs.names("identification"):
        head = configs.load("identification", name).model.heads.identification
        assert head.loss.gather is True, name


@pytest.mark.parametrize(
    "loss",
    [
        {"type": "InfoNCELoss"},
        {"type": "LaCViTLoss"},
        {"type": "CLCELoss", "classes": 5, "dim": 6},
        {"type": "SCLRHELoss"},
    ],
)
def test_gathering_changes_nothing_in_a_single_process(loss):
    rng = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(16, 6, generator=rng), dim=1)
    values = []
    for gather in (False, True):
        torch.manual_seed(0)
        criterion = MODELS.build({**loss, "gather": gather})
        values.append(criterion(rows[:8], rows[8:], torch.arange(8) % 5, rows))
    assert torch.equal(*values)


# draws and look-alikes


@pytest.mark.parametrize("total", [50, 20_000])
def test_others_are_different_not_taken_and_as_many_as_wanted(total):
    rng = np.random.default_rng(0)
    taken = set(range(0, total, 2))
    found = plans.draw_others(rng, total, taken, 20)
    assert len(set(found)) == 20
    assert all(i % 2 and 0 <= i < total for i in found)
    assert plans.draw_others(rng, total, set(range(2, total)), 9) in ([0, 1], [1, 0])


def test_nearest_products_are_in_order_and_ties_go_by_number_in_any_chunk(monkeypatch):
    monkeypatch.setattr(plans, "_CELLS", 1)
    rng = np.random.default_rng(1)
    vectors = rng.integers(-1, 2, (90, 3)).astype(np.float32)  # many equal ones, some unknown
    known = np.flatnonzero(vectors.any(axis=1))
    assert 0 < len(known) < 90
    for count in (1, 7, 89):
        found = plans.nearest_products(vectors, count)
        assert found.shape == (90, count)
        for i in range(90):
            others = [j for j in known if j != i and i in known]
            want = sorted(others, key=lambda j: -float(vectors[i] @ vectors[j]))[:count]
            assert found[i].tolist() == want + [-1] * (count - len(want))


def test_a_product_without_any_other_has_no_look_alike():
    one = np.eye(3, dtype=np.float32)
    one[1:] = 0
    assert (plans.nearest_products(one, 2) == -1).all()
    assert plans.nearest_products(one[:1], 2).shape == (1, 0)


def test_the_bank_holds_no_batch_and_is_in_half_precision_in_the_checkpoint():
    class Bag:
        pass

    runner = Bag()
    runner.model, runner.train_loop = Bag(), Bag()
    runner.train_loop.plan = MinedBatches(Pairs(8), 4)
    embedded = torch.rand(4, 5), torch.arange(4)
    runner.model.heads = {"identification": Bag()}
    runner.model.heads["identification"].latest = embedded
    hook = MineNegatives()
    hook.after_train_iter(runner, 0, {"task": "identification"})
    assert all(row.base is None for row in hook._bank.values())
    checkpoint = {"optimizer": {}}
    hook.before_save_checkpoint(runner, checkpoint)
    assert torch.equal(checkpoint["mining"]["bank"], embedded[0].half())


# titles


def test_wrong_labels_of_nobody_read_no_titles(monkeypatch):
    monkeypatch.delattr(families, "TitleIndex")
    options = {"share": 0.0, "confusable": True, "seed": 0}
    assert families.mislabel({"1": "a"}, {"a": "soap"}, ["a", "b"], **options) == {}


def test_a_family_of_more_than_a_tenth_of_the_products_is_noted():
    titles = {f"p{i:03d}": f"{i} pounds" if i < 60 else f"word{i} other{i}" for i in range(200)}
    titles["none"] = ""
    problems = Problems()
    families.note_large(families.families(titles), titles, "Picks", problems)
    assert problems.counts == {}
    alike = {p: "1 pound" if i < 21 else t for i, (p, t) in enumerate(titles.items())}
    families.note_large(families.families(alike), alike, "Picks", problems)
    assert problems.counts == {"large_family": 1}
    assert "21 of 200 products" in problems.lines()[0]
    few = dict.fromkeys("abcdefghij", "1 pound")
    families.note_large(families.families(few), few, "Picks", problems)
    assert problems.counts == {"large_family": 1}
