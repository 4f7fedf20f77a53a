"""What mask and box AP count, under each protocol."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from tote_scenes import HW, write_totes

from robollm.data.armbench_segmentation import MIX
from robollm.train.detector.metric import InstanceMetric, _rle
from robollm.train.detector.tote_view import decoded
from robollm.train.detector.totes import ToteData


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("totes")
    write_totes(root)
    return root


def perfect(data: ToteData, index: int, classes: str, keep=lambda t: True) -> dict:
    """Predictions that are the truth."""
    sample = data[index]["data_samples"]
    truth = [t for t in sample.instances if keep(t)]
    labels = [int(classes == "two" and t["category"] == "object") for t in truth]
    hw = sample.ori_shape
    masks = [decoded(t["mask"]).astype(bool) for t in truth]
    found = {
        "bboxes": torch.tensor([t["bbox"] for t in truth], dtype=torch.float32).reshape(-1, 4),
        "scores": torch.linspace(0.9, 0.5, len(truth)),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": torch.from_numpy(np.stack(masks)) if masks else torch.zeros(0, *hw).bool(),
    }
    return {**sample.metainfo, "pred_instances": found}


def scores(metric: InstanceMetric, samples: list[dict]) -> dict[str, float]:
    for sample in samples:
        metric.process(None, [sample])
    return metric.evaluate(len(samples))


@pytest.mark.parametrize(
    ("classes", "protocols"),
    [
        ("agnostic", ["class_agnostic", "object_only"]),
        ("two", ["two_class", "class_agnostic", "object_only"]),
        ("object", ["object_only"]),
    ],
)
def test_the_truth_scores_one_under_every_protocol(root, classes, protocols):
    data = ToteData(str(root), canvas_hw=HW, classes=classes)
    keep = (lambda t: t["category"] == "object") if classes == "object" else (lambda t: True)
    got = scores(InstanceMetric(classes), [perfect(data, i, classes, keep) for i in range(4)])
    names = [f"{p}_{k}_mAP{s}" for p in protocols for k in ("mask", "box") for s in ("", 50, 75)]
    assert sorted(got) == sorted(names)
    assert all(v == pytest.approx(1.0) for v in got.values())


def test_finding_half_of_the_objects_gives_half_and_the_tote_does_not_count(root):
    data = ToteData(str(root), canvas_hw=HW)
    half = []
    for i in range(3):
        objects = [t for t in data[i]["data_samples"].instances if t["category"] == "object"]
        chosen = [id_of(t) for t in objects[:2]]
        half.append(perfect(data, i, "agnostic", lambda t, c=chosen: id_of(t) in c))
    got = scores(InstanceMetric("agnostic"), half)
    assert got["object_only_mask_mAP50"] == pytest.approx(51 / 101)  # COCO's 101 recall levels
    assert got["class_agnostic_mask_mAP50"] == pytest.approx(41 / 101)


@pytest.mark.parametrize("kind", ["mask", "box"])
def test_what_is_found_of_a_tote_is_taken_out_at_every_threshold(root, kind):
    """Two tote detections of IoU .72, better scored than the perfect objects."""
    data = ToteData(str(root), canvas_hw=HW)
    samples = [perfect(data, i, "agnostic") for i in range(3)]
    for sample in samples:
        found = sample["pred_instances"]
        _, y1, _, y2 = found["bboxes"][0].tolist()
        found["bboxes"][0, 3] = low = y1 + 0.72 * (y2 - y1)
        found["masks"][0] &= torch.arange(HW[0])[:, None] < low
        found["masks"] = torch.cat([found["masks"][:1], found["masks"]])
        found["bboxes"] = torch.cat([found["bboxes"][:1], found["bboxes"]])
        found["labels"] = torch.zeros(len(found["bboxes"]), dtype=torch.int64)
        found["scores"] = torch.linspace(0.99, 0.5, len(found["bboxes"]))
    got = scores(InstanceMetric("agnostic"), samples)
    assert got[f"object_only_{kind}_mAP"] == got[f"object_only_{kind}_mAP75"] == 1.0
    assert got[f"class_agnostic_{kind}_mAP75"] < 0.9


def test_what_is_found_of_nothing_still_costs(root):
    data = ToteData(str(root), canvas_hw=HW)
    samples = [perfect(data, i, "agnostic") for i in range(3)]
    for sample in samples:
        found = sample["pred_instances"]
        found["masks"][0] = False
        found["masks"][0, :4] = True  # a strip beside the tote
        found["bboxes"][0] = torch.tensor([0.0, 0, HW[1], 4])
    got = scores(InstanceMetric("agnostic"), samples)
    assert got["object_only_mask_mAP50"] < 0.9


def test_run_lengths_from_a_window_are_pycocotools_own():
    rng = np.random.default_rng(0)
    masks = [np.zeros((9, 7), bool), np.ones((9, 7), bool), np.ones((1, 1), bool)]
    for density in (0.02, 0.3, 0.9):
        masks += list(rng.random((40, 9, 7)) < density)
    whole = np.zeros((9, 7), bool)
    whole[:, 2:5] = True  # runs over the columns' ends
    masks += [whole, whole[::-1, ::-1], np.roll(whole, 4, 1)]
    for mask in masks:
        assert _rle(torch.from_numpy(mask.copy())) == coco_mask.encode(
            np.asfortranarray(mask, "u1")
        )


def id_of(truth):
    return truth["bbox"]


def test_a_wrong_class_counts_in_the_two_class_protocol_alone(root):
    data = ToteData(str(root), canvas_hw=HW, classes="two")
    samples = [perfect(data, i, "two") for i in range(3)]
    for sample in samples:
        sample["pred_instances"]["labels"] = torch.ones_like(sample["pred_instances"]["labels"])
    got = scores(InstanceMetric("two"), samples)
    assert got["class_agnostic_mask_mAP50"] == pytest.approx(1.0)
    assert got["two_class_mask_mAP50"] < 0.6


def test_ignored_truth_costs_nothing_found_or_not(root):
    data = ToteData(str(root), canvas_hw=HW, classes="object", min_area=450.0)
    ignored = [t["ignore"] for i in range(3) for t in data[i]["data_samples"].instances]
    assert any(ignored)
    for keep in (lambda t: True, lambda t: not t["ignore"]):
        chosen = [
            perfect(data, i, "object", lambda t, k=keep: t["category"] == "object" and k(t))
            for i in range(3)
        ]
        assert scores(InstanceMetric("object"), chosen)["object_only_mask_mAP50"] == 1.0


def test_ap_is_that_of_pycocotools_on_files(root, tmp_path):
    """The same numbers as COCO's own loading of files gives, for imperfect predictions."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data = ToteData(str(root), canvas_hw=HW)
    rng = np.random.default_rng(3)
    samples = [perfect(data, i, "agnostic") for i in range(4)]
    rows = []
    for i, sample in enumerate(samples):
        found = sample["pred_instances"]
        found["masks"] = torch.roll(found["masks"], int(rng.integers(1, 5)), 2)
        found["scores"] = torch.from_numpy(rng.random(len(found["scores"])))
        for score, mask in zip(found["scores"], found["masks"], strict=True):
            rle = coco_mask.encode(np.asfortranarray(mask.numpy(), np.uint8))
            rle["counts"] = rle["counts"].decode()
            rows.append(
                {"image_id": i + 1, "category_id": 1, "score": float(score), "segmentation": rle}
            )
    truth = json.loads((root / "armbench-segmentation-0.1" / MIX / "train.json").read_text())
    for row in truth["annotations"]:
        row["category_id"] = 1
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(rows))
    coco = COCO(str(tmp_path / "truth.json"))
    run = COCOeval(coco, coco.loadRes(str(tmp_path / "found.json")), "segm")
    run.evaluate()
    run.accumulate()
    run.summarize()
    got = scores(InstanceMetric("agnostic"), samples)
    assert got["class_agnostic_mask_mAP"] == pytest.approx(run.stats[0])
    assert got["class_agnostic_mask_mAP50"] == pytest.approx(run.stats[1])
    assert got["class_agnostic_mask_mAP75"] == pytest.approx(run.stats[2])
    assert 0 < run.stats[0] < 1


def test_results_are_given_by_the_number_of_objects(root):
    data = ToteData(str(root), canvas_hw=HW)
    metric = InstanceMetric("agnostic", kinds=("mask",), groups=(3, 4))
    got = scores(metric, [perfect(data, i, "agnostic") for i in range(4)])
    assert got["object_only_mask_mAP50_4-4"] == pytest.approx(1.0)
    assert np.isnan(got["object_only_mask_mAP50_5+"])


def test_nothing_found_is_zero_and_nothing_to_find_is_not_a_number(root):
    data = ToteData(str(root), canvas_hw=HW)
    nothing = [perfect(data, i, "agnostic", lambda t: False) for i in range(2)]
    assert scores(InstanceMetric(), nothing)["class_agnostic_mask_mAP50"] == 0
    empty = [perfect(data, 3, "agnostic")]
    assert np.isnan(scores(InstanceMetric(), empty)["class_agnostic_mask_mAP50"])
