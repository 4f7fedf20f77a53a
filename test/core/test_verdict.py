from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robollm.core.defects import (
    NOMINAL,
    OVER_VIEWS,
    UNINSPECTED,
    ViewEvidence,
    decision_score,
    fuse,
)
from robollm.core.fuse import mean_embedding

DEFECTS = ("multi_pick", "package_defect")
HALF = {"multi_pick": 0.5, "package_defect": 0.5}

probability = st.floats(0, 1)
threshold = st.floats(0.01, 0.99)
thresholds = st.fixed_dictionaries(dict.fromkeys(DEFECTS, threshold))


@st.composite
def judged(draw, view="v"):
    a, b, c = (draw(st.floats(0.001, 1)) for _ in range(3))
    total = a + b + c
    p = {"multi_pick": a / total, "package_defect": b / total, NOMINAL: c / total}
    return ViewEvidence(view, p)


@st.composite
def evidence(draw, min_size=0):
    views = draw(st.lists(st.one_of(st.none(), judged()), min_size=min_size, max_size=5))
    return [
        ViewEvidence(f"v{i}", None, reason="dark")
        if v is None
        else ViewEvidence(f"v{i}", v.probabilities)
        for i, v in enumerate(views)
    ]


def view(name="v", **p):
    return ViewEvidence(name, {"multi_pick": 0.0, "package_defect": 0.0, NOMINAL: 0.0} | p)


def missing(name="gone"):
    return ViewEvidence(name, None, reason="no image")


# decision score


@given(p=probability, q=probability, t=threshold)
def test_a_decision_score_rises_with_the_probability_and_turns_at_the_threshold(p, q, t):
    s = decision_score(p, t)
    assert 0 <= s <= 1
    assert (s >= 0.5) == (p >= t)
    if p <= q:
        assert s <= decision_score(q, t)
    assert decision_score(0, t) == 0
    assert decision_score(1, t) == 1


# verdict


@given(views=evidence(), limits=thresholds, min_views=st.integers(1, 4))
def test_a_verdict_is_sorted_and_its_first_entry_decides(views, limits, min_views):
    got = fuse(views, limits, min_views=min_views)
    scores = [s for _, s in got.ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= s <= 1 for s in scores)
    assert got.decision == got.ranked[0][0]
    names = [n for n, _ in got.ranked]
    assert len(names) == len(set(names))
    assert got.inspected == tuple(v.view for v in views if v.probabilities)
    assert got.missing == tuple((v.view, "dark") for v in views if not v.probabilities)


@given(views=evidence(), limits=thresholds, min_views=st.integers(1, 4))
def test_the_decision_is_what_the_thresholds_say(views, limits, min_views):
    """The slow, obvious rule: any view, any defect at or above its threshold."""
    seen = [v.probabilities for v in views if v.probabilities]
    over = {d for d in DEFECTS if any(p[d] >= limits[d] for p in seen)}
    decision = fuse(views, limits, min_views=min_views).decision
    if over:
        assert decision in over
    elif not seen or len(seen) < min_views:
        assert decision == UNINSPECTED
    else:
        assert decision == NOMINAL


@given(
    views=evidence(),
    limits=thresholds,
    min_views=st.integers(1, 4),
    ways=st.dictionaries(st.sampled_from(DEFECTS), st.sampled_from(OVER_VIEWS)),
)
def test_a_defect_is_decided_by_its_largest_probability_or_by_the_mean(
    views, limits, min_views, ways
):
    got = fuse(views, limits, min_views=min_views, ways=ways)
    seen = [v.probabilities for v in views if v.probabilities]
    if not seen:
        assert got.decision == UNINSPECTED
        return
    scores = {}
    for d in DEFECTS:
        each = [p[d] for p in seen]
        joined = sum(each) / len(each) if ways.get(d) == "mean" else max(each)
        scores[d] = decision_score(joined, limits[d])
    strongest = max(scores.values())
    if strongest < 0.5:
        assert got.decision == (NOMINAL if len(seen) >= min_views else UNINSPECTED)
    else:
        assert scores[got.decision] == strongest
    if got.decision != UNINSPECTED:
        assert {d: dict(got.ranked)[d] for d in DEFECTS} == scores


