"""Figures of defects per image and per induct: hand counts, scikit-learn, resamples, videos."""

from __future__ import annotations

import time

import numpy as np
import pytest
import sklearn.metrics as oracle

from robollm.core.errors import EvalError
from robollm.data.armbench_defects import LABELS
from robollm.metrics.bootstrap import intervals
from robollm.metrics.defects import DefectImage, DefectTally
from robollm.metrics.tally import Tally


def image(induct, labels, *probabilities, frame=0):
    said = dict(zip(LABELS, probabilities, strict=True)) if probabilities else None
    return DefectImage(induct, tuple(labels.split("+")), said, frame)


IMAGES = [
    image("a", "multi_pick", 0.7, 0.2, 0.1),  # found
    image("a", "nominal", 0.1, 0.8, 0.1),  # found
    image("b", "multi_pick", 0.2, 0.3, 0.5),  # taken for the other defect
    image("b", "package_defect", 0.1, 0.6, 0.3),  # missed
    image("c", "nominal", 0.5, 0.4, 0.1),  # false alarm
    image("d", "nominal", 0.1, 0.7, 0.2),  # found
    image("e", "package_defect", 0.0, 0.1, 0.9),  # found
]


def drawn(seed, n=160):
    rng = np.random.default_rng(seed)
    images = []
    for k in range(n):
        label = LABELS[rng.integers(3)]
        odds = rng.integers(1, 9, 3) + 6 * (np.array(LABELS) == label)
        images.append(image(f"i{rng.integers(n // 3)}", label, *(odds / odds.sum()), frame=k))
    return images


def test_the_figures_are_those_counted_by_hand():
    found = DefectTally(IMAGES).figures()
    want = {
        "image_multi_pick_precision": 1 / 2, "image_multi_pick_recall": 1 / 2,
        "image_multi_pick_fpr": 1 / 5, "image_package_defect_precision": 1 / 2,
        "image_package_defect_recall": 1 / 2, "image_package_defect_fpr": 1 / 5,
        "image_combined_precision": 3 / 4, "image_combined_recall": 3 / 4,
        "image_combined_fpr": 1 / 3, "image_accuracy": 4 / 7,
        "image_mean_recall": (1 / 2 + 2 / 3 + 1 / 2) / 3,
        # 1 - p(nominal), defects: .9 .8 .7 .4, nominal: .6 .3 .2
        "image_combined_auc": 11 / 12, "image_combined_ap": (1 + 1 + 1 + 4 / 5) / 4,
        "image_combined_recall@fpr0.01": 3 / 4, "image_combined_recall@fpr0.05": 3 / 4,
        # b has both defects; called: a multi, b damaged, c multi, e damaged
        "induct_multi_pick_precision": 1 / 2, "induct_multi_pick_recall": 1 / 2,
        "induct_multi_pick_fpr": 1 / 3, "induct_package_defect_recall": 1,
        "induct_package_defect_fpr": 0, "induct_combined_recall": 1, "induct_combined_fpr": 1 / 2,
        # highest 1 - p(nominal): a .8, b .7, e .9 against c .6, d .3
        "induct_combined_auc": 1, "induct_combined_ap": 1,
        "induct_mean_recall": (1 / 2 + 1 / 2 + 1) / 3,
        "induct_accuracy": 3 / 5,  # b has both and was called one of them; c is a false alarm
    }  # fmt: skip
    assert {k: found[k] for k in want} == pytest.approx(want)
    assert all(type(v) is float for v in found.values())
    assert len(found) == 2 * (3 * 7 + 2)


