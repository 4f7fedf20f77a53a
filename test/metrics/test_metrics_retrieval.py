"""Ranks and recall: hand counts, the devkit's protocol by slow loops, ties, what is missing."""

from __future__ import annotations

import numpy as np
import pytest

from robollm.core.errors import EvalError
from robollm.metrics.retrieval import (
    GALLERIES,
    NEVER,
    PROTOCOLS,
    Gallery,
    Query,
    RetrievalTally,
    rank_picks,
    ranks,
)


def gallery():
    rows = [("a", "1", [1, 0]), ("b", "1", [0, 1]), ("b", "2", [0.6, 0.8]), ("c", "1", [-1, 0])]
    return Gallery.of([(p, i, np.array(v, np.float32)) for p, i, v in rows])


def counts(found):
    return found["product"].tolist(), found["image"].tolist()


def test_ranks_among_a_manifest_are_those_of_its_own_gallery():
    queries = np.array([[1, 0], [0, 1]], np.float32)
    truths = np.array([2, 0])
    assert counts(ranks(queries, truths, gallery())) == ([2, 2], [3, 3])
    choices = [np.array([1, 2]), np.array([0, 2])]
    assert counts(ranks(queries, truths, gallery(), choices)) == ([1, 1], [2, 1])
    missing = [np.array([0, 1]), np.zeros(0, np.int64)]
    assert min(*counts(ranks(queries, truths, gallery(), missing))[0]) > 1000


@pytest.mark.parametrize("within", [False, True])
def test_what_is_not_a_number_is_never_found_and_comes_before_the_truth(within):
    one = gallery()
    choices = [np.arange(3)] * 2 if within else None
    queries = np.array([[np.nan, 0], [1, 0]], np.float32)
    found, _ = counts(ranks(queries, np.array([0, 0]), one, choices))
    assert found[0] > 1000
    assert found[1] == 0
    one.vectors[2] = np.nan  # b's second image
    assert counts(ranks(queries[1:], np.array([0]), one, choices and choices[1:])) == ([1], [1])
    found, _ = counts(ranks(queries[1:], np.array([1]), one, [np.array([1])] if within else None))
    assert found[0] > 1000


def test_of_several_views_each_reference_takes_the_nearest():
    views = np.array([[1, 0], [-1, 0]], np.float32)  # a and c score 1, b .6
    both = [np.array([0, 1, 2])]
    for choices in (None, both):
        assert counts(ranks([views], np.array([1]), gallery(), choices)) == ([2], [2])
        assert counts(ranks([views], np.array([2]), gallery(), choices)) == ([1], [1])


def test_the_same_image_twice_counts_once_and_centroids_have_unit_length():
    one = Gallery.of([("a", "1", np.array([1, 0])), ("a", "1", np.array([0, 1]))])
    assert one.vectors.tolist() == [[0, 1]]
    mean = gallery().centroids()
    np.testing.assert_allclose(mean.vectors[1], np.array([0.6, 1.8]) / np.hypot(0.6, 1.8), 1e-6)
    opposite = Gallery.of([("a", "1", np.array([1, 0])), ("a", "2", np.array([-1, 0]))])
    assert opposite.centroids().vectors.tolist() == [[0, 0]]


