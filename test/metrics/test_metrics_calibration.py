"""Do scores hold: hand counts, scikit-learn, the diagram of `core.reliability`, resamples."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as oracle

from robollm.core.errors import EvalError
from robollm.core.reliability import reliability
from robollm.metrics.bootstrap import intervals
from robollm.metrics.calibration import ReliabilityTally, of_defects
from robollm.metrics.defects import DefectImage
from robollm.metrics.tally import Tally


def drawn(seed, n=400):
    rng = np.random.default_rng(seed)
    said = rng.integers(0, 50 + 500 * (seed % 2), n) / 600
    return said, rng.random(n) < said, [f"g{g}" for g in rng.integers(0, 60, n)]


def test_the_figures_are_those_counted_by_hand():
    said, right = [0.8, 0.8, 0.8, 0.2, 0.2], [True, True, False, False, False]
    tally: Tally = ReliabilityTally(said, right, list("aabbc"), suffix="_top")
    found = tally.figures()
    # Three of .8 of which two came true; two of .2 of which none did.
    assert found["ece_top"] == pytest.approx(3 / 5 * (0.8 - 2 / 3) + 2 / 5 * 0.2)
    assert found["brier_top"] == pytest.approx((0.04 * 2 + 0.64 + 0.04 * 2) / 5)
    assert found["nll_top"] == pytest.approx(-(4 * np.log(0.8) + np.log(0.2)) / 5)
    assert found["ece_floor_top"] > 0
    assert tally.units == ("a", "b", "c")
    assert tally.share("nll_top") is None
    hits, cases = tally.share("ece_top")
    assert (hits, cases.tolist()) == (None, [2, 2, 1])


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_scikit_learn_and_the_reliability_of_the_core(seed):
    said, right, groups = drawn(seed)
    tally = ReliabilityTally(said, right, groups)
    found = tally.figures()
    held = reliability(said, right, np.ones(len(said)), groups)
    assert tally.bins == held.bins
    assert (found["ece"], found["ece_floor"]) == pytest.approx((held.ece, held.floor))
    assert found["brier"] == pytest.approx(oracle.brier_score_loss(right, said))
    assert found["nll"] == pytest.approx(oracle.log_loss(right, said))


def test_a_group_drawn_twice_counts_like_its_cases_twice():
    said, right, groups = drawn(1)
    tally = ReliabilityTally(said, right, groups)
    counts = np.random.default_rng(0).integers(0, 3, len(tally.units))
    times = [counts[tally.units.index(g)] for g in groups]
    found = tally.figures(counts)
    right_too, said_too = right.repeat(times), said.repeat(times)
    assert found["brier"] == pytest.approx(oracle.brier_score_loss(right_too, said_too))
    assert found["nll"] == pytest.approx(oracle.log_loss(right_too, said_too))
    # The bins stay where they are; their edges by the means that the diagram shows.
    edges = np.cumsum([b.share for b in tally.bins]) * len(said)
    number = np.searchsorted(edges - 0.5, np.argsort(np.argsort(said, kind="stable")), "right")
    number = number.repeat(times)
    gaps = [(right_too[number == b].sum() - said_too[number == b].sum()) for b in set(number)]
    assert found["ece"] == pytest.approx(np.abs(gaps).sum() / len(said_too))


def test_certainty_that_is_right_costs_exactly_nothing_and_one_that_is_wrong_a_finite_price():
    right = np.arange(50) % 3 == 0
    sure = ReliabilityTally(right.astype(float), right, [f"{k}" for k in range(50)])
    assert set(sure.figures().values()) == {0.0}
    assert not any(np.signbit(list(sure.figures().values())))
    for name in ("ece", "brier"):  # of 50: no mistake, not: never any
        assert intervals(sure, draws=20)[name].high == pytest.approx(1 - 0.025 ** (1 / 50))
    wrong = ReliabilityTally(1.0 - right, right, [f"{k}" for k in range(50)]).figures()
    assert wrong["ece"] == wrong["brier"] == 1
    assert wrong["nll"] == pytest.approx(-np.log(1e-15))


def test_probabilities_that_are_true_lie_near_the_floor():
    rng = np.random.default_rng(3)
    said = rng.random(4000)
    true = rng.random(4000) < said
    found = ReliabilityTally(said, true, [f"{k}" for k in range(4000)]).figures()
    assert found["ece"] < 2 * found["ece_floor"]
    boasting = ReliabilityTally(said**0.3, true, [f"{k}" for k in range(4000)]).figures()
    assert boasting["ece"] > 10 * boasting["ece_floor"]


def test_defects_are_judged_by_class_and_by_the_most_probable_one():
    images = [
        DefectImage("a", ("nominal",), {"multi_pick": 0.1, "nominal": 0.7, "package_defect": 0.2}),
        DefectImage("b", ("open",), {"multi_pick": 0.5, "nominal": 0.1, "package_defect": 0.4}),
        DefectImage("c", ("nominal",), None),
    ]
    found = of_defects(images)
    assert set(found) == {"top", "multi_pick", "nominal", "package_defect"}
    assert found["top"].units == ("a", "b")
    brier = {name: tally.figures()[f"brier_{name}"] for name, tally in found.items()}
    assert brier == pytest.approx(
        {
            "top": (0.3**2 + 0.5**2) / 2,
            "multi_pick": (0.1**2 + 0.5**2) / 2,
            "nominal": (0.3**2 + 0.1**2) / 2,
            "package_defect": (0.2**2 + 0.6**2) / 2,
        }
    )
    with pytest.raises(EvalError, match="none of 1 images was judged"):
        of_defects(images[2:])


def test_what_is_no_probability_is_an_error():
    with pytest.raises(EvalError, match=r"2 probabilities, 1 of them not in 0 to 1 \[1.5\]"):
        ReliabilityTally([0.5, 1.5], [True, False], ["a", "b"])
    with pytest.raises(EvalError, match="nan"):
        ReliabilityTally([np.nan], [True], ["a"])
    with pytest.raises(EvalError, match="0 probabilities"):
        ReliabilityTally([], [], [])
