"""Do intervals hold as often as they say, and do they never claim to know too much?"""

from __future__ import annotations

import math
import random
from statistics import mean

import numpy as np
import pytest

from robollm.core.errors import ConfigError, EvalError
from robollm.metrics.bootstrap import Interval, independent, intervals, paired
from robollm.metrics.tally import worth


class Values:
    """One number per unit; `mean` of all, `half` of those of even index, `true` if 0 or 1."""

    def __init__(self, values, units=None, *, shares=()):
        self.values = np.asarray(values, float)
        self._units = tuple(units or (f"u{i}" for i in range(len(self.values))))
        self._shares = shares

    @property
    def units(self):
        return self._units

    def figures(self, counts=None):
        counts = np.ones(len(self.values), np.int64) if counts is None else counts
        some = counts * (np.arange(len(counts)) % 2 == 0)
        return {
            "mean": float(counts @ self.values / counts.sum()) if counts.sum() else math.nan,
            "half": float(some @ self.values / some.sum()) if some.sum() else math.nan,
        }

    def share(self, name):
        used = np.ones(len(self.values)) if name == "mean" else np.arange(len(self.values)) % 2 == 0
        return (self.values * used, used.astype(float)) if name in self._shares else None


class Grouped(Values):
    """A share of cases of which each unit has several."""

    def __init__(self, hits, cases):
        super().__init__(hits)
        self.cases = np.asarray(cases, float)

    def figures(self, counts=None):
        counts = np.ones(len(self.values), np.int64) if counts is None else counts
        return {"share": float(counts @ self.values / (counts @ self.cases))}

    def share(self, name):
        return self.values, self.cases


def test_limits_are_those_of_a_plain_loop_over_lists():
    values = np.random.default_rng(3).normal(size=31)
    rng, drawn = np.random.default_rng(9), []
    for _ in range(300):
        picked = [values[i] for i in rng.integers(31, size=31)]
        drawn.append(sum(picked) / len(picked))
    drawn.sort()

    def percentile(q):  # linear between the two nearest
        at = q * (len(drawn) - 1)
        low = int(at)
        return drawn[low] + (at - low) * (drawn[low + 1] - drawn[low])

    got = intervals(Values(values), draws=300, level=0.9, seed=9)["mean"]
    assert got.value == pytest.approx(mean(values.tolist()))
    assert (got.low, got.high) == pytest.approx((percentile(0.05), percentile(0.95)), abs=1e-12)
    assert got.cases == 31


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng: rng.normal(1.0, 1.0, 80), 1.0),
        (lambda rng: rng.exponential(1.0, 80), 1.0),
        (lambda rng: (rng.random(80) < 0.5).astype(float), 0.5),
        (lambda rng: (rng.random(80) < 0.98).astype(float), 0.98),
    ],
    ids=["normal", "skewed", "share", "share near 1"],
)
def test_limits_of_95_percent_hold_about_95_times_of_100(draw, truth):
    rng, held = np.random.default_rng(5), 0
    for seed in range(150):
        got = intervals(Values(draw(rng), shares=("mean",)), draws=150, seed=seed)["mean"]
        held += got.low <= truth <= got.high
    assert 0.9 <= held / 150 <= 1


@pytest.mark.parametrize("right", [0, 1])
def test_a_share_of_everything_or_nothing_is_not_certain(right):
    got = intervals(Values([right] * 30, shares=("mean",)))["mean"]
    limit = 0.025 ** (1 / 30)  # Clopper and Pearson by hand: p^30 = .025
    want = (limit, 1) if right else (0, 1 - limit)
    assert (got.low, got.high) == pytest.approx(want, abs=1e-9)
    assert (got.value, got.cases) == (right, 30)


class Rested(Values):
    """A figure from 0 to 1 that is no share, and rests on the first units."""

    def __init__(self, values, rests_on, other=0.0):
        super().__init__(values)
        self._rests, self._other = rests_on, other

    def figures(self, counts=None):
        whole = counts is None or (counts == 1).all()
        return {"ap": float(self.values.mean()) if whole else self._other}

    def share(self, name):
        return None, (np.arange(len(self.values)) < self._rests).astype(float)


