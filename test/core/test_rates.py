from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robollm.core.errors import CalibrationError
from robollm.core.rates import (
    CURVE_POINTS,
    MARGINS,
    Leaders,
    Rate,
    at_least,
    at_most,
    beta_cdf,
    cases_wanted,
    independent,
    open_set_curve,
    thresholds_for,
)

shape = st.floats(0.5, 2000)


@given(x=st.floats(0, 1), a=shape, b=shape)
def test_the_beta_distribution_is_scipys(x, a, b):
    stats = pytest.importorskip("scipy.stats")
    assert beta_cdf(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), abs=1e-9)


@given(st.data())
def test_limits_are_those_of_clopper_and_pearson_in_scipy(data):
    stats = pytest.importorskip("scipy.stats")
    cases = data.draw(st.integers(1, 3000))
    hits = data.draw(st.integers(0, cases))
    confidence = data.draw(st.sampled_from([0.5, 0.9, 0.95, 0.99]))
    level = 2 * confidence - 1
    want = stats.binomtest(hits, cases).proportion_ci(level, "exact") if level > 0 else None
    if want is None:
        want = type("Median", (), {"low": stats.beta.ppf(0.5, hits, cases - hits + 1)
                                   if hits else 0.0,
                                   "high": stats.beta.ppf(0.5, hits + 1, cases - hits)
                                   if hits < cases else 1.0})  # fmt: skip
    assert at_most(hits, cases, confidence) == pytest.approx(want.high, abs=1e-9)
    assert at_least(hits, cases, confidence) == pytest.approx(want.low, abs=1e-9)


def test_fifty_strangers_without_a_false_answer_show_at_most_six_percent():
    assert at_most(0, 50, 0.95) == pytest.approx(0.0582, abs=1e-4)
    assert Rate.count(0, [str(i) for i in range(50)], 0.95).at_most == at_most(0, 50, 0.95)


def test_nothing_counted_is_nothing_known():
    none = Rate.count(0, [], 0.95)
    assert none.at_most == 1
    assert np.isnan(none.share)


@pytest.mark.parametrize("rate", [0.5, 0.06, 0.01, 0.001])
def test_so_many_cases_are_wanted_and_one_less_is_not_enough(rate):
    n = cases_wanted(rate, 0.95)
    assert at_most(0, n, 0.95) <= rate < at_most(0, n - 1, 0.95)


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60))
def test_picks_of_one_product_are_worth_one(groups):
    worth = independent(groups)
    assert 1 - 1e-9 <= worth <= len(set(groups)) + 1e-9
    if len({groups.count(g) for g in groups}) == 1:
        assert worth == pytest.approx(len(set(groups)))


def drawn(rng, n, right_at):
    best = rng.normal(right_at, 0.1, n).round(3)
    gap = np.where(rng.random(n) < 0.1, np.inf, rng.exponential(0.1, n)).round(3)
    return best, gap


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_are_the_best_of_all_that_keep_the_rate(seed):
    rng = np.random.default_rng(seed)
    known = Leaders(*drawn(rng, 60, 0.6), rng.random(60) < 0.8)
    strangers = Leaders(*drawn(rng, 60, 0.5), np.zeros(60, bool))
    groups = [f"P{i % 40}" for i in range(60)]
    rate, floor = 0.15, 0.3
    accept, margin = thresholds_for(known, strangers, groups, rate, confidence=0.95, floor=floor)

    def false(a, m):
        return Rate.count(int(strangers.answered(a, m).sum()), groups, 0.95).at_most

    def right(a, m):
        return int((known.answered(a, m) & known.right).sum())

    gaps = known.gap[np.isfinite(known.gap) & (known.gap > 0)]
    margins = [0.0, *np.quantile(gaps, np.linspace(0, 1, MARGINS), method="higher")]
    accepts = sorted({floor, *strangers.best[strangers.best > floor]})
    best = max(right(a, m) for m in margins for a in accepts if false(a, m) <= rate)
    assert false(accept, margin) <= rate
    assert accept >= floor
    assert right(accept, margin) == best


def test_leaders_that_share_the_lead_are_no_answer_at_any_margin():
    leaders = Leaders(np.array([0.9, 0.9]), np.array([0.0, 0.1]), np.ones(2, bool))
    assert leaders.answered(0.0, 0.0).tolist() == [False, True]


def test_the_promised_rate_holds_on_other_strangers():
    """In at least the promised share of worlds; thirty worlds of which the truth is known."""
    kept = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        known = Leaders(*drawn(rng, 400, 0.8), np.ones(400, bool))
        strangers = Leaders(*drawn(rng, 400, 0.5), np.zeros(400, bool))
        groups = [str(i) for i in range(400)]
        accept, margin = thresholds_for(known, strangers, groups, 0.02, confidence=0.95)
        others = Leaders(*drawn(rng, 20_000, 0.5), np.zeros(20_000, bool))
        kept += others.answered(accept, margin).mean() <= 0.02
    assert kept >= 27


def test_too_few_strangers_for_a_rate_are_refused_with_what_they_can_show():
    one = Leaders(np.full(50, 0.5), np.full(50, 0.1), np.ones(50, bool))
    with pytest.raises(CalibrationError, match=r"at most 0\.058, want 0\.01") as e:
        thresholds_for(one, one, [str(i) for i in range(50)], 0.01, confidence=0.95)
    assert "598 products or more, or ask for 0.059" in e.value.fix
    thresholds_for(one, one, [str(i) for i in range(50)], 0.059, confidence=0.95)
    with pytest.raises(CalibrationError, match="of 5 products, worth 5 independent ones"):
        thresholds_for(one, one, [str(i % 5) for i in range(50)], 0.059, confidence=0.95)


def test_the_curve_counts_what_each_accept_does():
    rng = np.random.default_rng(1)
    known = Leaders(*drawn(rng, 300, 0.6), rng.random(300) < 0.8)
    strangers = Leaders(*drawn(rng, 300, 0.5), np.zeros(300, bool))
    groups = [str(i) for i in range(300)]
    curve = open_set_curve(known, strangers, 0.01, groups, 0.95)
    assert len(curve) <= CURVE_POINTS
    for point in curve[::17]:
        answered = known.answered(point["accept"], 0.01)
        assert point["false_reject"] == pytest.approx(1 - answered.mean())
        assert point["wrong"] == pytest.approx((answered & ~known.right).mean())
        false = strangers.answered(point["accept"], 0.01).mean()
        assert point["false_accept"] == pytest.approx(false)
        assert point["false_accept_at_most"] >= false
    falls = [p["false_reject"] for p in curve]
    assert falls == sorted(falls, reverse=True)


def test_the_place_where_the_fraction_is_turned_round_ends():
    # Both x > (a + 1) / (a + b + 2) and 1 - x > (b + 1) / (a + b + 2), by rounding alone.
    x, a, b = 0.25, 1 / 3, 3.0
    found = beta_cdf(x, a, b)
    assert found == pytest.approx(1 - beta_cdf(1 - x, b, a), abs=1e-12)
    assert beta_cdf(x - 1e-6, a, b) < found < beta_cdf(x + 1e-6, a, b)