@pytest.mark.parametrize("seed", range(4))
def test_rates_and_the_confusion_matrix_equal_those_of_scikit_learn(seed):
    images = drawn(seed)
    tally = DefectTally(images)
    found = tally.figures()
    true = [i.labels[0] for i in images]
    said = [max(LABELS, key=i.probabilities.get) for i in images]
    matrix = oracle.confusion_matrix(true, said, labels=LABELS)
    assert tally.confusion().counts.tolist() == matrix.tolist()
    assert (tally.confusion().rows, tally.confusion().columns) == (LABELS, LABELS)
    assert found["image_accuracy"] == oracle.accuracy_score(true, said)
    recall = oracle.recall_score(true, said, labels=LABELS, average=None)
    assert found["image_mean_recall"] == pytest.approx(recall.mean())
    precision = oracle.precision_score(true, said, labels=LABELS, average=None)
    for c, label in enumerate(LABELS):
        if label == "nominal":
            continue
        assert found[f"image_{label}_recall"] == pytest.approx(recall[c])
        assert found[f"image_{label}_precision"] == pytest.approx(precision[c])
        scores = [i.probabilities[label] for i in images]
        auc = oracle.roc_auc_score(np.array(true) == label, scores)
        assert found[f"image_{label}_auc"] == pytest.approx(auc)
        ap = oracle.average_precision_score(np.array(true) == label, scores)
        assert found[f"image_{label}_ap"] == pytest.approx(ap)


@pytest.mark.parametrize("seed", range(3))
def test_an_induct_drawn_twice_counts_like_two_inducts(seed):
    images = [*drawn(seed), image("i0", "nominal"), image("i1", "multi_pick")]
    tally = DefectTally(images)
    counts = np.random.default_rng(seed).integers(0, 3, len(tally.units))
    copies = [
        DefectImage(f"{i.induct}/{n}", i.labels, i.probabilities, i.frame)
        for i in images
        for n in range(counts[tally.units.index(i.induct)])
    ]
    want = DefectTally(copies).figures()
    assert tally.figures(counts) == pytest.approx(want, nan_ok=True, abs=1e-12)
    assert list(tally.figures(counts)) == list(tally.figures())


def test_every_share_is_its_figure_and_perfect_ones_have_honest_limits():
    tally: Tally = DefectTally(IMAGES)
    found = tally.figures()
    shares = {name: tally.share(name) for name in found}
    none = {n for n in found if "recall@fpr" in n or n.endswith(("_auc", "_ap", "mean_recall"))}
    assert {n for n, (hits, _) in shares.items() if hits is None} == none
    for name, (hits, cases) in shares.items():
        if hits is not None:
            assert hits.sum() / cases.sum() == pytest.approx(found[name]), name
    assert shares["image_accuracy"][1].tolist() == [2, 2, 1, 1, 1]
    # Nominal images are of a, c, d; defects of a, b (2), e: worth 16 / 6, so less.
    assert shares["image_combined_auc"][1].tolist() == [1, 2, 0, 0, 1]
    assert shares["induct_combined_recall@fpr0.01"][1].tolist() == [0, 0, 1, 1, 0]
    assert shares["image_mean_recall"][1].tolist() == [1, 1, 0, 0, 0]  # of multi_pick
    limits = intervals(tally, draws=50)
    assert limits["induct_combined_recall"].value == limits["induct_combined_recall"].high == 1
    assert limits["induct_combined_recall"].low == pytest.approx(0.025 ** (1 / 3))  # 3 of 3
    auc = limits["induct_combined_auc"]  # two nominal inducts make two pairs that share none
    assert (auc.value, auc.low, auc.cases) == (1, pytest.approx(0.025 ** (1 / 2)), 2)


def test_a_perfect_oracle_has_exactly_one_everywhere_and_exactly_zero_false_alarms():
    rng = np.random.default_rng(0)
    images = []
    for k in range(77):
        label = LABELS[k % 3]
        images.append(image(f"i{rng.integers(30)}", label, *np.eye(3)[k % 3].tolist(), frame=k))
    tally = DefectTally(images)
    counts = rng.integers(1, 4, len(tally.units))
    for found in (tally.figures(), tally.figures(counts)):
        for name, value in found.items():
            if name == "induct_accuracy":  # an induct of images with several labels is all of them
                assert value == 1
            assert value == (0 if name.endswith("_fpr") else 1), name


