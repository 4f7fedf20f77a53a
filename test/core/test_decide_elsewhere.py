"""Products outside the manifest, and doubts whose thresholds and probabilities differ."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robollm.core.decide import (
    AMBIGUOUS,
    IDENTIFIED,
    NOT_IN_MANIFEST,
    UNKNOWN,
    ElsewherePolicy,
    IdentificationPolicy,
    Match,
    decide,
    decide_elsewhere,
)

FAR = ElsewherePolicy(accept=0.7, margin=0.1, temperature=0.05, unknown_at=0.5, handicap=0.1)
STRICT = IdentificationPolicy(0.8, 0.02, 0.05, top_k=8, unknown_at=0.5, elsewhere=FAR)
cosines = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=5)
policies = st.builds(
    IdentificationPolicy,
    accept=st.floats(-1, 1),
    margin=st.floats(0, 0.3),
    temperature=st.sampled_from([1e-4, 0.01, 0.1, 1.0]),
    top_k=st.integers(1, 12),
    unknown_at=st.none() | st.floats(-1.5, 1.5),
    elsewhere=st.builds(
        ElsewherePolicy,
        accept=st.floats(-1, 1),
        margin=st.floats(0, 0.3),
        temperature=st.sampled_from([1e-4, 0.01, 0.1, 1.0]),
        unknown_at=st.floats(-1.5, 1.5),
        handicap=st.floats(-0.5, 0.5),
    ),
)


def named(letter, values):
    return [Match(f"{letter}{i}", c) for i, c in enumerate(sorted(values, reverse=True))]


def both(inside, outside, policy=STRICT):
    a, b = named("in", inside), named("out", outside)
    return decide_elsewhere(decide(a, policy), a, b, policy)


@given(inside=cosines, outside=cosines, policy=policies)
def test_the_first_result_is_the_decision_and_no_later_one_outranks_it(inside, outside, policy):
    got = both(inside, outside, policy)
    names, scores = zip(*got.ranked, strict=True)
    assert names[0] == (named("in", inside)[0].product_id
                        if got.decision == IDENTIFIED else got.decision)  # fmt: skip
    assert all(scores[0] >= s for s in scores[1:])
    assert all(0 <= s <= 1 for s in scores)
    assert bool(got.reason) == (got.decision != IDENTIFIED)
    products = [s for n, s in got.ranked if n.startswith(("in", "out"))]
    assert len(products) <= (max(2, policy.top_k) if got.decision == AMBIGUOUS else policy.top_k)
    assert sum(products) <= 1 + 1e-9


@given(inside=cosines, outside=cosines, policy=policies)
def test_the_rest_of_the_gallery_never_names_what_the_manifest_was_sure_or_torn_about(
    inside, outside, policy
):
    alone, got = decide(named("in", inside), policy), both(inside, outside, policy)
    if alone.decision in (IDENTIFIED, AMBIGUOUS):
        assert got == alone
    else:
        assert got.decision in (UNKNOWN, NOT_IN_MANIFEST)
    if got.decision == UNKNOWN:
        assert got.ranked == alone.ranked
        assert got.reason.startswith(alone.reason)


@given(inside=cosines, outside=cosines, policy=policies)
def test_a_foreign_product_is_named_only_if_it_is_clear(inside, outside, policy):
    got = both(inside, outside, policy)
    if got.decision != NOT_IN_MANIFEST:
        return
    far, best = policy.elsewhere, max(outside)
    assert got.ranked[1][0] == "out0"
    assert best > far.accept
    others = [*sorted(outside)[:-1], *inside]
    assert all(best - c >= far.margin for c in others)
    assert best - far.handicap > max(max(inside), far.unknown_at)


def test_two_foreign_products_that_look_the_same_are_no_answer():
    easy = replace(STRICT, elsewhere=replace(FAR, margin=0.0))
    assert both([0.3], [0.9, 0.8], easy).decision == NOT_IN_MANIFEST
    got = both([0.3], [0.9, 0.9], easy)
    assert got.decision == UNKNOWN
    assert "out0 is only 0.0000 before out1" in got.reason


def test_a_clear_foreign_product_gets_the_softmax_of_all_and_its_doubt_that_of_everything_outside():
    got = both([0.4, 0.3], [0.9, 0.6])
    odds = {"in0": 0.4, "in1": 0.3, "out0": 0.8, "out1": 0.5, "nobody": 0.5}
    odds = {k: math.exp(v / 0.05) for k, v in odds.items()}
    p = {k: v / sum(odds.values()) for k, v in odds.items()}
    assert got.decision == NOT_IN_MANIFEST
    assert [n for n, _ in got.ranked] == [NOT_IN_MANIFEST, "out0", "out1", "in0", "in1"]
    assert dict(got.ranked) == pytest.approx(
        {**{k: v for k, v in p.items() if k != "nobody"},
         NOT_IN_MANIFEST: p["out0"] + p["out1"] + p["nobody"]}
    )  # fmt: skip
    assert got.reason == "it is out0, which is not in the manifest (cosine 0.900)"


@pytest.mark.parametrize(
    ("inside", "outside", "why"),
    [
        ([0.4], [], "the gallery has no other product"),
        ([0.4], [0.65], "best cosine outside the manifest 0.650 is not above 0.700"),
        ([0.4], [0.9, 0.85], "out0 is only 0.0500 before out1, want 0.1000"),
        ([0.75], [0.8], "out0 is only 0.0500 before in0, want 0.1000"),
        ([0.4], [0.9, math.nan], "the cosine of out1 is not a number"),
    ],
    ids=["nothing", "far", "torn outside", "torn with inside", "nan"],
)
def test_what_is_not_clear_stays_unknown_and_says_why(inside, outside, why):
    a = [Match(f"in{i}", c) for i, c in enumerate(inside)]
    b = [Match(f"out{i}", c) for i, c in enumerate(outside)]
    alone = decide(a, STRICT)
    got = decide_elsewhere(alone, a, b, STRICT)
    assert (got.decision, got.ranked) == (UNKNOWN, alone.ranked)
    assert why in got.reason


def test_a_product_that_is_less_likely_than_unknown_is_not_named():
    strict = replace(STRICT, elsewhere=replace(FAR, unknown_at=0.85))
    got = both([0.4], [0.9], strict)
    assert got.decision == UNKNOWN
    assert "out0 outside the manifest is not the likeliest answer" in got.reason


@pytest.mark.parametrize("inside", [[], [math.nan], [0.2, math.nan], [math.inf]])
def test_without_anything_sound_in_the_manifest_the_rest_is_no_answer(inside):
    a = [Match(f"in{i}", c) for i, c in enumerate(inside)]
    alone = decide(a, STRICT)
    assert alone.ranked == ((UNKNOWN, 1.0),)
    assert decide_elsewhere(alone, a, [Match("out", 0.99)], STRICT) == alone


def test_without_thresholds_for_it_nothing_outside_is_named():
    policy = replace(STRICT, elsewhere=None)
    assert both([0.4], [0.99], policy) == decide(named("in", [0.4]), policy)


def test_a_likely_product_that_is_not_accepted_is_left_open_and_does_not_outrank_the_doubt():
    got = decide(named("in", [0.75, 0.3]), STRICT)
    odds = [math.exp(v / 0.05) for v in (0.75, 0.3, 0.5)]
    (name, score), (first, p), _ = got.ranked
    assert (name, first, got.left_open) == (UNKNOWN, "in0", ("in0",))
    assert p == pytest.approx(odds[0] / sum(odds))
    assert score == pytest.approx((odds[0] + odds[2]) / sum(odds))
    assert got.reason.endswith("not above 0.800, though in0 is the likeliest")


def test_what_a_doubt_leaves_open_is_told():
    assert decide(named("in", [0.9, 0.89]), STRICT).left_open == ("in0", "in1")
    assert decide(named("in", [0.9, 0.5]), STRICT).left_open == ()
    assert decide(named("in", [0.4]), STRICT).left_open == ()