def test_one_wrong_view_is_outvoted_where_the_mean_counts_and_decides_where_any_does():
    views = [view("a", multi_pick=0.9), view("b", multi_pick=0.2), view("c", multi_pick=0.1)]
    assert fuse(views, HALF).decision == "multi_pick"
    assert fuse(views, HALF, ways={"multi_pick": "mean"}).decision == NOMINAL
    assert fuse(views, HALF, ways={"package_defect": "mean"}).decision == "multi_pick"


@given(views=evidence(min_size=1), limits=thresholds, more=judged("more"))
def test_more_evidence_never_turns_a_defect_into_nominal(views, limits, more):
    before = fuse(views, limits).decision
    after = fuse([*views, more], limits).decision
    if before in DEFECTS:
        assert after in DEFECTS


@given(
    views=evidence(min_size=1),
    limits=thresholds,
    at=st.integers(0, 4),
    defect=st.sampled_from(DEFECTS),
    worse=probability,
)
def test_a_higher_defect_probability_never_helps_nominal(views, limits, at, defect, worse):
    at %= len(views)
    old = views[at].probabilities
    if old is None:
        return
    raised = [*views]
    raised[at] = ViewEvidence(views[at].view, {**old, defect: max(old[defect], worse)})
    before, after = fuse(views, limits), fuse(raised, limits)
    assert dict(after.ranked)[defect] >= dict(before.ranked)[defect]
    assert dict(after.ranked)[NOMINAL] <= dict(before.ranked)[NOMINAL]


@given(views=evidence(min_size=1), limits=thresholds)
def test_the_order_of_views_changes_nothing(views, limits):
    assert fuse(views[::-1], limits).ranked == fuse(views, limits).ranked


@given(t=threshold, defect=st.sampled_from(DEFECTS))
def test_a_defect_at_exactly_its_threshold_is_decided(t, defect):
    got = fuse([view(**{defect: t})], {**HALF, defect: t})
    assert got.ranked[:2] == ((defect, 0.5), (NOMINAL, 0.5))
    just_below = fuse([view(**{defect: float(np.nextafter(t, 0))})], {**HALF, defect: t})
    assert just_below.decision == NOMINAL


def test_a_threshold_of_zero_decides_always():
    assert fuse([view(nominal=1.0)], {**HALF, "multi_pick": 0.0}).decision == "multi_pick"


def test_one_view_of_many_is_enough_for_a_defect():
    calm = [view(f"v{i}", nominal=1.0) for i in range(5)]
    got = fuse([*calm, view("bad", package_defect=0.8, nominal=0.2)], HALF)
    assert got.decision == "package_defect"


def test_a_missing_view_is_said_without_changing_the_decision():
    got = fuse([view("a", nominal=1.0), missing("b"), missing("c")], HALF)
    assert got.decision == NOMINAL
    assert dict(got.ranked)[UNINSPECTED] == pytest.approx(0.5 * 2 / 3)
    assert got.missing == (("b", "no image"), ("c", "no image"))


@pytest.mark.parametrize("views", [[], [missing("a")], [missing("a"), missing("b")]])
def test_nothing_judged_is_uninspected_alone(views):
    got = fuse(views, HALF)
    assert got.ranked == ((UNINSPECTED, 1.0),)
    assert got.inspected == ()


def test_too_few_views_never_say_nominal():
    got = fuse([view("a", nominal=1.0), missing("b")], HALF, min_views=2)
    assert got.ranked == ((UNINSPECTED, 1.0),)
    assert got.inspected == ("a",)


def test_too_few_views_may_still_say_defect():
    got = fuse([view("a", multi_pick=0.9), missing("b")], HALF, min_views=2)
    assert got.decision == "multi_pick"


# fusion of embeddings

vectors = st.integers(0, 2**31).map(
    lambda seed: np.random.default_rng(seed).normal(size=(1 + seed % 5, 8))
)


@given(raw=vectors)
def test_a_fused_embedding_has_unit_length_and_no_order(raw):
    unit = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    got = mean_embedding(unit)
    assert got.dtype == np.float32
    assert np.linalg.norm(got) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(got, mean_embedding(unit[::-1]), atol=1e-5)
    if len(unit) == 1:
        np.testing.assert_allclose(got, unit[0], atol=1e-6)


def test_opposite_views_leave_the_first_one():
    one = np.array([0.6, 0.8], np.float32)
    np.testing.assert_array_equal(mean_embedding(np.stack([one, -one])), one)