def test_a_perfect_figure_that_is_no_share_is_no_more_certain_than_a_share():
    got = intervals(Rested([1.0] * 50, 30, 1.0), draws=50)["ap"]
    assert (got.value, got.high, got.cases) == (1, 1, 30)
    assert got.low == pytest.approx(0.025 ** (1 / 30), abs=1e-9)
    nothing = intervals(Rested([1.0] * 50, 0, 1.0), draws=50)["ap"]
    assert nothing == Interval(1.0, 1.0, 1.0, 0)
    assert intervals(Values([7.0] * 30))["mean"] == Interval(7.0, 7.0, 7.0, 30)


def test_limits_at_the_end_are_widened_never_narrowed():
    """Recall at an FPR may be 1, and fall to a half with one more stranger in a resample."""
    got = intervals(Rested([1.0] * 50, 30, 0.5), draws=50)["ap"]
    assert (got.low, got.high) == (0.5, 1)


def test_cases_of_one_unit_are_worth_less_than_as_many_units():
    assert worth(np.ones(30)) == 30
    assert worth(np.array([10.0, 0, 0])) == 1
    assert worth(np.zeros(3)) == 0
    assert worth(np.array([4.0, 4, 2])) == pytest.approx(100 / 36)
    alone, many = intervals(Grouped([10] * 3, [10] * 3)), intervals(Grouped([1] * 30, [1] * 30))
    assert alone["share"].low == pytest.approx(0.025 ** (1 / 3), abs=1e-9)
    assert alone["share"].cases == 3
    assert many["share"].low > 0.88


@pytest.mark.parametrize("units", [1, 2])
def test_of_one_or_two_units_nothing_is_said(units):
    got = intervals(Values([0.2, 0.4][:units]))["mean"]
    assert math.isnan(got.low)
    assert math.isnan(got.high)
    shares = intervals(Values([1.0, 0.0][:units], shares=("mean",)))["mean"]
    assert 0 < shares.low < 0.03  # but a share has its exact limits
    assert shares.high > 0.98


def test_draws_without_anything_to_count_are_left_out_and_too_few_say_nothing():
    both = intervals(Values([0.1, 0.9, 0.3, 0.8, 0.2, 0.4, 0.7]))
    assert 0.1 <= both["half"].low < both["half"].high <= 0.7
    two_of_three = intervals(Values([0.1, 0.9, 0.3]))  # 2 units: 1 draw of 27 has neither
    assert not math.isnan(two_of_three["half"].low)
    lone = intervals(Values([0.1, 0.9]))["half"]
    assert (lone.value, math.isnan(lone.low)) == (0.1, True)


class Alone(Values):
    """A figure of the first of many units."""

    def figures(self, counts=None):
        counted = counts is None or counts[0]
        return {"first": 0.4 if counted else math.nan, "none": math.nan}

    def share(self, name):
        return None


def test_a_figure_of_one_unit_among_many_has_no_limits_and_one_of_none_no_cases():
    got = intervals(Alone([0.0] * 50))
    assert got["first"].value == 0.4
    assert math.isnan(got["first"].low)
    assert math.isnan(got["none"].value)
    assert got["none"].cases == 0


def test_without_any_unit_every_figure_is_not_a_number():
    got = intervals(Values([]))["mean"]
    assert math.isnan(got.value)
    assert math.isnan(got.low)
    assert got.cases == 0


class Distance(Values):
    """Of the mean from 0: larger in resamples than where it is nothing."""

    def figures(self, counts=None):
        return {"far": abs(super().figures(counts)["mean"])}


def test_a_figure_that_resamples_only_raise_still_lies_between_its_limits():
    tally = Distance([-1.0, 1.0] * 20)
    assert min(tally.figures(np.eye(40, dtype=np.int64)[i])["far"] for i in range(40)) == 1
    got = intervals(tally, draws=50)["far"]
    assert got.low == got.value == 0 < got.high
    more = paired(Distance(np.ones(40)), tally, draws=50)["far"]
    assert more.low == more.delta == -1 < more.high


def test_the_same_seed_draws_the_same():
    tally = Values(np.random.default_rng(1).random(20))
    assert intervals(tally, draws=50, seed=4) == intervals(tally, draws=50, seed=4)
    assert intervals(tally, draws=50, seed=4) != intervals(tally, draws=50, seed=5)


@pytest.mark.parametrize(("draws", "level"), [(0, 0.95), (10, 0.0), (10, 1.0), (10, math.nan)])
def test_draws_and_level_must_make_sense(draws, level):
    for call in (lambda **k: intervals(Values([1]), **k),
                 lambda **k: paired(Values([1]), Values([1]), **k)):  # fmt: skip
        with pytest.raises(ConfigError, match="draws at level"):
            call(draws=draws, level=level)


