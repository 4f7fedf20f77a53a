"""Stored galleries against ExactGallery, and ExactGallery against arithmetic."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robollm.core.errors import ConfigError, GalleryError
from robollm.gallery.base import ExactGallery
from robollm.gallery.plan import SearchPlan
from robollm.gallery.records import MadeWith
from robollm.gallery.store import create_gallery, open_gallery, open_writer
from robollm.gallery.vectors import unit_rows

TOLERANCE = 2e-6  # float32 sums in another order
BUNDLE = MadeWith("e" * 64, "a bundle")


def stored(ids, vectors, *, product_score="max", normalise=True):
    """A gallery that was written to disk and opened; searched after its folder is gone."""
    assert normalise is False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "gallery"
        create_gallery(folder, dim=vectors.shape[1], made_with=BUNDLE)
        with open_writer(folder, made_with=BUNDLE) as writer:
            for i, (product, vector) in enumerate(zip(ids, vectors, strict=True)):
                writer.add_references(
                    product, vector[None], sources=[f"{i}.jpg"], sha256s=["0" * 64]
                )
            writer.commit()
        gallery = open_gallery(
            folder, embedding_sha256=None, bundle="", search=SearchPlan(product_score=product_score)
        )
        gallery.close()
    return gallery


KINDS = [ExactGallery, stored]
both = pytest.mark.parametrize("make", KINDS, ids=["exact", "stored"])
scores = pytest.mark.parametrize("score", ["max", "centroid"])


def as_stored(vectors):
    """What a store keeps of vectors, (N, D) float32."""
    names = [str(i) for i in range(len(vectors))]
    return unit_rows(vectors, names, vectors.shape[1]).astype(np.float32)


def unit(query):
    return (query / np.linalg.norm(query)).astype(np.float32)


def assert_same(got, want, k, tolerance=TOLERANCE):
    """Equal answers, except for the order of what is nearer than the rounding.

    Args:
        got: the answer.
        want: all products in their order, by the oracle.
        k: how many were asked for.
    """
    true = {m.product_id: m.similarity for m in want}
    assert len(got) == len({m.product_id for m in got}) == min(k, len(want))
    for match, best in zip(got, want, strict=False):
        assert match.similarity == pytest.approx(true[match.product_id], abs=tolerance)
        assert match.similarity == pytest.approx(best.similarity, abs=tolerance)


@st.composite
def stocks(draw):
    """Products with one to four vectors each, which may be answered, and a few queries."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=12))
    ids = [f"B{i:02d}" for i, n in enumerate(counts) for _ in range(n)]
    rng.shuffle(ids)
    vectors = rng.normal(size=(len(ids), 8)).astype(np.float32)
    some = st.none() | st.sets(
        st.sampled_from([*sorted(set(ids)), "stranger"]), max_size=len(counts)
    )
    queries = rng.normal(size=(draw(st.integers(1, 3)), 8))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return ids, vectors, draw(some), draw(some), queries.astype(np.float32)


@st.composite
def crowds(draw):
    """Vectors along axes: every cosine is exactly -1, 0 or 1, so nearly everything ties."""
    axes = st.sampled_from([(i, s) for i in range(4) for s in (1.0, -1.0)])
    rows = draw(st.lists(st.tuples(st.sampled_from("ABCDEFGH"), axes), min_size=1, max_size=30))
    vectors = np.zeros((len(rows), 4), np.float32)
    for row, (_, (axis, sign)) in zip(vectors, rows, strict=True):
        row[axis] = sign
    allow = draw(st.none() | st.sets(st.sampled_from("ABCDEFGHX")))
    query = np.zeros(4, np.float32)
    query[draw(st.integers(0, 3))] = 1.0
    return [name for name, _ in rows], vectors, allow, query


@scores
@settings(max_examples=40)
@given(stock=stocks(), k=st.integers(1, 20))
def test_a_stored_gallery_agrees_with_the_exact_one(score, stock, k):
    ids, vectors, allow, exclude, queries = stock
    oracle = ExactGallery(ids, as_stored(vectors), product_score=score, normalise=False)
    gallery = stored(ids, vectors, product_score=score, normalise=False)
    # A stored centroid is rounded to float16, as a stored reference is.
    tolerance = TOLERANCE if score == "max" else 1e-3
    wanted = oracle.search_many(queries, 99, allow, exclude=exclude)
    for query, want in zip(queries, wanted, strict=True):
        assert_same(gallery.search(query, k, allow, exclude=exclude), want, k, tolerance)
    found = gallery.search_many(queries, k, allow, exclude=exclude)
    for got, want in zip(found, wanted, strict=True):
        assert_same(got, want, k, tolerance)
    got = gallery.search_views(queries, k, allow, exclude=exclude)
    assert_same(got, oracle.search_views(queries, 99, allow, exclude=exclude), k, tolerance)


