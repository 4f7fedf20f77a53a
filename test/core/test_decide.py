from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robollm.core.decide import (
    AMBIGUOUS,
    IDENTIFIED,
    UNKNOWN,
    IdentificationPolicy,
    Match,
    decide,
)

cosine = st.floats(-1, 1, width=32)
policies = st.builds(
    IdentificationPolicy,
    accept=st.floats(-1, 1),
    margin=st.floats(0, 0.3),
    temperature=st.sampled_from([1e-4, 0.01, 0.1, 1.0, 1e3]),
    top_k=st.integers(1, 8),
)


def best_first(cosines):
    return [Match(f"P{i}", c) for i, c in enumerate(sorted(cosines, reverse=True))]


answers = st.lists(cosine, min_size=1, max_size=6).map(best_first)
USUAL = IdentificationPolicy(accept=0.6, margin=0.05, temperature=0.1)


@given(matches=answers, policy=policies)
def test_unknown_comes_first_exactly_when_no_cosine_is_above_the_threshold(matches, policy):
    got = decide(matches, policy)
    assert (got.decision == UNKNOWN) == (matches[0].similarity <= policy.accept)
    assert (got.ranked[0][0] == UNKNOWN) == (got.decision == UNKNOWN)
    assert bool(got.reason) == (got.decision != IDENTIFIED)


@given(matches=answers, policy=policies)
def test_the_first_entry_is_the_decision_and_scores_fall(matches, policy):
    got = decide(matches, policy, views=("image", "low"))
    name, score = got.ranked[0]
    assert name == (matches[0].product_id if got.decision == IDENTIFIED else got.decision)
    assert all(score >= s for _, s in got.ranked[1:])
    products = [(n, s) for n, s in got.ranked if n not in (UNKNOWN, AMBIGUOUS)]
    shown = max(2, policy.top_k) if got.decision == AMBIGUOUS else policy.top_k
    assert [n for n, _ in products] == [m.product_id for m in matches[:shown]]
    assert products == sorted(products, key=lambda item: -item[1])
    assert got.views == ("image", "low")


@given(matches=answers, policy=policies)
def test_probabilities_are_what_a_softmax_with_one_more_class_says(matches, policy):
    got = decide(matches, policy)
    shown = dict(got.ranked)
    shown.pop(AMBIGUOUS, None)
    assert sum(shown.values()) <= 1 + 1e-9
    assert all(0 <= p <= 1 for p in shown.values())
    if UNKNOWN in shown and len(matches) <= policy.top_k:
        assert sum(shown.values()) == pytest.approx(1)
    if policy.temperature >= 0.01:  # the naive formula overflows below
        odds = [math.exp(m.similarity / policy.temperature) for m in matches]
        total = sum(odds) + math.exp(policy.accept / policy.temperature)
        for m, o in zip(matches, odds, strict=True):
            if m.product_id in shown:
                assert shown[m.product_id] == pytest.approx(o / total, rel=1e-6)


@given(matches=answers, policy=policies)
def test_two_near_candidates_above_the_threshold_are_ambiguous(matches, policy):
    got = decide(matches, policy)
    gap = matches[0].similarity - matches[1].similarity if len(matches) > 1 else math.inf
    near = gap < policy.margin or gap == 0
    assert (got.decision == AMBIGUOUS) == (near and matches[0].similarity > policy.accept)


def test_an_ambiguous_score_is_what_the_two_have_together():
    got = decide(best_first([0.9, 0.89, 0.3]), USUAL)
    (name, score), (first, p), (second, q), *_ = got.ranked
    assert (name, first, second) == (AMBIGUOUS, "P0", "P1")
    assert score == pytest.approx(p + q)
    assert "P0 and P1 are 0.0100 apart, want 0.0500" in got.reason


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_two_products_that_look_the_same_are_never_one_of_them(top_k):
    policy = IdentificationPolicy(accept=0.0, margin=0.0, temperature=0.1, top_k=top_k)
    got = decide(best_first([0.9, 0.9, 0.2]), policy)
    assert got.decision == AMBIGUOUS
    assert [n for n, _ in got.ranked][:3] == [AMBIGUOUS, "P0", "P1"]


def test_a_gap_of_exactly_the_margin_is_enough():
    policy = IdentificationPolicy(accept=0.0, margin=0.25, temperature=0.1)
    assert decide([Match("a", 0.75), Match("b", 0.5)], policy).decision == IDENTIFIED


def test_a_cosine_at_the_threshold_is_unknown():
    got = decide([Match("a", 0.6)], USUAL)
    assert got.decision == UNKNOWN
    assert got.ranked == ((UNKNOWN, 0.5), ("a", 0.5))
    assert got.reason == "best cosine 0.600 is not above 0.600"


def test_a_single_candidate_is_never_ambiguous():
    assert decide([Match("a", 0.9)], USUAL).decision == IDENTIFIED


def test_no_candidate_is_unknown_for_sure():
    got = decide([], USUAL)
    assert got.ranked == ((UNKNOWN, 1.0),)
    assert got.reason == "no product to compare with"


@pytest.mark.parametrize("cosines", [[math.nan], [math.nan, 0.9], [0.9, math.nan]])
def test_a_cosine_that_is_no_number_is_unknown_and_publishes_none(cosines):
    got = decide([Match(f"P{i}", c) for i, c in enumerate(cosines)], USUAL)
    assert got.decision == UNKNOWN
    assert got.ranked == ((UNKNOWN, 1.0),)
    assert "not a number" in got.reason


@given(matches=answers, policy=policies, closer=st.floats(0, 1))
def test_a_nearer_best_candidate_never_loses_its_probability(matches, policy, closer):
    first, *rest = matches
    nearer = Match(first.product_id, min(1.0, first.similarity + closer))
    before, after = decide(matches, policy), decide([nearer, *rest], policy)
    assert dict(after.ranked)["P0"] >= dict(before.ranked)["P0"] - 1e-12
    if before.decision == IDENTIFIED:
        assert after.decision == IDENTIFIED


@given(matches=answers, policy=policies, stricter=st.floats(0, 1))
def test_a_stricter_threshold_never_turns_unknown_into_a_product(matches, policy, stricter):
    strict = IdentificationPolicy(
        policy.accept + stricter, policy.margin, policy.temperature, policy.top_k
    )
    if decide(matches, policy).decision == UNKNOWN:
        assert decide(matches, strict).decision == UNKNOWN