def test_two_runs_that_say_the_same_do_not_differ():
    values = np.random.default_rng(2).random(25)
    got = paired(Values(values), Values(values), draws=99)["mean"]
    assert (got.delta, got.low, got.high, got.p) == (0, 0, 0, 1)


def test_sums_in_another_order_are_no_difference():
    values = np.random.default_rng(2).random(400) * 1e3
    names = [f"image {i}" for i in range(400)]
    got = paired(Values(values, names), Values(values[::-1], names[::-1]), draws=50)["mean"]
    assert abs(got.delta) < 1e-12
    assert got.p == 1


def test_a_gain_of_every_unit_is_certain_but_never_of_p_0():
    values = np.random.default_rng(2).random(25)
    got = paired(Values(values), Values(values + 0.01), draws=99)["mean"]
    assert (got.delta, got.low, got.high) == pytest.approx((0.01, 0.01, 0.01))
    assert got.b == pytest.approx(got.a + 0.01)
    assert got.p == pytest.approx(1 / 100)
    back = paired(Values(values + 0.01), Values(values), draws=99)["mean"]
    assert (back.delta, back.p) == pytest.approx((-0.01, 1 / 100))


def test_pairs_see_what_two_intervals_can_not():
    rng = np.random.default_rng(6)
    easy = rng.normal(0, 5, 60)  # units differ more than the runs
    a, b = Values(easy), Values(easy + rng.normal(0.5, 0.5, 60))
    got, apart = paired(a, b)["mean"], intervals(a)["mean"]
    assert got.low > 0
    assert apart.low < got.b < apart.high


def test_p_and_its_interval_agree_with_a_plain_loop():
    rng = np.random.default_rng(7)
    x, y = rng.normal(0, 1, 20), rng.normal(0.3, 1, 20)
    draw, deltas = np.random.default_rng(0), []
    for _ in range(400):
        rows = draw.integers(20, size=20)
        deltas.append(y[rows].mean() - x[rows].mean())
    below, above = sum(d <= 0 for d in deltas), sum(d >= 0 for d in deltas)
    got = paired(Values(x), Values(y), draws=400)["mean"]
    assert got.p == pytest.approx((2 * min(below, above) + 1) / 401)
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(deltas, [0.025, 0.975])))


def lost(of, cases=1, seed=0, **beside):
    """Two runs over 200 units: the second loses units that the first has right."""
    a = Grouped([cases] * 200, [cases] * 200)
    b = Grouped([0] * of + [cases] * (200 - of), [cases] * 200)
    return paired(a, b, draws=1000, seed=seed, **beside)["share"]


@pytest.mark.parametrize("units", [2, 4, 6, 9])
def test_few_units_that_differ_say_no_more_than_the_sign_test(units):
    exact = 2 * 0.5**units  # McNemar's: all of them for the worse
    for cases in (1, 3):  # cases of one unit are no more evidence
        assert lost(units, cases).p == pytest.approx(exact, abs=3 * math.sqrt(exact / 1000) + 1e-3)
    four = lost(4)
    assert (four.delta, four.high) == (pytest.approx(-0.02), 0)  # so the limits hold 0
    assert lost(9).high < 0


def test_units_of_many_cases_weigh_more_than_those_of_few():
    """Nine units lose one of one case, one unit gains nine of nine: even."""
    sizes = [1] * 9 + [9] + [1] * 30
    a = Grouped([1] * 9 + [0] + [1] * 30, sizes)
    b = Grouped([0] * 9 + [9] + [1] * 30, sizes)
    got = paired(a, b, draws=300)["share"]
    assert (got.delta, got.p) == (0, 1)


def test_of_a_precision_what_both_called_alike_is_no_difference():
    """The second run calls three more units, wrongly: 3 differ, however many are called."""
    a = Grouped([1] * 100 + [0] * 100, [1] * 100 + [0] * 100)
    b = Grouped([1] * 100 + [0] * 100, [1] * 103 + [0] * 97)
    got = paired(a, b)["share"]
    assert got.delta == pytest.approx(100 / 103 - 1)
    assert got.p == pytest.approx(0.25, abs=0.05)


