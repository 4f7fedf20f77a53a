"""An oracle that reads the truth is perfect in every figure, blind chance is at chance."""

from __future__ import annotations

import math
from itertools import count

import numpy as np
import pytest
from in_process import answered
from tiny_armbench import write_all, write_defects, write_picks, write_totes

from robollm.core.frame import Frame
from robollm.core.settings import RuntimeConfig
from robollm.data.armbench_defects import LABELS
from robollm.eval.predictors import Chance, Oracle, make
from robollm.eval.score import headline, score, tallies
from robollm.runtime.pixels import Region
from robollm.runtime.timing import Laps

ZERO = ("fpr", "false_reject", "ece", "brier", "nll", "to_flag", "false_flag_share", "early_flags")
NOT_OURS = ("chance@", "latency_")  # of the data, and of the machine


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("armbench"))


def four_sigma(share, cases):
    return 4 * math.sqrt(share * (1 - share) / cases)


def test_every_figure_of_every_task_is_perfect_for_the_oracle(data, tmp_path, monkeypatch):
    run = answered(monkeypatch, data, tmp_path / "run")
    metrics = score(run, draws=100)
    assert not metrics.partial
    assert {s.task for s in metrics.sections} == {
        "segmentation", "identification", "defects", "videos",
    }  # fmt: skip
    seen = 0
    for section in metrics.sections:
        assert not [w for w in section.worst if w.facts["outcome"] != "right, but near"]
        for name, one in section.figures.items():
            if name.startswith(NOT_OURS) or math.isnan(one.value):
                continue
            share = "recall@" not in name and any(z in name for z in ZERO)
            assert one.value == (0.0 if share else 1.0), f"{section.name}: {name}"
            seen += 1
    assert seen > 200
    assert min(v for v in headline(metrics).values() if v) == 1.0


def test_limits_of_a_perfect_share_do_not_claim_certainty(data, tmp_path, monkeypatch):
    run = answered(monkeypatch, data, tmp_path / "run", tasks=("identification",))
    (section,) = score(run, draws=100).sections
    one = section.figures["recall@1_container_product_n1"]
    assert one.value == one.high == 1.0
    assert one.low < 0.7  # six products


def test_chance_finds_the_true_product_as_often_as_guessing_does(tmp_path, monkeypatch):
    write_picks(tmp_path, products=40, count=200, manifest=5, references=1)
    run = answered(monkeypatch, tmp_path, tmp_path / "run", "chance")
    found = tallies(run)["identification", ""].figures()
    for k in (1, 2, 3):
        expected = k / 5
        assert found[f"chance@{k}_container"] == pytest.approx(expected)
        for query in ("n1", "n3"):
            recall = found[f"recall@{k}_container_product_{query}"]
            assert abs(recall - expected) < four_sigma(expected, 40)  # products, cautiously
    assert found["recall@1_all_product_n1"] < 0.1
    assert abs(found["auroc_n1"] - 0.5) < 0.15


def test_chance_judges_defects_as_dice_do(tmp_path, monkeypatch):
    write_defects(tmp_path, inducts=400, frames=1)
    run = answered(monkeypatch, tmp_path, tmp_path / "run", "chance")
    found = tallies(run)["defects", ""].figures()
    third = 1 / 3
    for label in ("multi_pick", "package_defect"):
        assert abs(found[f"image_{label}_recall"] - third) < four_sigma(third, 133)
        assert abs(found[f"image_{label}_fpr"] - third) < four_sigma(third, 266)
        assert abs(found[f"image_{label}_auc"] - 0.5) < 0.12
        assert found[f"image_{label}_recall@fpr0.01"] < 0.1
    assert abs(found["image_accuracy"] - third) < four_sigma(third, 400)
    assert abs(found["image_combined_recall"] - 2 / 3) < four_sigma(third, 266)
    assert abs(found["ece_top"] - (0.611 - third)) < 0.1  # the mean of the largest of three


def test_chance_finds_next_to_nothing_in_a_tote(tmp_path, monkeypatch):
    write_totes(tmp_path, images=24, subsets=("mix-object-tote",))
    run = answered(monkeypatch, tmp_path, tmp_path / "run", "chance")
    found = tallies(run)["segmentation", "mix-object-tote"].figures()
    assert found["object_only_mask_mAP50"] < 0.02
    assert found["two_class_mask_mAP75"] < 0.05


@pytest.mark.parametrize("name", ["bundle", "chance"])
def test_nobody_but_the_oracle_looks_at_the_truth(name, sketch_bundle):
    config = RuntimeConfig(bundle=str(sketch_bundle), threads=1, allow_untrained=True)
    asked = make(name, config, {"seed": 3})
    rng = np.random.default_rng(0)
    stamps = count(1)

    def region():
        return Region(Frame(rgb, "rgb", stamp_ns=next(stamps)))

    rgb = rng.integers(0, 256, (40, 40, 3), np.uint8)
    for one in (0, 1):
        rgb = rng.integers(0, 256, (40, 40, 3), np.uint8)
        truths = ([], [{"category": "object", "bbox": [1, 1, 5, 5], "iscrowd": 0}])
        found = [asked.segment(region().frame, t, Laps()) for t in truths]
        assert found[0] == found[1], one
        views = {"PickRGB": region(), "ToteWallRGB": region()}
        vectors = [asked.embed(views, t, Laps()) for t in ("A", "B")]
        assert all(np.array_equal(vectors[0][k], vectors[1][k]) for k in vectors[0])
        assert set(vectors[0]) == {"n1", "n3", "PickRGB", "ToteWallRGB"}
        assert np.array_equal(asked.reference(region(), "A"), asked.reference(region(), "B"))
        said = [asked.inspect(region(), t, Laps()) for t in LABELS]
        assert said[0] == said[1] == said[2]
    asked.close()


def test_the_oracle_does_look_at_the_truth():
    region = Region(Frame(np.zeros((8, 8, 3), np.uint8), "rgb", stamp_ns=1))
    oracle = Oracle()
    assert oracle.inspect(region, "nominal", Laps())["nominal"] == 1.0
    assert not np.array_equal(oracle.reference(region, "A"), oracle.reference(region, "B"))
    crowd = {"category": "object", "bbox": [0, 0, 4, 4], "segmentation": {}, "iscrowd": 1}
    assert oracle.segment(region.frame, [crowd], Laps()) == []


def test_another_seed_is_another_chance():
    region = Region(Frame(np.full((8, 8, 3), 7, np.uint8), "rgb", stamp_ns=1))
    one, same, other = (Chance(seed).inspect(region, "", Laps()) for seed in (0, 0, 1))
    assert one == same != other
