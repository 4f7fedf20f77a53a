from __future__ import annotations

import numpy as np
import pytest

from robollm.core.calibration import (
    Mixture,
    Sight,
    fit_elsewhere,
    fit_inside,
    leaders_elsewhere,
    leaders_inside,
    newton,
)
from robollm.core.decide import (
    AMBIGUOUS,
    IDENTIFIED,
    NOT_IN_MANIFEST,
    ElsewherePolicy,
    IdentificationPolicy,
    Match,
)
from robollm.core.errors import CalibrationError
from robollm.core.open_set import KINDS, Seen, answer, came_true, halves, report
from robollm.core.rates import open_set_curve
from robollm.core.reliability import reliability

MIX = Mixture(strangers=0.2, foreign=0.5)


def picks(rng, n, *, right=0.7, spread=0.1, inside=6, outside=20):
    """Drawn picks: wrong products around .4."""
    out = []
    for i in range(n):
        names = [f"P{i % (n // 2)}", *(f"W{j}" for j in range(inside))]
        cosines = np.clip([rng.normal(right, spread), *rng.normal(0.4, 0.1, inside)], -1, 1)
        far = np.clip(rng.normal(0.4, 0.1, outside), -1, 1)
        matches = [Match(p, float(c)) for p, c in zip(names, cosines, strict=True)]
        rest = [Match(f"F{j}", float(c)) for j, c in enumerate(far)]
        order = [sorted(m, key=lambda m: -m.similarity) for m in (matches, rest)]
        out.append(Seen(names[0], tuple(order[0]), tuple(order[1])))
    return out