def test_a_margin_beside_a_share_is_dealt_out_over_its_cases():
    class Better(Grouped):
        def figures(self, counts=None):
            return {"share": super().figures(counts)["share"] + 0.1}

    a, hits = Grouped([1] * 200, [1] * 200), [0] * 60 + [1] * 140
    got = paired(a, Better(hits, [1] * 200))["share"]
    assert got.delta == pytest.approx(-0.2)
    assert got.p < 0.01
    even = paired(a, Better([0] * 20 + [1] * 180, [1] * 200))["share"]
    assert even.delta == pytest.approx(0)
    assert even.p == 1


@pytest.mark.parametrize("units", [3, 5, 8])
def test_what_is_no_share_is_no_surer_than_its_units_allow(units):
    values = np.arange(30) / 30
    a, b = Rested(values, units, 0.4), Rested(values / 2, units, 0.2)
    assert paired(a, b, draws=99)["ap"].p == pytest.approx(max(0.01, 2 * 0.5**units))


def test_runs_that_are_alike_are_called_different_seldom():
    rng, called = np.random.default_rng(8), 0
    for seed in range(100):
        x = (rng.random(100) < 0.9).astype(float)
        y = np.where(rng.random(100) < 0.1, rng.random(100) < 0.9, x).astype(float)
        called += paired(Values(x), Values(y), draws=150, seed=seed)["mean"].p <= 0.05
    assert called / 100 <= 0.08


def test_units_are_paired_by_name_whatever_their_order():
    values = np.random.default_rng(2).random(25)
    names = [f"image {i}" for i in range(25)]
    order = random.Random(0).sample(range(25), 25)
    mixed = Values(values[order] + 0.01, [names[i] for i in order])
    got = paired(Values(values, names), mixed, draws=50)["mean"]
    assert got.low == pytest.approx(0.01)
    assert got.high == pytest.approx(0.01)


def test_runs_over_other_samples_are_not_compared_and_some_are_named():
    a, b = Values(range(9), list("abcdefghi")), Values([1, 2], ["i", "z"])
    wanted = r"8 only in the first \(a, b, c, d, e, \.\.\.\), 1 only in the second \(z\)"
    with pytest.raises(EvalError, match=wanted):
        paired(a, b)
    with pytest.raises(EvalError, match="0 only in the first, 1 only in the second"):
        paired(Values([1], ["i"]), b)


def test_only_figures_of_both_are_compared_and_too_few_units_tell_nothing():
    class More(Values):
        def figures(self, counts=None):
            return super().figures(counts) | {"more": 1.0}

    got = paired(More([1.0, 2.0]), Values([2.0, 3.0]))
    assert list(got) == ["mean", "half"]
    assert (got["mean"].delta, got["mean"].p) == (1, 1)
    assert math.isnan(got["mean"].low)


def test_two_sets_differ_by_the_percentiles_of_a_plain_loop():
    a, b = np.random.default_rng(1).normal(size=20), np.random.default_rng(2).normal(1, 1, size=30)
    drawn = []
    first, second = np.random.default_rng(5), np.random.default_rng(6)
    for _ in range(200):
        drawn.append(b[second.integers(30, size=30)].mean() - a[first.integers(20, size=20)].mean())
    got = independent(Values(a), Values(b), draws=200, seed=5)["mean"]
    assert got.delta == pytest.approx(b.mean() - a.mean())
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    assert got.p == pytest.approx((2 * min(sum(d <= 0 for d in drawn), 100) + 1) / 201)


def test_limits_of_a_difference_of_two_sets_hold_about_95_times_of_100():
    rng, held = np.random.default_rng(8), 0
    for _ in range(200):
        a, b = (rng.random(60) < 0.8).astype(float), (rng.random(90) < 0.6).astype(float)
        one = independent(Values(a), Values(b), draws=100, seed=int(rng.integers(10**6)))["mean"]
        held += one.low <= -0.2 <= one.high
    assert 180 <= held <= 199


def test_two_perfect_sets_may_differ_by_what_their_own_limits_leave_open():
    one, two = Values(np.ones(30), shares=("mean",)), Values(np.ones(10), shares=("mean",))
    got = independent(one, two, draws=50)["mean"]
    assert got.delta == 0
    assert got.low == pytest.approx(0.025 ** (1 / 10) - 1)  # of 10 of 10
    assert got.high == pytest.approx(1 - 0.025 ** (1 / 30))
    few = independent(Values([1.0, 0.4]), Values(np.linspace(0, 1, 9)), draws=50)["mean"]
    assert math.isnan(few.low)
    assert few.p == 1
