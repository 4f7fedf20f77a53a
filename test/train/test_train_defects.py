"""Batches, head and figures of the defect task."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.registry import DATA_SAMPLERS
from torch import nn

from robollm.core.errors import ConfigError
from robollm.train.defects.batches import BalancedBatches, class_shares, quotas
from robollm.train.defects.head import POOLS, DefectHead, Pool
from robollm.train.features import Features

MULTI, NOMINAL, DAMAGED = 0, 1, 2
CHANNELS = 8


class Labelled:
    """What BalancedBatches needs of a dataset."""

    def __init__(self, labels, groups):
        self.labels, self.groups = np.array(labels), np.array(groups)

    def __len__(self):
        return len(self.labels)


def skewed(seed=0, count=300):
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=[0.1, 0.7, 0.2])
    return Labelled(labels, rng.integers(0, count // 3, count))


# batches


def test_the_classes_of_a_batch_are_balanced():
    data = skewed()
    plan = BalancedBatches(data, 16)
    for step in range(20):
        counts = np.bincount(data.labels[list(plan.indices(step))], minlength=3)
        assert sorted(counts) == [5, 5, 6]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_over_many_steps_a_class_gets_its_share(power):
    data = skewed()
    plan = BalancedBatches(data, 7, power=power)
    drawn = np.concatenate([data.labels[list(plan.indices(s))] for s in range(400)])
    n = np.bincount(data.labels)
    want = n ** (1 - power) / (n ** (1 - power)).sum()
    assert np.bincount(drawn) / len(drawn) == pytest.approx(want, abs=0.01)
    assert list(class_shares(data.labels, power).values()) == pytest.approx(want)


def test_quotas_are_whole_and_within_one_of_their_share():
    rng = np.random.default_rng(1)
    for _ in range(200):
        shares = rng.dirichlet(np.ones(4))
        total = int(rng.integers(1, 40))
        found = quotas(shares, total, rng)
        assert sum(found) == total
        assert np.abs(np.array(found) - shares * total).max() < 1 + 1e-9


def test_an_induct_is_in_a_batch_once_as_long_as_there_are_others():
    data = skewed(count=600)
    plan = BalancedBatches(data, 24)
    for step in range(10):
        assert len(set(data.groups[list(plan.indices(step))])) == 24
    few = Labelled([0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 2, 2, 2, 3])
    for step in range(10):
        assert set(few.groups[list(BalancedBatches(few, 4).indices(step))]) == {0, 1, 2, 3}


def test_a_class_with_too_few_samples_repeats_all_of_them_equally():
    data = Labelled([0] + [1] * 40 + [2, 2], [0, *range(1, 41), 41, 42])
    drawn = data.labels[list(BalancedBatches(data, 30).indices(0))]
    assert np.bincount(drawn).tolist() == [10, 10, 10]
    places = np.bincount(list(BalancedBatches(data, 30).indices(0)), minlength=43)
    assert places[0] == 10
    assert places[41:].tolist() == [5, 5]


def test_a_batch_is_a_function_of_seed_and_step():
    data = skewed()
    plan = DATA_SAMPLERS.build({"type": "BalancedBatches", "dataset": data, "batch_size": 8})
    later = BalancedBatches(data, 8)
    later.start = 3
    first = next(iter(later))
    assert first == plan.batch(3)
    assert first != plan.batch(4)
    assert first != BalancedBatches(data, 8, seed=1).batch(3)


def test_batches_refuse_what_they_can_not_balance():
    with pytest.raises(ConfigError, match="power is 2"):
        BalancedBatches(skewed(), 8, power=2)
    with pytest.raises(ConfigError, match="no labels"):
        BalancedBatches([1, 2, 3], 2)


# head


def encode(images):
    """(B, 3, H, W) -> a map that depends on every pixel; counts its calls and images."""
    encode.calls.append(len(images))
    flat = torch.nn.functional.adaptive_avg_pool2d(images.float(), 4)
    weights = torch.linspace(-1, 1, CHANNELS * 3).reshape(CHANNELS, 3)
    found = torch.einsum("bchw,dc->bdhw", flat, weights).sin()
    return Features(found, found.mean(dim=(2, 3)))


@pytest.fixture(autouse=True)
def no_calls():
    encode.calls = []


def sample_inputs(batch=3, frames=1, *, reference=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        "images": torch.rand(batch, frames, 3, 16, 16, generator=generator),
        "present": torch.ones(batch, frames, dtype=torch.bool),
    }
    if reference:
        inputs["reference"] = torch.rand(batch, 3, 16, 16, generator=generator)
        inputs["has_reference"] = torch.ones(batch, dtype=torch.bool)
    return inputs


def told(inputs, label=NOMINAL):
    counts = inputs["present"].sum(1).tolist()
    return [
        {"label": label, "induct": str(n), "images": ["x"] * c, "frame_labels": [label] * c}
        for n, c in enumerate(counts)
    ]


def head_with(seed=0, **options):
    """A head whose every weight is random, so that everything has an influence."""
    torch.manual_seed(seed)
    head = DefectHead(CHANNELS, **options).eval()
    for weight in head.parameters():
        nn.init.normal_(weight, std=0.2)
    return head


def predict(head, inputs):
    found = head.predict(encode, inputs, told(inputs))
    return np.stack([f["probabilities"] for f in found])


@pytest.mark.parametrize("way", POOLS)
def test_a_sequence_of_one_frame_is_that_frame(way):
    head = head_with(pool=way)
    one = sample_inputs(frames=1)
    padded = sample_inputs(frames=3, seed=1)
    padded["images"][:, 0] = one["images"][:, 0]
    padded["present"][:, 1:] = False
    np.testing.assert_allclose(predict(head, padded), predict(head, one), rtol=1e-5)


@pytest.mark.parametrize("way", POOLS)
@pytest.mark.parametrize("rubbish", [0.0, 5.0, float("nan")])
def test_an_absent_frame_or_reference_has_no_influence(way, rubbish):
    head = head_with(pool=way, reference=True)
    inputs = sample_inputs(frames=4, reference=True)
    inputs["present"][0, 2:] = False
    inputs["has_reference"][1] = False
    want = predict(head, inputs)
    inputs["images"][0, 2:] = rubbish
    inputs["reference"][1] = rubbish
    np.testing.assert_array_equal(predict(head, inputs), want)
    inputs["images"][0, 1] += 1
    inputs["reference"][2] += 1
    changed = np.abs(predict(head, inputs) - want).max(axis=1) > 1e-6
    assert changed.tolist() == [True, False, True]


@pytest.mark.parametrize("way", POOLS)
def test_pooling_does_not_depend_on_where_the_present_frames_stand(way):
    pool = Pool(way, CHANNELS)
    frames = torch.rand(1, 4, CHANNELS)
    present = torch.tensor([[True, False, True, True]])
    moved = pool(frames[:, [3, 1, 0, 2]], present[:, [3, 1, 0, 2]])
    torch.testing.assert_close(moved, pool(frames, present))
    three = pool(frames[:, [0, 2, 3]], torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(three, pool(frames, present))


def test_all_pictures_of_a_batch_are_encoded_in_one_call():
    inputs = sample_inputs(frames=4, reference=True)
    inputs["present"][0, 1:] = False
    inputs["has_reference"][0] = False
    head_with(reference=True).loss(encode, inputs, told(inputs))
    assert encode.calls == [9 + 2]


def test_the_loss_is_smoothed_cross_entropy_with_class_weights():
    head = head_with(smoothing=0.1, class_weights=(2.0, 1.0, 0.5))
    inputs = sample_inputs(batch=5)
    labels = [MULTI, NOMINAL, DAMAGED, DAMAGED, NOMINAL]
    samples = [{**s, "label": c} for s, c in zip(told(inputs), labels, strict=True)]
    logs = np.log(predict(head, inputs).astype(float))
    weights = np.array([2.0, 1.0, 0.5])
    total = 0.0
    for row, label in zip(logs, labels, strict=True):
        for c in range(3):
            total -= (0.9 * (c == label) + 0.1 / 3) * weights[c] * row[c]
    found = head.loss(encode, inputs, samples)
    assert set(found) == {"loss_defect", "defect_accuracy"}
    assert found["loss_defect"].item() == pytest.approx(total / weights[labels].sum(), rel=1e-4)
    right = logs.argmax(axis=1) == labels
    assert found["defect_accuracy"].item() == pytest.approx(right.mean())


def test_frames_have_a_loss_and_a_prediction_of_their_own():
    head = head_with(frame_weight=0.5, smoothing=0.0)
    inputs = sample_inputs(batch=2, frames=3)
    inputs["present"][1, 1:] = False
    samples = told(inputs)
    samples[0]["frame_labels"] = [NOMINAL, DAMAGED, NOMINAL]
    found = head.predict(encode, inputs, samples)
    assert [f["frame_probabilities"].shape for f in found] == [(3, 3), (1, 3)]
    own = np.concatenate([f["frame_probabilities"] for f in found])
    picked = own[range(4), [NOMINAL, DAMAGED, NOMINAL, NOMINAL]]
    loss = head.loss(encode, inputs, samples)["loss_defect_frames"].item()
    assert loss == pytest.approx(-0.5 * np.log(picked).mean(), rel=1e-4)


def test_training_with_references_starts_at_the_plain_head():
    torch.manual_seed(0)
    plain = DefectHead(CHANNELS)
    both = DefectHead(CHANNELS, reference=True)
    both.load_state_dict(plain.state_dict(), strict=False)
    inputs = sample_inputs(reference=True)
    np.testing.assert_array_equal(predict(both.eval(), inputs), predict(plain.eval(), inputs))


def test_every_weight_is_reached_by_the_loss():
    for pool in POOLS:
        head = head_with(pool=pool, reference=True, frame_weight=1.0)
        inputs = sample_inputs(frames=3, reference=True)
        inputs["has_reference"][0] = False
        found = head.loss(encode, inputs, told(inputs))
        (found["loss_defect"] + found["loss_defect_frames"]).backward()
        assert [n for n, w in head.named_parameters() if w.grad is None or not w.grad.any()] == []


@pytest.mark.parametrize(
    "bad", [{"pool": "median"}, {"smoothing": 1}, {"class_weights": (1, 1)}, {"frame_weight": -1}]
)
def test_a_head_refuses_a_setting_out_of_range(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        DefectHead(CHANNELS, **bad)


def test_a_head_that_wants_references_says_so():
    inputs = sample_inputs()
    with pytest.raises(ConfigError, match="reference=True in the dataset"):
        head_with(reference=True).loss(encode, inputs, told(inputs))