@settings(max_examples=40)
@given(stock=crowds(), k=st.integers(1, 12))
def test_a_stored_gallery_agrees_on_ties_too(stock, k):
    ids, vectors, allow, query = stock
    want = ExactGallery(ids, vectors).search(query, k, allow)
    gallery = stored(ids, vectors, normalise=False)
    assert gallery.search(query, k, allow) == want
    assert gallery.search_many(query[None], k, allow) == [want]
    assert gallery.search_views(query[None], k, allow) == want


@given(stock=stocks(), k=st.integers(1, 20))
def test_the_exact_gallery_is_right_by_hand(stock, k):
    ids, vectors, allow, exclude, (query, *_) = stock
    best: dict[str, float] = {}
    for name, v in zip(ids, vectors.astype(float), strict=True):
        if (allow is None or name in allow) and (exclude is None or name not in exclude):
            cosine = float(v @ query.astype(float)) / math.sqrt(float(v @ v))
            best[name] = max(cosine, best.get(name, -9.0))
    got = ExactGallery(ids, vectors * 3).search(query, k, allow, exclude=exclude)
    assert len(got) == min(k, len(best))
    assert [m.product_id for m in got] == sorted(best, key=lambda n: -best[n])[:k]
    assert [m.similarity for m in got] == pytest.approx([best[m.product_id] for m in got], abs=1e-5)


@given(stock=stocks())
def test_a_centroid_is_the_direction_of_the_mean_by_hand(stock):
    ids, vectors, _, _, (query, *_) = stock
    for match in ExactGallery(ids, vectors, product_score="centroid").search(query, 99):
        own = vectors[[i == match.product_id for i in ids]].astype(float)
        mean = (own / np.linalg.norm(own, axis=1, keepdims=True)).mean(axis=0)
        want = mean @ query / np.linalg.norm(mean)
        assert match.similarity == pytest.approx(want, abs=1e-5)


@both
def test_a_product_counts_by_the_best_of_its_references_or_by_their_mean(make):
    ids = ["two", "two", "one"]
    vectors = as_stored(np.float32([[1, 0], [0, 1], [0.8, 0.6]]))
    query = np.float32([1, 0])
    by_max = make(ids, vectors, product_score="max", normalise=False).search(query, 2)
    by_mean = make(ids, vectors, product_score="centroid", normalise=False).search(query, 2)
    assert [m.product_id for m in by_max] == ["two", "one"]
    assert [m.product_id for m in by_mean] == ["one", "two"]
    assert by_mean[1].similarity == pytest.approx(math.sqrt(0.5), abs=1e-3)


@both
@pytest.mark.parametrize("allow", [None, {"a", "b"}])
def test_references_that_cancel_each_other_out_have_similarity_zero(make, allow):
    vectors = np.float32([[1, 0], [-1, 0], [0, 1]])
    gallery = make(["a", "a", "b"], vectors, product_score="centroid", normalise=False)
    assert gallery.search(np.float32([-1, 0]), 2, allow) == [("a", 0.0), ("b", 0.0)]


@both
@pytest.mark.parametrize("allow", [None, {"a", "b", "c"}])
def test_views_are_compared_one_by_one_and_the_best_counts(make, allow):
    gallery = make(["a", "b", "c"], np.eye(3, dtype=np.float32), normalise=False)
    views = np.float32([[0.6, 0.8, 0], [0, 0.6, 0.8], [0, 1, 0]])
    found = gallery.search_views(views, 2, allow)
    assert [m.product_id for m in found] == ["b", "c"]
    assert [m.similarity for m in found] == pytest.approx([1, 0.8])
    assert gallery.search_views(np.zeros((0, 3), np.float32), 2, allow) == []
    assert gallery.search_many(np.zeros((0, 3), np.float32), 2, allow) == []


@both
@pytest.mark.parametrize("all_listed", [False, True])
def test_many_equal_products_are_ordered_by_their_id(make, all_listed):
    ids = [f"B{i:03d}" for i in range(200, 0, -1)]
    gallery = make(ids, np.tile(np.float32([[0, 1]]), (200, 1)), normalise=False)
    allow = set(ids) if all_listed else None
    assert gallery.search(np.float32([0, 1]), 3, allow) == [
        ("B001", 1.0), ("B002", 1.0), ("B003", 1.0),
    ]  # fmt: skip


@both
@pytest.mark.parametrize("n", [7, 33, 300])
def test_products_of_the_same_picture_tie_wherever_they_stand(make, n):
    rng = np.random.default_rng(n)
    vectors = as_stored(np.tile(rng.normal(size=(1, 96)), (n, 1)))
    ids = [f"B{i:03d}" for i in rng.permutation(n)]
    gallery = make(ids, vectors, normalise=False)
    query = unit(rng.normal(size=96))
    for allow in (None, set(ids)):
        found = gallery.search(query, n, allow)
        assert [m.product_id for m in found] == sorted(ids)
        assert len({m.similarity for m in found}) == 1


