"""Rates and curves of one class against the rest: hand counts, slow loops, scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as oracle

from robollm.metrics.curves import Ranking, rates, thinned


def by_thresholds(scores, true, fpr):
    """The best recall of all thresholds, each tried by itself."""
    best = 0.0
    for threshold in sorted(set(scores)):
        found = rates([s >= threshold for s in scores], true)
        if found.fpr <= fpr:
            best = max(best, found.recall)
    return best


@pytest.mark.parametrize("seed", range(6))
def test_recall_at_an_fpr_equals_trying_every_threshold(seed):
    scores, true, _ = drawn(seed)
    for fpr in (0.0, 0.01, 0.05, 0.3, 1.0):
        want = by_thresholds(scores, true, fpr)
        assert Ranking(scores, true).recall_at(fpr) == pytest.approx(want)


def test_scores_that_are_all_equal_tell_nothing():
    equal = Ranking([0.5] * 4, [True, False, True, False])
    assert (equal.auc(), equal.recall_at(0.05)) == (0.5, 0)


def test_rates_are_those_counted_by_hand_and_nan_where_there_is_nothing():
    said, true = [1, 1, 0, 0, 1], [1, 0, 1, 0, 1]
    assert rates(said, true) == pytest.approx((2 / 3, 2 / 3, 1 / 2))
    assert rates(said, true, [2, 0, 1, 1, 0]) == pytest.approx((1, 2 / 3, 0))
    assert np.isnan(rates([0, 0], [0, 0])[:2]).all()
    assert np.isnan(rates([1, 1], [1, 1]).fpr)


def drawn(seed, n=80):
    """Scores with ties, labels, and how often each case was drawn."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8 + 200 * (seed % 2), n) / 8
    return scores, rng.random(n) < 0.4, rng.integers(0, 4, n)


@pytest.mark.parametrize("seed", range(4))
def test_curves_equal_those_of_scikit_learn(seed):
    scores, true, _ = drawn(seed)
    ranking = Ranking(scores, true)
    fpr, recall, _ = oracle.roc_curve(true, scores, drop_intermediate=False)
    np.testing.assert_allclose(ranking.roc(), (fpr, recall), atol=1e-12)
    assert ranking.auc() == pytest.approx(oracle.roc_auc_score(true, scores), abs=1e-12)
    want = oracle.average_precision_score(true, scores)
    assert ranking.average_precision() == pytest.approx(want, abs=1e-12)
    precision, recall, _ = oracle.precision_recall_curve(true, scores)
    np.testing.assert_allclose(
        ranking.precision_recall(), (recall[-2::-1], precision[-2::-1]), atol=1e-12
    )
    assert rates(scores > 0.5, true).precision == oracle.precision_score(true, scores > 0.5)
    assert rates(scores > 0.5, true).recall == oracle.recall_score(true, scores > 0.5)


@pytest.mark.parametrize("seed", range(4))
def test_a_case_of_weight_three_counts_like_three_cases(seed):
    scores, true, times = drawn(seed)
    weights = times.astype(float)
    ranking, repeated = Ranking(scores, true), Ranking(scores.repeat(times), true.repeat(times))
    assert ranking.auc(weights) == pytest.approx(repeated.auc(), abs=1e-12)
    assert ranking.average_precision(weights) == pytest.approx(
        repeated.average_precision(), abs=1e-12
    )
    for fpr in (0.01, 0.1, 0.5):
        assert ranking.recall_at(fpr, weights) == repeated.recall_at(fpr)
    np.testing.assert_allclose(
        rates(scores > 0.5, true, weights), rates(*(x.repeat(times) for x in (scores > 0.5, true)))
    )


@pytest.mark.parametrize("n", [3, 7, 49, 1001])
def test_a_perfect_score_has_exactly_one_in_every_resample(n):
    rng = np.random.default_rng(n)
    true = rng.random(n) < 0.5
    true[:2] = True, False
    ranking = Ranking(true + rng.random(n) / 2, true)
    weights = rng.integers(1, 9, n).astype(float)
    for each in (None, weights):
        assert ranking.auc(each) == ranking.average_precision(each) == 1
        assert ranking.recall_at(0.01, each) == 1


def test_what_nothing_was_said_about_is_never_found():
    scores, true = [0.9, -np.inf, 0.2, -np.inf], [True, True, False, False]
    ranking = Ranking(scores, true)
    assert ranking.average_precision() == 0.5
    assert ranking.recall_at(0.9) == 0.5
    recall, precision = ranking.precision_recall()
    assert (recall.tolist(), precision.tolist()) == ([0.5, 0.5], [1, 0.5])
    # Pairs: .9 before both, the other one behind .2 and level with the last.
    assert ranking.auc() == pytest.approx((1 + 1 + 0 + 0.5) / 4)


def test_without_cases_or_without_one_side_there_is_no_figure():
    for scores, true in (([], []), ([1.0, 2.0], [False, False])):
        ranking = Ranking(scores, true)
        assert np.isnan([ranking.auc(), ranking.average_precision(), ranking.recall_at(0.1)]).all()
    assert np.isnan(Ranking([1.0, 2.0], [True, True]).recall_at(0.1))
    none = Ranking([1.0, 2.0], [True, False])
    assert np.isnan(none.auc(np.zeros(2)))


def area(x, y):
    return np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)


def test_a_thinned_curve_keeps_its_corners_its_ends_and_its_area():
    rng = np.random.default_rng(0)
    true = rng.random(3000) < 0.5
    fpr, recall = Ranking(rng.random(3000) + 0.5 * true, true).roc()
    x, y = thinned(fpr, recall, most=10**6)
    assert len(x) < len(fpr)
    assert area(x, y) == pytest.approx(area(fpr, recall), abs=1e-12)
    x, y = thinned(fpr, recall, most=100)
    assert len(x) <= 100
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert area(x, y) == pytest.approx(area(fpr, recall), abs=0.01)
    points = set(zip(fpr, recall, strict=True))
    assert {*zip(x, y, strict=True)} <= points