def test_an_image_that_was_not_judged_is_neither_a_defect_nor_nominal():
    images = [
        image("a", "multi_pick", 0.8, 0.1, 0.1), image("a", "multi_pick"),
        image("b", "nominal"), image("c", "nominal", 0.1, 0.8, 0.1), image("d", "package_defect"),
    ]  # fmt: skip
    tally = DefectTally(images)
    found = tally.figures()
    want = {
        "image_multi_pick_recall": 1 / 2, "image_combined_recall": 1 / 3, "image_combined_fpr": 0,
        "image_combined_precision": 1, "image_accuracy": 2 / 5, "image_combined_ap": 1 / 3,
        "image_mean_recall": (1 / 2 + 1 / 2 + 0) / 3, "image_combined_recall@fpr0.05": 1 / 3,
        "induct_multi_pick_recall": 1, "induct_combined_recall": 1 / 2, "induct_accuracy": 2 / 4,
    }  # fmt: skip
    assert {k: found[k] for k in want} == pytest.approx(want)
    # Pairs: of a's and d's defects against c alone; b is no nominal image that was told apart.
    assert found["image_combined_auc"] == 1 / 3
    assert tally.share("image_combined_fpr")[1].tolist() == [0, 0, 1, 0]
    silent = DefectTally([*images[:3], images[4]]).figures()
    assert np.isnan([silent["image_combined_fpr"], silent["image_combined_auc"]]).all()
    assert tally.counts == {
        "images": 5, "images_not_judged": 3, "inducts": 4, "inducts_not_judged": 2,
    }  # fmt: skip
    assert tally.confusion().columns == (*LABELS, "not judged")
    assert tally.confusion().counts.tolist() == [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 1]]


def test_of_videos_open_and_deconstruction_are_package_defects_and_told_apart():
    frames = [
        image("v", "open", 0.1, 0.8, 0.1), image("v", "open", 0.1, 0.1, 0.8),
        image("w", "open+deconstruction", 0.1, 0.8, 0.1), image("x", "nominal", 0.1, 0.8, 0.1),
        image("y", "deconstruction", 0.1, 0.2, 0.7),
    ]  # fmt: skip
    tally = DefectTally(frames, video=True)
    found = tally.figures()
    want = {
        "frame_package_defect_recall": 2 / 4, "video_package_defect_recall": 2 / 3,
        "video_open_recall": 1 / 2, "video_deconstruction_recall": 1 / 2,
        "video_package_defect_fpr": 0,
    }  # fmt: skip
    assert {k: found[k] for k in want} == want
    assert np.isnan(found["video_multi_pick_recall"])
    assert [part.tolist() for part in tally.share("video_open_recall")] == [
        [1, 0, 0, 0], [1, 1, 0, 0],
    ]  # fmt: skip
    assert tally.confusion().rows == ("deconstruction", "deconstruction + open", "nominal", "open")
    drawn_twice = tally.figures(np.array([2, 1, 0, 0]))  # v, w, x, y
    assert drawn_twice["video_open_recall"] == 2 / 3


def test_curves_are_there_where_both_sides_are():
    curves = DefectTally(IMAGES).curves()
    assert len(curves) == 2 * 3 * 2
    fpr, recall = curves["image_combined_roc"]
    assert (fpr[0], recall[0], fpr[-1], recall[-1]) == (0, 0, 1, 1)
    recall, precision = curves["image_combined_pr"]
    assert (recall[-1], precision[-1]) == (1, 4 / 7)
    assert not DefectTally(IMAGES[4:6]).curves()


def test_what_can_not_be_counted_is_named():
    with pytest.raises(EvalError, match="no image"):
        DefectTally([])
    with pytest.raises(EvalError, match=r"\['torn'\] are not all known; want some of multi_pick"):
        DefectTally([image("a", "torn", 0.1, 0.8, 0.1)])
    with pytest.raises(EvalError, match=r"induct a, frame 3, has .*; want a number for each"):
        DefectTally([DefectImage("a", ("nominal",), {"nominal": 1.0}, 3)])
    with pytest.raises(EvalError, match="nan"):
        DefectTally([image("a", "nominal", 0.1, float("nan"), 0.1)])


def test_a_thousand_resamples_of_a_whole_test_split_take_seconds():
    tally = DefectTally([i for k in range(40) for i in drawn(k, n=450)])
    counts = np.ones(len(tally.units), np.int64)
    start = time.process_time()
    for _ in range(20):
        tally.figures(counts)
    assert (time.process_time() - start) / 20 < 0.05