@both
def test_a_gallery_knows_its_size_and_products(make):
    gallery = make(["b", "a", "b"], np.eye(3, 5, dtype=np.float32), normalise=False)
    assert gallery.dim == 5
    assert set(gallery.products) == {"a", "b"}
    assert len(gallery.products) == 2
    assert "a" in gallery.products
    assert "c" not in gallery.products
    assert frozenset({"a", "c"}) & gallery.products == {"a"}


@both
@pytest.mark.parametrize("allow", [set(), {"stranger"}])
def test_nothing_is_found_where_nothing_is_allowed(make, allow):
    gallery = make(["a"], np.float32([[1, 0]]), normalise=False)
    assert gallery.search(np.float32([1, 0]), 5, allow) == []
    assert gallery.search_many(np.float32([[1, 0]]), 5, allow) == [[]]
    assert gallery.search_views(np.float32([[1, 0]]), 5, allow) == []


@both
@pytest.mark.parametrize("exclude", [{"a"}, {"a", "stranger"}])
def test_what_is_excluded_is_not_found_even_if_it_is_allowed(make, exclude):
    gallery = make(["a", "b"], np.eye(2, dtype=np.float32), normalise=False)
    for allow in (None, {"a", "b"}):
        found = gallery.search(np.float32([1, 0]), 5, allow, exclude=exclude)
        assert found == [("b", 0.0)]


@both
@scores
@pytest.mark.parametrize("allow", [None, {"a"}])
def test_an_empty_gallery_finds_nothing(make, allow, score):
    gallery = make([], np.zeros((0, 2), np.float32), product_score=score, normalise=False)
    assert gallery.search(np.float32([1, 0]), 5, allow) == []
    assert gallery.search_many(np.float32([[1, 0]]), 5, allow) == [[]]


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_a_vector_without_a_direction_is_refused_by_name(bad):
    vectors = np.ones((3, 4), np.float32)
    vectors[1] = bad
    with pytest.raises(GalleryError, match=r"vector 1 \(product 'b'\) is zero or not finite") as e:
        ExactGallery(["a", "b", "c"], vectors)
    assert e.value.fix


@pytest.mark.parametrize("shape", [(2, 4), (3,), (3, 0), (3, 4, 1)])
def test_vectors_that_do_not_fit_the_products_are_refused(shape):
    with pytest.raises(GalleryError, match="3 products for vectors"):
        ExactGallery(["a", "b", "c"], np.ones(shape, np.float32))


@both
@pytest.mark.parametrize(
    "query",
    [np.ones(3), np.ones((1, 4)), np.full(4, np.nan), np.array([1, 1, 1, np.inf])],
    ids=["short", "table", "nan", "inf"],
)
def test_a_query_of_another_kind_is_refused(make, query):
    gallery = make(["a"], np.eye(1, 4, dtype=np.float32), normalise=False)
    with pytest.raises(GalleryError, match=r"want \(4,\) and finite"):
        gallery.search(query.astype(np.float32), 1)
    for search in (gallery.search_many, gallery.search_views):
        with pytest.raises(GalleryError, match=r"want \(Q, 4\) and finite"):
            search(query[None].astype(np.float32), 1)


@both
@pytest.mark.parametrize("allow", [None, {"a", "b"}])
@pytest.mark.parametrize("kind", [np.float64, np.float16, "every second"])
def test_a_query_may_be_of_another_float_or_lie_apart_in_memory(make, allow, kind):
    rng = np.random.default_rng(0)
    gallery = make(["a", "b", "c"], as_stored(rng.normal(size=(3, 8))), normalise=False)
    query = unit(rng.normal(size=8)).astype(np.float16).astype(np.float32)
    same = np.repeat(query, 2)[::2] if kind == "every second" else query.astype(kind)
    many = np.stack([same, same], axis=1).T if kind == "every second" else np.stack([same] * 2)
    want = gallery.search(query, 2, allow)
    assert gallery.search(same, 2, allow) == want
    assert gallery.search_many(many, 2, allow) == [want, want]
    assert gallery.search_views(many, 2, allow) == want


@both
@pytest.mark.parametrize("allow", [None, {"a"}])
def test_a_query_that_is_too_large_for_float32_is_refused(make, allow):
    gallery = make(["a", "b"], np.eye(2, dtype=np.float32), normalise=False)
    with pytest.raises(GalleryError, match=r"want \(2,\) and finite"):
        gallery.search(np.array([0.0, 1e300]), 1, allow)


@pytest.mark.parametrize("plan", [{"product_score": "mean"}, {"whole": "fast"}])
def test_a_plan_of_unknown_words_is_refused_by_name(plan):
    ((name, word),) = plan.items()
    with pytest.raises(ConfigError, match=f"{name} is '{word}', want one of"):
        SearchPlan(**plan)
