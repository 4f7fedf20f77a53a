"""False accept against false reject: hand counts, every threshold by a slow loop, scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as oracle

from robollm.core.errors import EvalError
from robollm.metrics.open_set import OpenSetTally
from robollm.metrics.retrieval import Gallery, Query, rank_picks


def drawn(seed, n=150):
    """Cosines with ties, some picks without a truth or without any other product."""
    rng = np.random.default_rng(seed)
    right = rng.integers(0, 40 + 400 * (seed % 2), n) / 400 + 0.2
    wrong = rng.integers(0, 40 + 400 * (seed % 2), n) / 400
    right[rng.random(n) < 0.1] = -np.inf
    wrong[rng.random(n) < 0.1] = -np.inf
    return right, wrong, [f"p{i}" for i in rng.integers(0, 30, n)]


def by_thresholds(right, wrong, rate):
    """The least false reject of all thresholds that accept no more strangers than `rate`."""
    least = 1.0
    for t in {*right, *wrong, 2.0} - {-np.inf}:
        for threshold in (t, np.nextafter(t, -1)):  # above it, and from it on
            if np.mean(wrong > threshold) <= rate:
                least = min(least, np.mean((right <= threshold) | (wrong >= right)))
    return least


def test_the_figures_are_those_counted_by_hand():
    # Accepted above .5: all but the third (too low) and the fourth (another product is nearer).
    right, wrong = [0.9, 0.8, 0.4, 0.6], [0.5, 0.3, 0.2, 0.7]
    tally = OpenSetTally(right, wrong, ["a", "b", "c", "d"], suffix="_n1")
    assert tally.figures() == {
        # No stranger above .7, where .9 and .8 are left; one stranger is a quarter.
        "false_reject_at_fa0.01_n1": 0.5,
        "false_reject_at_fa0.05_n1": 0.5,
        "false_reject_at_fa0.1_n1": 0.5,
        # Best, known: .9 .8 .4 .7; strange: .5 .3 .2 .7. None of four known ones may be rejected.
        "unknown_rejected_at_fr0.05_n1": 0.5,
        "auroc_n1": (4 + 4 + 2 + 3.5) / 16,
    }
    hits, cases = tally.share("auroc_n1")
    assert (hits, cases.tolist()) == (None, [1, 1, 1, 1])


@pytest.mark.parametrize("seed", range(6))
def test_both_rates_equal_trying_every_threshold(seed):
    right, wrong, products = drawn(seed)
    found = OpenSetTally(right, wrong, products).figures()
    for rate in (0.01, 0.05, 0.1):
        want = by_thresholds(right, wrong, rate)
        assert found[f"false_reject_at_fa{rate:g}"] == pytest.approx(want, abs=1e-12)
    known = np.repeat([True, False], len(right))
    best = np.r_[np.maximum(right, wrong), wrong]
    want = oracle.roc_auc_score(known, np.where(np.isinf(best), -9, best))
    assert found["auroc"] == pytest.approx(want, abs=1e-12)
    asked = np.maximum(right, wrong)
    rejected = [
        np.mean(wrong < t) for t in {*asked, *wrong} - {-np.inf} if np.mean(asked < t) <= 0.05
    ]
    assert found["unknown_rejected_at_fr0.05"] == pytest.approx(max(rejected, default=0))


def test_unknown_ones_are_rejected_as_far_as_5_of_100_known_ones_may_be():
    def rejected(low):
        right = np.r_[np.full(low, 0.1), np.full(60 - low, 0.5), np.full(40, 0.5)]
        wrong = np.r_[np.full(low, 0.0), np.full(60 - low, 0.2), np.full(40, 0.9)]
        tally = OpenSetTally(right, wrong, [f"p{i}" for i in range(100)])
        return tally.figures()["unknown_rejected_at_fr0.05"]

    assert rejected(5) == pytest.approx(0.6)  # below .5: all but the 40 that reach .9
    assert rejected(6) == pytest.approx(0.06)  # a sixth known one of .1: only those below .1


def test_the_curve_goes_from_nothing_accepted_to_all_and_through_the_figures():
    right, wrong, products = drawn(1, n=300)
    tally = OpenSetTally(right, wrong, products)
    accept, reject = tally.curve()
    assert (accept[0], reject[0]) == (0, 1)
    assert accept[-1] == np.mean(np.isfinite(wrong))
    assert reject[-1] == pytest.approx(np.mean(wrong >= right))
    assert (np.diff(accept) >= 0).all()
    assert (np.diff(reject) <= 0).all()
    assert reject[accept <= 0.05].min() == pytest.approx(by_thresholds(right, wrong, 0.05))


def test_a_product_drawn_twice_counts_like_its_picks_twice():
    right, wrong, products = drawn(3)
    tally = OpenSetTally(right, wrong, products)
    counts = np.random.default_rng(0).integers(0, 3, len(tally.units))
    times = [counts[tally.units.index(p)] for p in products]
    repeated = OpenSetTally(right.repeat(times), wrong.repeat(times), np.repeat(products, times))
    assert tally.figures(counts) == pytest.approx(repeated.figures(), abs=1e-12)


def test_a_perfect_run_rejects_exactly_none_and_a_blind_one_nearly_all():
    n = 37
    perfect = OpenSetTally(np.ones(n), np.linspace(-1, 0.9, n), [f"p{i}" for i in range(n)])
    assert set(perfect.figures().values()) == {0.0, 1.0}
    assert perfect.figures()["auroc"] == 1
    rng = np.random.default_rng(0)
    best_of_nine = rng.random((2000, 9)).max(axis=1)
    blind = OpenSetTally(rng.random(2000), best_of_nine, [f"p{i}" for i in range(2000)]).figures()
    assert blind["false_reject_at_fa0.01"] > 0.95
    assert blind["auroc"] < 0.6


def test_picks_give_it_their_cosines_and_those_that_could_not_ask_are_rejected():
    vectors = {"a": [1, 0], "b": [0.6, 0.8]}
    pool = Gallery.of([(p, "1", np.array(v, np.float32)) for p, v in vectors.items()])
    asked = [
        Query("1", "a", ("a", "b"), {"n1": np.array([1, 0], np.float32)}),
        Query("2", "a", ("a",), {"n1": np.array([1, 0], np.float32)}),
        Query("3", "b", ("a", "b"), {}),
    ]
    picks = list(rank_picks(asked, pool, queries=("n1",)))
    tally = OpenSetTally.of(picks, "n1")
    assert tally.units == ("a", "b")
    # Known: 1, 1, nothing; strange: .6 and nothing. 1 beats both, nothing ties with nothing.
    assert tally.figures()["auroc"] == pytest.approx((2 + 2 + 0.5) / 6)
    assert tally.figures()["false_reject_at_fa0.01"] == pytest.approx(1 / 3)
    accept, reject = tally.curve()
    assert accept.tolist() == [0, 0, 0.5]
    assert reject.tolist() == pytest.approx([1, 1 / 3, 1 / 3])
    with pytest.raises(EvalError, match="0 picks"):
        OpenSetTally.of(picks, "n3")


def test_a_pick_that_fails_betters_no_figure_however_hard_it_was():
    easy = ([0.9] * 4, [0.1] * 4, ["a", "b", "c", "d"])
    # Each of the hard ones is led by another product: a false reject at every threshold.
    hard = ([0.4] * 4, [0.95] * 4, ["e", "f", "g", "h"])
    both = [x + y for x, y in zip(easy, hard, strict=True)]
    answered = OpenSetTally(*both).figures()
    failed = OpenSetTally(*easy, unasked=hard[2]).figures()
    # Strangers reach .95 four times in eight: nothing may be accepted at 1 %.
    assert answered["false_reject_at_fa0.01"] == 1
    # Known: .9 four times and nothing four times; strange: .1 four times.
    assert failed == {
        "false_reject_at_fa0.01": 0.5,
        "false_reject_at_fa0.05": 0.5,
        "false_reject_at_fa0.1": 0.5,
        "unknown_rejected_at_fr0.05": 0.0,  # no threshold keeps 95 % of the known ones
        "auroc": 16 / 32,
    }
    assert answered["auroc"] == (4 * 4 + 4 * (4 + 4 / 2)) / 64
    alone = OpenSetTally(*easy).figures()
    for name, value in failed.items():
        worse = value >= alone[name] if name.startswith("false") else value <= alone[name]
        assert worse, name


def test_the_side_with_fewer_cases_says_what_a_figure_rests_on():
    tally = OpenSetTally([0.9, 0.8], [0.1, 0.2], ["a", "b"], unasked=["b", "c"])
    assert tally.units == ("a", "b", "c")
    assert tally.share("auroc")[1].tolist() == [1, 1, 0]
    assert tally.share("unknown_rejected_at_fr0.05")[1].tolist() == [1, 1, 0]


def test_a_cosine_that_is_not_a_number_is_an_error():
    with pytest.raises(EvalError, match="2 picks, 1 with a cosine that is not a number"):
        OpenSetTally([0.5, np.nan], [0.1, 0.2], ["a", "b"])
