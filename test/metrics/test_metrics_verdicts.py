"""Verdicts of inducts at thresholds: hand counts, and every induct by the nodes' own rule."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from robollm.core.defects import ViewEvidence, fuse
from robollm.core.errors import EvalError
from robollm.data.armbench_defects import LABELS
from robollm.metrics.defects import DefectImage
from robollm.metrics.verdicts import VerdictTally

LIMITS = {"multi_pick": 0.3, "package_defect": 0.6}


def image(induct, label, *probabilities):
    said = dict(zip(LABELS, probabilities, strict=True)) if probabilities else None
    return DefectImage(induct, (label,), said)


def test_an_induct_has_one_verdict_at_the_thresholds_not_by_what_is_most_probable():
    found = VerdictTally(
        [
            image("a", "nominal", 0.1, 0.8, 0.1),
            image("a", "multi_pick", 0.35, 0.6, 0.05),  # above .3, though nominal is more probable
            image("b", "package_defect", 0.1, 0.4, 0.5),  # below .6: missed
            image("c", "nominal", 0.4, 0.5, 0.1),  # false alarm
            image("d", "nominal", 0.2, 0.3, 0.5),  # passes
            image("e", "package_defect"),  # not judged: missed, and no negative of multi_pick
        ],
        LIMITS,
    ).figures()
    assert found == pytest.approx(
        {
            "verdict_multi_pick_precision": 1 / 2, "verdict_multi_pick_recall": 1,
            "verdict_multi_pick_fpr": 1 / 3, "verdict_package_defect_precision": np.nan,
            "verdict_package_defect_recall": 0, "verdict_package_defect_fpr": 0,
            "verdict_combined_precision": 1 / 2, "verdict_combined_recall": 1 / 3,
            "verdict_combined_fpr": 1 / 2,
            # published: a .536, c .571 (false), d .333 (false); b's .167 is no multi-pick
            "verdict_multi_pick_auc": 2 / 3, "verdict_multi_pick_recall@fpr0.01": 0,
            "verdict_multi_pick_recall@fpr0.05": 0,
            # b .417, e nothing, against a .083, c .083, d .417
            "verdict_package_defect_auc": 2.5 / 6, "verdict_package_defect_recall@fpr0.01": 0,
            "verdict_package_defect_recall@fpr0.05": 0,
            # a .536, b .417, e nothing, against c .571, d .417
            "verdict_combined_auc": 1.5 / 6, "verdict_combined_recall@fpr0.01": 0,
            "verdict_combined_recall@fpr0.05": 0,
        },
        nan_ok=True,
    )  # fmt: skip


def drawn(seed, n=120):
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(n):
        label = LABELS[rng.integers(3)]
        odds = rng.integers(1, 9, 3) + 4 * (np.array(LABELS) == label)
        images.append(image(f"i{rng.integers(n // 3)}", label, *(odds / odds.sum())))
    return images


@pytest.mark.parametrize("seed", range(3))
def test_recall_and_fpr_equal_a_loop_over_inducts_also_in_resamples(seed):
    images = drawn(seed)
    tally = VerdictTally(images, LIMITS)
    counts = np.random.default_rng(seed).integers(0, 3, len(tally.units))
    found = tally.figures(counts)
    for defect in LIMITS:
        cases, hits = {True: 0, False: 0}, {True: 0, False: 0}
        for name, times in zip(tally.units, counts.tolist(), strict=True):
            mine = [i for i in images if i.induct == name]
            is_so = any(i.labels == (defect,) for i in mine)
            said = fuse([ViewEvidence("", i.probabilities) for i in mine], LIMITS).decision
            cases[is_so] += times
            hits[is_so] += times * (said == defect)
        assert found[f"verdict_{defect}_recall"] == pytest.approx(hits[True] / cases[True])
        assert found[f"verdict_{defect}_fpr"] == pytest.approx(hits[False] / cases[False])
    hits, cases = tally.share("verdict_combined_recall")
    assert tally.figures()["verdict_combined_recall"] == hits.sum() / cases.sum()


def test_without_images_there_is_nothing_to_count():
    with pytest.raises(EvalError, match="no image"):
        VerdictTally([], LIMITS)


def test_views_that_are_joined_by_their_mean_outvote_one_of_them():
    images = [
        image("a", "nominal", 0.9, 0.05, 0.05),
        image("a", "nominal", 0.1, 0.85, 0.05),
        image("a", "nominal", 0.1, 0.85, 0.05),
        image("b", "multi_pick", 0.5, 0.45, 0.05),
        image("b", "multi_pick", 0.5, 0.45, 0.05),
    ]
    largest = VerdictTally(images, {"multi_pick": 0.4, "package_defect": 0.6}).figures()
    mean = VerdictTally(
        images, {"multi_pick": 0.4, "package_defect": 0.6}, {"multi_pick": "mean"}
    ).figures()
    assert (largest["verdict_multi_pick_recall"], largest["verdict_multi_pick_fpr"]) == (1, 1)
    assert (mean["verdict_multi_pick_recall"], mean["verdict_multi_pick_fpr"]) == (1, 0)
    assert (largest["verdict_multi_pick_auc"], mean["verdict_multi_pick_auc"]) == (0, 1)


@pytest.mark.parametrize("seed", range(3))
def test_areas_and_recalls_are_those_of_the_scores_that_verdicts_publish(seed):
    images, ways = drawn(seed), {"package_defect": "mean"}
    tally = VerdictTally(images, LIMITS, ways)
    found = tally.figures()
    for defect in LIMITS:
        scores, true = [], []
        for name in tally.units:
            mine = [i for i in images if i.induct == name]
            verdict = fuse([ViewEvidence("", i.probabilities) for i in mine], LIMITS, ways=ways)
            scores.append(dict(verdict.ranked)[defect])
            true.append(any(i.labels == (defect,) for i in mine))
        assert found[f"verdict_{defect}_auc"] == pytest.approx(roc_auc_score(true, scores))
        hits, cases = tally.share(f"verdict_{defect}_auc")
        assert hits is None
        assert cases.sum() == min(sum(true), len(true) - sum(true))
