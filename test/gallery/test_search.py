"""FaissGallery against ExactGallery, and ExactGallery against arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robollm.core.errors import GalleryError
from robollm.gallery.base import ExactGallery
from robollm.gallery.faiss_gallery import FaissGallery

TOLERANCE = 2e-6  # float32 sums in another order
KINDS = [ExactGallery, FaissGallery.of]
both = pytest.mark.parametrize("make", KINDS, ids=["exact", "faiss"])


@st.composite
def stocks(draw):
    """Products with one to four vectors each, and which of them may be answered."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=12))
    ids = [f"B{i:02d}" for i, n in enumerate(counts) for _ in range(n)]
    rng.shuffle(ids)
    vectors = rng.normal(size=(len(ids), 8)).astype(np.float32) * rng.uniform(0.1, 9)
    allow = draw(
        st.none() | st.sets(st.sampled_from([*sorted(set(ids)), "stranger"]), max_size=len(counts))
    )
    query = rng.normal(size=8)
    return ids, vectors, allow, (query / np.linalg.norm(query)).astype(np.float32)


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


@given(stock=stocks(), k=st.integers(1, 20))
def test_faiss_agrees_with_the_exact_gallery(stock, k):
    ids, vectors, allow, query = stock
    want = ExactGallery(ids, vectors).search(query, k, allow)
    got = FaissGallery.of(ids, vectors).search(query, k, allow)
    assert [m.product_id for m in got] == [m.product_id for m in want]
    np.testing.assert_allclose(
        [m.similarity for m in got], [m.similarity for m in want], atol=TOLERANCE
    )


@given(stock=crowds(), k=st.integers(1, 12))
def test_faiss_agrees_on_ties_too(stock, k):
    ids, vectors, allow, query = stock
    want = ExactGallery(ids, vectors).search(query, k, allow)
    assert FaissGallery.of(ids, vectors).search(query, k, allow) == want


@given(stock=stocks(), k=st.integers(1, 20))
def test_the_exact_gallery_is_right_by_hand(stock, k):
    ids, vectors, allow, query = stock
    best: dict[str, float] = {}
    for name, v in zip(ids, vectors.astype(float), strict=True):
        if allow is None or name in allow:
            cosine = float(v @ query.astype(float)) / math.sqrt(float(v @ v))
            best[name] = max(cosine, best.get(name, -9.0))
    got = ExactGallery(ids, vectors).search(query, k, allow)
    assert len(got) == min(k, len(best))
    assert [m.product_id for m in got] == sorted(best, key=lambda n: -best[n])[:k]
    assert [m.similarity for m in got] == pytest.approx([best[m.product_id] for m in got], abs=1e-5)


@both
def test_many_equal_products_are_ordered_by_their_id(make):
    ids = [f"B{i:03d}" for i in range(200, 0, -1)]
    gallery = make(ids, np.tile(np.float32([[0, 2]]), (200, 1)))
    found = gallery.search(np.float32([0, 1]), 3)
    assert [(m.product_id, m.similarity) for m in found] == [
        ("B001", 1.0), ("B002", 1.0), ("B003", 1.0),
    ]  # fmt: skip


@both
def test_a_gallery_knows_its_size_and_products(make):
    gallery = make(["b", "a", "b"], np.eye(3, 5, dtype=np.float32))
    assert gallery.dim == 5
    assert set(gallery.products) == {"a", "b"}


@both
@pytest.mark.parametrize("allow", [set(), {"stranger"}])
def test_nothing_is_found_where_nothing_is_allowed(make, allow):
    assert make(["a"], np.ones((1, 2), np.float32)).search(np.float32([1, 0]), 5, allow) == []


@both
@pytest.mark.parametrize("allow", [None, {"a"}])
def test_an_empty_gallery_finds_nothing(make, allow):
    assert make([], np.zeros((0, 2), np.float32)).search(np.float32([1, 0]), 5, allow) == []


@both
@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_a_vector_without_a_direction_is_refused_by_name(make, bad):
    vectors = np.ones((3, 4), np.float32)
    vectors[1] = bad
    with pytest.raises(GalleryError, match=r"vector 1 \(product 'b'\) is zero or not finite") as e:
        make(["a", "b", "c"], vectors)
    assert e.value.fix


@both
@pytest.mark.parametrize("shape", [(2, 4), (3,), (3, 0), (3, 4, 1)])
def test_vectors_that_do_not_fit_the_products_are_refused(make, shape):
    with pytest.raises(GalleryError, match="3 products for vectors"):
        make(["a", "b", "c"], np.ones(shape, np.float32))


@both
@pytest.mark.parametrize(
    "query",
    [np.ones(3), np.ones((1, 4)), np.full(4, np.nan), np.array([1, 1, 1, np.inf])],
    ids=["short", "table", "nan", "inf"],
)
def test_a_query_of_another_kind_is_refused(make, query):
    gallery = make(["a"], np.ones((1, 4), np.float32))
    with pytest.raises(GalleryError, match=r"want \(4,\) and finite"):
        gallery.search(query.astype(np.float32), 1)


def test_an_index_of_another_length_or_metric_is_refused():
    import faiss

    index = faiss.IndexFlatIP(2)
    index.add(np.ones((3, 2), np.float32))
    with pytest.raises(GalleryError, match=r"3 vectors .* for 2 rows"):
        FaissGallery(["a", "b"], index)
    with pytest.raises(GalleryError, match="by inner product"):
        FaissGallery([], faiss.IndexFlatL2(2))