def drawn_from(rng, n, theta, columns):
    """Cases whose truth is drawn from the softmax itself."""
    x = np.zeros((n, columns, len(theta)))
    x[..., 0] = rng.uniform(-0.2, 0.9, (n, columns))
    x[:, 0] = 0
    x[:, 0, 1] = 1
    if len(theta) == 3:
        x[:, columns // 2 :, 2] = -1
    logits = x @ theta
    truth = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return x, np.ones(x.shape[:2], bool), truth


@pytest.mark.parametrize(
    ("t", "unknown_at", "handicap"), [(0.1, 0.5, None), (0.03, 0.8, None), (0.08, 0.5, 0.2)]
)
def test_numbers_that_made_the_data_are_found_again(t, unknown_at, handicap):
    theta = [1 / t, unknown_at / t] + ([] if handicap is None else [handicap / t])
    x, there, truth = drawn_from(np.random.default_rng(2), 20_000, np.array(theta), 8)
    found, _, steps = newton(x, there, truth, np.ones(len(x)))
    assert 1 / found[0] == pytest.approx(t, rel=0.05)
    assert found[1:] / found[0] == pytest.approx(np.array(theta[1:]) * t, abs=0.02)
    assert steps < 20


def test_the_fit_is_the_lowest_point_of_the_loss():
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(5)
    x, there, truth = drawn_from(rng, 300, np.array([9.0, 4.0]), 5)
    there[:, 3] = rng.random(300) < 0.7
    truth = np.where(there[np.arange(300), truth], truth, 0)
    weights = rng.uniform(0.1, 2, 300)
    soft = 1 / 302

    def loss(theta):
        total = 0.0
        for i in range(300):
            logits = x[i, there[i]] @ theta
            logs = logits - np.log(np.exp(logits).sum())
            target = np.full(len(logs), soft / (len(logs) - 1))
            target[np.flatnonzero(np.flatnonzero(there[i]) == truth[i])[0]] = 1 - soft
            total -= weights[i] * target @ logs
        return total / weights.sum()

    want = optimize.minimize(loss, [10.0, 5.0], method="Nelder-Mead",
                             options={"xatol": 1e-7, "fatol": 1e-12}).x  # fmt: skip
    assert newton(x, there, truth, weights)[0] == pytest.approx(want, rel=1e-4)


def test_cosines_that_part_known_from_strangers_without_error_have_a_fit_all_the_same():
    sights = [Sight(str(i), 0.9, np.array([0.2]), np.array([0.1])) for i in range(40)]
    fit = fit_inside(sights, MIX)
    assert 0.2 < fit.unknown_at < 0.9
    assert 0 < fit.temperature < 0.2
    far = fit_elsewhere(sights, MIX)
    assert 0 < far.temperature < 0.3


def test_cosines_that_tell_nothing_are_refused():
    rng = np.random.default_rng(1)
    sights = [Sight(str(i), -0.5, rng.uniform(0.4, 0.9, 4), np.zeros(0)) for i in range(40)]
    with pytest.raises(CalibrationError, match="hardly higher"):
        fit_inside(sights, MIX)
    with pytest.raises(CalibrationError, match="no pick"):
        fit_inside([], MIX)


@pytest.mark.parametrize("shares", [(0, 0.5), (1, 0.5), (0.1, 0), (0.1, 1)])
def test_a_share_that_nobody_could_fit_is_refused(shares):
    with pytest.raises(CalibrationError, match="share of strangers"):
        Mixture(*shares)


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_are_judged_by_the_rules_that_the_node_obeys(seed):
    """Leaders and `decide` are two forms of one rule: the oracle of the vectorised one."""
    rng = np.random.default_rng(seed)
    seen = picks(rng, 120, right=0.55)
    sights = [s.sight() for s in seen]
    far = ElsewherePolicy(0.5, 0.03, 0.1, 0.45, 0.05)
    policy = IdentificationPolicy(0.5, 0.04, 0.1, unknown_at=0.45, elsewhere=far)
    known, strangers = leaders_inside(sights)
    foreign, strange = leaders_elsewhere(sights, handicap=0.05, unknown_at=0.45)
    near = {"known": known.answered(0.5, 0.04), "strange": strangers.answered(0.5, 0.04)}
    away = {"foreign": foreign.answered(0.5, 0.03), "strange": strange.answered(0.5, 0.03)}
    fails = strangers.best <= 0.5
    for i, s in enumerate(seen):
        for kind, named in near.items():
            assert (answer(s, kind, policy).decision == IDENTIFIED) == named[i]
        first = answer(s, "known", policy).ranked[0][0]
        assert not near["known"][i] or (first == s.truth) == known.right[i]
        for kind, named in away.items():
            got = answer(s, kind, policy)
            assert (got.decision == NOT_IN_MANIFEST) == (named[i] and fails[i])
            if got.decision == NOT_IN_MANIFEST and kind == "foreign":
                assert (got.ranked[1][0] == s.truth) == foreign.right[i]


def test_a_product_is_never_mistaken_more_often_than_a_stranger_is_named():
    """Why one rate is enough: a wrong product that wins against the truth wins without it."""
    seen = picks(np.random.default_rng(3), 300, right=0.5)
    known, strangers = leaders_inside([s.sight() for s in seen])
    for accept, margin in [(0.3, 0.0), (0.5, 0.02), (0.6, 0.1)]:
        mistaken = known.answered(accept, margin) & ~known.right
        assert (strangers.answered(accept, margin) | ~mistaken).all()


def test_fitted_probabilities_hold_and_the_default_ones_do_not():
    rng = np.random.default_rng(4)
    seen = picks(rng, 1200, right=0.6)
    some, others = halves(seen, seed=0)
    fit = fit_inside([s.sight() for s in some], MIX)
    fitted = IdentificationPolicy(fit.unknown_at, 0.0, fit.temperature, unknown_at=fit.unknown_at)
    good = report(others, fitted, MIX, confidence=0.95)
    bad = report(others, IdentificationPolicy(0.6, 0.0, 1.0), MIX, confidence=0.95)
    assert good["reliability"]["ece"] < 2 * good["reliability"]["floor"] + 0.02
    assert bad["reliability"]["ece"] > 0.2


def test_halves_share_no_product_and_are_of_about_one_size():
    seen = picks(np.random.default_rng(0), 100)
    one, other = halves(seen, seed=7)
    assert not {s.truth for s in one} & {s.truth for s in other}
    assert len(one) + len(other) == 100
    assert abs(len(one) - len(other)) <= 4
    assert halves(seen, seed=7)[0] == one
    assert halves(seen, seed=8)[0] != one


def test_a_report_counts_every_pick_as_each_kind():
    seen = picks(np.random.default_rng(0), 100)
    far = ElsewherePolicy(0.55, 0.05, 0.05, 0.5, 0.05)
    policy = IdentificationPolicy(0.55, 0.05, 0.05, unknown_at=0.5, elsewhere=far)
    told = report(seen, policy, MIX, confidence=0.95)
    assert set(told["outcomes"]) == set(KINDS)
    assert all(sum(counts.values()) == 100 for counts in told["outcomes"].values())
    false = sum(answer(s, "strange", policy).decision == IDENTIFIED for s in seen)
    assert told["false_accept"]["hits"] == false
    assert told["false_accept"]["independent"] == pytest.approx(50)
    right = sum(came_true(answer(s, "foreign", policy), s.truth, "foreign") for s in seen)
    assert right >= told["found_foreign"] * 100 > 0


def test_a_report_and_its_curve_mean_the_same_by_false_reject():
    seen = picks(np.random.default_rng(0), 100, right=0.5)
    told = report(seen, IdentificationPolicy(0.4, 0.0, 0.05), MIX, confidence=0.95)
    known, strangers = leaders_inside([s.sight() for s in seen])
    groups = [s.truth for s in seen]
    point = min(
        open_set_curve(known, strangers, 0.0, groups, 0.95), key=lambda p: abs(p["accept"] - 0.4)
    )
    assert told["wrong_product"]["share"] > 0
    assert told["false_reject"] == pytest.approx(point["false_reject"], abs=0.02)


def test_a_doubt_comes_true_if_the_truth_is_among_what_it_left_open():
    a, b, c = Match("a", 0.9), Match("b", 0.89), Match("c", 0.1)
    policy = IdentificationPolicy(0.5, 0.05, 0.1)
    torn = answer(Seen("a", (a, b, c), ()), "known", policy)
    assert torn.decision == AMBIGUOUS
    assert came_true(torn, "a", "known")
    assert came_true(torn, "b", "known")
    assert not came_true(torn, "c", "known")
    assert not came_true(torn, "x", "strange")


# Reliability.


def test_perfect_probabilities_are_as_far_off_as_the_noise_and_bad_ones_further():
    rng = np.random.default_rng(0)
    said = rng.uniform(0, 1, 4000)
    right, ones = rng.random(4000) < said, np.ones(4000)
    groups = [str(i) for i in range(4000)]
    good = reliability(said, right, ones, groups)
    assert good.ece == pytest.approx(good.floor, abs=0.01)
    assert sum(b.share for b in good.bins) == pytest.approx(1)
    assert [b.share for b in good.bins] == pytest.approx([0.1] * 10, abs=0.01)
    inside = sum(b.low <= b.said <= b.high for b in good.bins)
    assert inside >= 8
    bad = reliability(said**3, right, ones, groups)
    assert bad.ece > bad.floor + 0.1


def test_equal_probabilities_stay_in_one_bin_whatever_their_order():
    said = np.array([0.5] * 50 + [1.0] * 50)
    right = np.array([True, False] * 25 + [True] * 50)
    order = np.argsort(~right, kind="stable")
    groups = [str(i) for i in range(100)]
    one = reliability(said, right, np.ones(100), groups)
    other = reliability(said[order], right[order], np.ones(100), groups)
    assert len(one.bins) == 2
    assert one.ece == other.ece == 0


def test_weights_count_as_copies():
    rng = np.random.default_rng(1)
    said, right = rng.uniform(0, 1, 60), rng.random(60) < 0.5
    weights = rng.integers(1, 4, 60)
    groups = [str(i) for i in range(60)]
    many = np.repeat(np.arange(60), weights)
    one = reliability(said, right, weights.astype(float), groups, bins=5)
    copies = reliability(
        said[many], right[many], np.ones(len(many)), [groups[i] for i in many], bins=5
    )
    assert one.ece == pytest.approx(copies.ece)
    for b, c in zip(one.bins, copies.bins, strict=True):
        assert (b.said, b.true, b.low, b.high) == pytest.approx((c.said, c.true, c.low, c.high))
