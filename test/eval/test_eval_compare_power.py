"""What a comparison could have found: a gate that nothing could close must say so."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from compare_kit import Shares, defects, write_run

from robollm.eval.compare import PASSED, compare, differences
from robollm.eval.compare_page import least, verdict, write_page
from robollm.eval.gate import SAME, UNKNOWN, Question, judge
from robollm.metrics.bootstrap import Difference

ALL = Question(metric=("*",), draws=200)
UNTOLD = Difference(0.5, 0.4, -0.1, math.nan, math.nan, 1.0)


def told(p, error=0.01, cases=1000.0):
    return Difference(0.9, 0.85, -0.05, -0.09, -0.01, p, error, cases)


def test_figures_that_can_not_be_tested_are_no_part_of_the_correction():
    found = [("s", "a_recall", told(0.03), told(0.03))]
    found += [("s", f"b{n}_recall", UNTOLD, UNTOLD) for n in range(5)]
    changes = {c.figure: c for c in judge(found, ALL)}
    assert changes["a_recall"].p == 0.03
    assert changes["a_recall"].verdict == "regression"
    assert changes["b0_recall"].verdict == UNKNOWN
    assert changes["b0_recall"].decides is True
    assert changes["b0_recall"].shows == math.inf


@pytest.mark.parametrize(
    ("cases", "error", "tests", "margin", "shows"),
    [
        (1000.0, 0.01, 1, 0.0, 1.959964 * 0.01),
        (1000.0, 0.01, 1, 0.02, 1.959964 * 0.01 + 0.02),
        (1000.0, 0.01, 5, 0.0, 2.575829 * 0.01),  # alpha .01 each
        (30.0, 0.0, 1, 0.0, 6 / 30),  # the same answers: 2^-5 is the first p below .05
        (30.0, 0.0, 5, 0.0, 8 / 30),  # 2^-7 is the first below .01
        (5.0, 0.0, 1, 0.0, math.inf),
        (math.nan, 0.5, 1, 0.0, 1.959964 * 0.5),  # no share: times to flag
    ],
)
def test_the_least_loss_that_shows_is_counted_by_hand(cases, error, tests, margin, shows):
    one = told(0.5, error, cases)
    found = [("s", f"f{n}_recall", one, one) for n in range(tests)]
    question = Question(metric=("*",), draws=200, margin=margin)
    assert judge(found, question)[0].shows == pytest.approx(shows, abs=1e-6)


def test_a_loss_above_the_least_that_shows_is_mostly_found():
    rng, hits, shows = np.random.default_rng(0), 0, []
    for _ in range(60):
        a = rng.random((100, 1)) < 0.9
        b = a & (rng.random((100, 1)) >= 0.1)  # falls by .09
        (change,) = judge(
            differences("x", Shares(a, ["r_recall"]), Shares(b, ["r_recall"]), ALL), ALL
        )
        hits += change.verdict == "regression"
        shows.append(change.shows)
    assert np.mean(shows) == pytest.approx(0.06, abs=0.01)  # six of a hundred
    assert hits > 45


def test_an_open_gate_says_what_it_could_not_have_seen(tmp_path):
    for name in "ab":
        write_run(tmp_path / name, {"defects": defects({4}, count=30)})
    found = compare(tmp_path / "a", tmp_path / "b", Question(draws=200))
    assert found.exit_code == PASSED
    decide = [c for c in found.changes if c.decides]
    assert {c.verdict for c in decide} == {SAME}
    worst = max(decide, key=lambda c: c.shows)
    assert worst.shows >= 6 / 30
    said = verdict(found)
    assert said.startswith("No regression found: none of ")
    if math.isinf(worst.shows):
        assert said.endswith("no loss would show on so few samples")
    else:
        assert f"a loss below {worst.shows:.4f} would not show" in said
    assert least(worst) in write_page(found, tmp_path / "page.html").read_text()
    json.dumps(found.to_json(), allow_nan=False)