def unit(rng, *shape):
    x = rng.standard_normal(shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def world(seed):
    """References of 40 products, some equal in two of them, and 90 picks with manifests."""
    rng = np.random.default_rng(seed)
    rows = []
    for p in range(40):
        for image in range(int(rng.integers(0, 5))):  # some have none
            rows.append((f"p{p:02}", f"{image}.jpg", unit(rng, 6)))
    rows += [(f"q{i}", "0.jpg", rows[i][2]) for i in range(5)]
    asked = []
    for n in range(90):
        manifest = tuple(f"p{p:02}" for p in rng.choice(40, rng.integers(1, 12)))
        product = str(rng.choice(manifest)) if n % 9 else f"p{rng.integers(40):02}"
        views = unit(rng, 3, 6)
        if n % 4 == 0:  # a picture as it is in the references
            views[0] = rows[int(rng.integers(len(rows)))][2]
        vectors = {"n1": views[0], "n3": views.sum(axis=0) / np.linalg.norm(views.sum(axis=0))}
        if n % 11 == 0:
            del vectors["n3"]
        asked.append(Query(f"{n}", product, manifest, {**vectors, "n3max": views[: 1 + n % 3]}))
    return rows, asked


def score(views, reference):
    """The nearest of some views, each added up alike."""
    return max((np.atleast_2d(reference) * v).sum(axis=1)[0] for v in np.atleast_2d(views))


def slow(rows, query, vector, where, protocol):
    """Whether the truth is among the first 1, 2, 3: by the words of the protocol."""
    among = {*query.manifest} if where == "container" else {p for p, _, _ in rows}
    references = [(p, v) for p, _, v in rows if p in among]
    if protocol == "centroid":
        centroids = Gallery.of(rows).centroids()
        references = [
            (p, v) for p, v in zip(centroids.products, centroids.vectors, strict=True) if p in among
        ]
    # The best first; of equal ones, the truth last.
    order = sorted(
        ((-score(vector, v), p == query.product, p) for p, v in references), key=lambda r: r[:2]
    )
    names = [p for _, _, p in order]
    if protocol != "image":
        names = list(dict.fromkeys(names))
    return [query.product in names[:k] for k in (1, 2, 3)]


@pytest.mark.parametrize("seed", range(3))
def test_recall_of_every_protocol_equals_slow_loops_with_ties(seed):
    rows, asked = world(seed)
    found = list(rank_picks(asked, Gallery.of(rows)))
    figures = RetrievalTally(found).figures()
    assert [p.key for p in found] == [q.key for q in asked]
    for where in GALLERIES:
        for protocol in PROTOCOLS:
            for name in ("n1", "n3", "n3max"):
                hits = [
                    slow(rows, q, q.vectors[name], where, protocol)
                    if name in q.vectors
                    else [False] * 3
                    for q in asked
                ]
                got = [figures[f"recall@{k}_{where}_{protocol}_{name}"] for k in (1, 2, 3)]
                assert got == pytest.approx(np.mean(hits, axis=0)), (where, protocol, name)


def test_a_pick_ranks_the_same_in_any_company():
    rows, asked = world(5)
    pool = Gallery.of(rows)
    together = {p.key: p.before for p in rank_picks(asked, pool)}
    for query in asked[::7]:
        assert next(rank_picks([query], pool)).before == together[query.key]


def test_who_leads_in_the_container_is_told_with_the_cosines():
    rows, asked = world(1)
    for pick, query in zip(rank_picks(asked, Gallery.of(rows)), asked, strict=True):
        best = {}
        for p, _, v in rows:
            if p in query.manifest:
                best[p] = max(best.get(p, -np.inf), score(query.vectors["n1"], v))
        right = best.pop(query.product, -np.inf)
        other = max(best, key=best.get, default="")
        assert pick.leads["n1"][:2] == pytest.approx((right, best.get(other, -np.inf)))
        assert pick.leads["n1"].other == other


# the tally


def picks():
    """Five picks: found first, found second, not in the manifest, no reference, no manifest."""
    rows = [("a", "1", [1, 0]), ("b", "1", [0, 1]), ("c", "1", [-1, 0]), ("d", "1", [0, -1])]
    pool = Gallery.of([(p, i, np.array(v, np.float32)) for p, i, v in rows])
    at = {"n1": np.array([0.8, 0.6], np.float32)}
    asked = [
        Query("1", "a", ("a", "b", "a"), at),
        Query("2", "b", ("a", "b", "c"), at),
        Query("3", "a", ("b", "c"), at),
        Query("4", "x", ("a", "x", *(f"y{n}" for n in range(9))), at),
        Query("5", "a", ("x",), {}),
    ]
    return list(rank_picks(asked, pool, queries=("n1",)))


def test_recall_chance_and_what_is_missing_are_those_counted_by_hand():
    tally = RetrievalTally(picks(), at=(1, 2))
    found = tally.figures()
    want = {
        "recall@1_container_product_n1": 1 / 5, "recall@2_container_product_n1": 2 / 5,
        "recall@1_all_product_n1": 2 / 5,  # 1 and 3
        "recall@2_all_image_n1": 3 / 5,
        "chance@1_container": (1 / 2 + 1 / 3) / 5, "chance@2_container": (1 + 2 / 3) / 5,
        "recall@1_container_product_n1_manifest-0-1": 0,
        "recall@1_container_product_n1_manifest-2-9": 1 / 3,
        "recall@1_container_product_n1_manifest-10-19": 0,
    }  # fmt: skip
    assert {k: found[k] for k in want} == pytest.approx(want)
    assert np.isnan(found["recall@1_container_product_n1_manifest-50+"])
    assert tally.units == ("a", "b", "x")
    assert tally.counts == {
        "picks": 5, "picks_without_reference": 1, "picks_not_in_manifest": 2,
        "picks_with_bare_manifest": 1, "picks_without_n1": 1,
    }  # fmt: skip
    assert picks()[4].before["container", "product", "n1"] == NEVER
    hits, cases = tally.share("recall@1_container_product_n1")
    assert (hits.tolist(), cases.tolist()) == ([1, 0, 0], [3, 1, 1])
    assert tally.share("chance@1_container") is None


def test_a_product_drawn_twice_counts_like_its_picks_twice():
    some = picks()
    tally = RetrievalTally(some)
    again = RetrievalTally([p for p in some for _ in range({"a": 2, "b": 0, "x": 1}[p.product])])
    assert tally.figures(np.array([2, 0, 1])) == pytest.approx(again.figures(), nan_ok=True)


@pytest.mark.parametrize("size", [0, 1, 2, 9, 10, 19, 20, 49, 50, 5000])
def test_every_size_of_a_manifest_is_in_one_row(size):
    asked = Query("1", "a", tuple(f"y{n}" for n in range(size)), {})
    found = RetrievalTally(list(rank_picks([asked], gallery(), queries=("n1",)))).figures()
    rows = [k for k, v in found.items() if "manifest" in k and v == v]
    assert len(rows) == 1
    low, _, high = rows[0].rpartition("manifest-")[2].rstrip("+").partition("-")
    assert int(low) <= size <= int(high or 10**6)


def test_no_picks_are_an_error():
    with pytest.raises(EvalError, match="no pick"):
        RetrievalTally([])
