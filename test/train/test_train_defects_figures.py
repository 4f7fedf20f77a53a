"""Figures of the defect task against hand counts; learning; the configs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, MODELS

from robollm.core.errors import ConfigError, TrainingError
from robollm.data import armbench_defects as files
from robollm.data import jpeg
from robollm.train.beit3.encoder import Beit3Encoder
from robollm.train.config import FOLDER, names
from robollm.train.defects.batches import BalancedBatches
from robollm.train.defects.data import DefectData
from robollm.train.defects.head import DefectHead
from robollm.train.defects.metric import DefectMetric
from robollm.train.engine.draws import collate
from robollm.train.model import normalise

MULTI, NOMINAL, DAMAGED = 0, 1, 2


def row(induct, label, *probabilities, others=()):
    """One image's prediction; `others`: the labels of the induct's other images."""
    return {
        "induct": induct, "label": label, "probabilities": np.array(probabilities),
        "induct_labels": sorted({label, *others}), "images": [f"{induct}_0"],
        "frame_labels": [label], "frame_probabilities": np.array([probabilities]),
        "sequence": False,
    }  # fmt: skip


def figures(rows):
    metric = METRICS.build({"type": "DefectMetric"})
    metric.process(None, rows[:2])
    metric.process(None, rows[2:])
    return metric.compute_metrics(metric.results)


ROWS = [
    row("a", MULTI, 0.7, 0.2, 0.1, others=[NOMINAL]),  # found
    row("a", NOMINAL, 0.1, 0.8, 0.1, others=[MULTI]),  # found
    row("b", MULTI, 0.2, 0.3, 0.5, others=[DAMAGED]),  # taken for the other defect
    row("b", DAMAGED, 0.1, 0.6, 0.3, others=[MULTI]),  # missed
    row("c", NOMINAL, 0.5, 0.4, 0.1),  # false alarm
    row("d", NOMINAL, 0.1, 0.7, 0.2),  # found
    row("e", DAMAGED, 0.0, 0.1, 0.9),  # found
]


def test_the_figures_per_image_are_those_counted_by_hand():
    found = figures(ROWS)
    want = {
        "multi_pick_precision": 1 / 2, "multi_pick_recall": 1 / 2, "multi_pick_fpr": 1 / 5,
        "package_defect_precision": 1 / 2, "package_defect_recall": 1 / 2,
        "package_defect_fpr": 1 / 5, "combined_precision": 3 / 4, "combined_recall": 3 / 4,
        "combined_fpr": 1 / 3, "accuracy": 4 / 7, "mean_recall": (1 / 2 + 2 / 3 + 1 / 2) / 3,
        # 1 - p(nominal): defects .8 .7 .4 .9, nominal .2 .6 .3
        "combined_auc": 11 / 12, "combined_recall@fpr0.01": 3 / 4, "combined_recall@fpr0.05": 3 / 4,
        # p(multi): .7 .2, others .1 .1 .5 .1 0
        "multi_pick_auc": 9 / 10, "multi_pick_recall@fpr0.05": 1 / 2,
        "images": 7, "inducts": 5,
    }  # fmt: skip
    assert {k: found[k] for k in want} == pytest.approx(want)
    assert all(type(v) is float for v in found.values())


def test_the_figures_per_induct_take_any_image():
    found = figures(ROWS)
    want = {
        # b has both defects; a, b have multi-picks; called: a multi, b damaged, c multi, e damaged
        "induct_multi_pick_precision": 1 / 2, "induct_multi_pick_recall": 1 / 2,
        "induct_multi_pick_fpr": 1 / 3, "induct_package_defect_recall": 1,
        "induct_package_defect_fpr": 0, "induct_combined_recall": 1, "induct_combined_fpr": 1 / 2,
        # highest 1 - p(nominal): a .8, b .7, e .9 against c .6, d .3
        "induct_combined_auc": 1, "induct_combined_recall@fpr0.01": 1,
        "induct_mean_recall": (1 / 2 + 1 / 2 + 1) / 3,
    }  # fmt: skip
    assert {k: found[k] for k in want} == pytest.approx(want)
    assert not [k for k in found if k.startswith("sequence_")]


def test_a_sequence_counts_once_pooled_and_its_frames_one_by_one():
    sequence = {
        "induct": "a", "label": DAMAGED, "probabilities": np.array([0.1, 0.8, 0.1]),
        "induct_labels": [NOMINAL, DAMAGED], "frame_labels": [NOMINAL, DAMAGED],
        "frame_probabilities": np.array([[0.1, 0.8, 0.1], [0.1, 0.2, 0.7]]), "sequence": True,
    }  # fmt: skip
    single = {**row("b", NOMINAL, 0.1, 0.8, 0.1), "sequence": True}
    found = figures([sequence, single])
    assert found["sequence_package_defect_recall"] == 0
    assert found["induct_package_defect_recall"] == found["frame_package_defect_recall"] == 1
    assert (found["frames"], found["inducts"]) == (3, 2)
    assert not {"images", "accuracy", "package_defect_recall"} & set(found)


def test_an_induct_is_what_all_of_its_images_are_and_not_only_those_shown():
    shown = {**row("a", NOMINAL, 0.1, 0.8, 0.1, others=[DAMAGED]), "sequence": True}
    shown["label"] = DAMAGED
    found = figures([shown, {**row("b", NOMINAL, 0.1, 0.8, 0.1), "sequence": True}])
    assert found["induct_package_defect_recall"] == found["induct_combined_recall"] == 0
    assert found["sequence_combined_recall"] == 0
    assert np.isnan(found["frame_combined_recall"])
    assert found["frame_accuracy"] == 1


@pytest.mark.parametrize("key", ["probabilities", "frame_probabilities"])
def test_a_probability_that_is_no_number_stops_with_the_sample_named(key):
    bad = row("a", NOMINAL, 0.1, 0.8, 0.1)
    bad[key] = bad[key] * np.nan
    with pytest.raises(TrainingError, match=r"induct a, images a_0, are .*nan"):
        figures([row("b", NOMINAL, 0.1, 0.8, 0.1), bad])


def test_what_does_not_occur_is_nan_and_left_out_of_the_mean():
    found = figures([row("a", NOMINAL, 0.1, 0.8, 0.1), row("b", MULTI, 0.8, 0.1, 0.1)])
    assert np.isnan([found["package_defect_recall"], found["package_defect_auc"]]).all()
    assert found["mean_recall"] == 1
    with pytest.raises(ConfigError, match="no defect was predicted"):
        figures([])


# learning


def drawn(rng, label):
    """A square; two of them is a multi-pick; one with a hole is damaged."""
    rgb = rng.integers(60, 90, (48, 48, 3)).astype(np.uint8)
    x, y = rng.integers(2, 12, 2)
    shade = rng.integers(150, 250, 3)
    rgb[y : y + 20, x : x + 20] = shade
    if label == MULTI:
        rgb[24:44, 24:44] = shade
    if label == DAMAGED:
        rgb[y + 5 : y + 15, x + 5 : x + 15] = 0
    return jpeg.encode(rgb)


def write_drawn(folder):
    rng = np.random.default_rng(0)
    root = folder / files.IMAGE_ROOT
    ids = [f"{n:021d}" for n in range(36)]
    for n, induct in enumerate(ids):
        note = {"label": files.LABELS[n % 3], "box": [0, 0, 0, 0]}
        files.write_images(root, induct, [(drawn(rng, n % 3), note) for _ in range(2)])
    files.write_lists(root, {"train": ids[:24], "val": ids[24:30], "test": ids[30:]})


def accuracy(encoder, head, data):
    encoder.eval()
    head.eval()
    batch = collate([data[i] for i in range(len(data))])
    metric = DefectMetric()
    metric.process(batch, head.predict(encoder, normalise(batch["inputs"]), batch["data_samples"]))
    encoder.train()
    head.train()
    found = metric.compute_metrics(metric.results)
    return found["accuracy" if data[0]["inputs"]["present"].shape[0] == 1 else "frame_accuracy"]


@pytest.mark.parametrize("frames", [1, 2])
def test_thirty_steps_lift_the_accuracy_on_drawn_images(tmp_path, frames):
    write_drawn(tmp_path)
    data = DefectData(str(tmp_path), size=48, frames=frames)
    torch.manual_seed(0)
    encoder = Beit3Encoder("tiny", depth=2, grid=3)
    head = DefectHead(128, frame_weight=0.5 * (frames > 1))
    before = accuracy(encoder, head, data)
    plan = BalancedBatches(data, 12)
    weights = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=2e-3)
    for step in range(30):
        batch = collate([data[draw] for draw in plan.batch(step)])
        losses = head.loss(encoder, normalise(batch["inputs"]), batch["data_samples"])
        optimizer.zero_grad()
        sum(v for k, v in losses.items() if "loss" in k).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    assert before < 0.6
    assert accuracy(encoder, head, data) > 0.8


# configs


@pytest.mark.parametrize("name", names("defects"))
def test_a_config_builds_and_its_parts_fit(name, tmp_path):
    config = Config.fromfile(str(FOLDER / f"{name}.py"), import_custom_modules=False)
    write_drawn(tmp_path)
    part = {**config.train_dataloader.dataset, "data_root": str(tmp_path), "seed": 0}
    data = DATASETS.build(part)
    plan = BalancedBatches(data, 2)
    batch = collate([data[draw] for draw in plan.batch(0)])
    val = DATASETS.build({**config.val_dataloader.dataset, "data_root": str(tmp_path), "seed": 0})
    assert not set(val.inducts) & set(data.inducts)
    encoder = config.model.encoder
    # The head and the data of every config with an encoder of the same width, but few blocks.
    thin = MODELS.build({**encoder, "depth": 1, "global_blocks": (), "heads": 2, "hidden": 8})
    head = MODELS.build(config.model.heads.defects)
    losses = head.loss(thin, normalise(batch["inputs"]), batch["data_samples"])
    assert all(torch.isfinite(v) for v in losses.values())
    rows = head.predict(thin, normalise(batch["inputs"]), batch["data_samples"])
    metric = METRICS.build(dict(config.val_evaluator))
    metric.process(batch, rows)
    assert config.select.metric in metric.compute_metrics(metric.results)
    assert config.optim_wrapper.paramwise_cfg.layer_decay <= 1
