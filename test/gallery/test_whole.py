"""Searching everything: scans, codes and graphs against one NumPy product over all rows."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robollm.gallery import scan, whole
from robollm.gallery.graph import build_graph, read_graph
from robollm.gallery.plane import Plane, all_centroids, renewed_centroids, signatures
from robollm.gallery.scan import Codes, Scan, to_bytes
from robollm.gallery.whole import WholeSearch


def halves(rng, n, dim, families=20):
    """Unit vectors in families of look-alikes, rounded as they are stored."""
    middle = rng.normal(size=(families, dim))
    rows = middle[rng.integers(0, families, n)] + 0.5 * rng.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def plane_of(rng, n, dim, products, tail=0, dead=0.0):
    rows = halves(rng, n + tail, dim)
    product = rng.integers(0, products, n + tail).astype(np.int32)
    product[rng.random(n + tail) < dead] = -1
    return Plane(rows[:n], rows[n:], product)


def by_hand(plane, query, allowed=None):
    """Product -> best cosine over the rows that are allowed, in float64."""
    cosines = np.concatenate([plane.base, plane.tail]).astype(np.float64) @ query
    keep = plane.alive if allowed is None else allowed
    best: dict[int, float] = {}
    for product, cosine in zip(plane.product[keep].tolist(), cosines[keep].tolist(), strict=True):
        best[product] = max(best.get(product, -2.0), cosine)
    return best


def assert_best(found, want, k):
    """The k best and whatever ties with the last one, with their cosines."""
    products, scores = found
    assert len(set(products.tolist())) == len(products)
    true = np.array(sorted(want.values(), reverse=True))
    assert len(products) >= min(k, len(want))
    for product, score in zip(products.tolist(), scores.tolist(), strict=True):
        assert score == pytest.approx(want[product], abs=2e-6)
    n = min(k, len(want))
    np.testing.assert_allclose(np.sort(scores)[::-1][:n], true[:n], atol=2e-6)


@pytest.fixture(autouse=True)
def _small_shares(monkeypatch):
    """Threads share even small stretches."""
    monkeypatch.setattr(whole, "_WORTH_A_THREAD", 100)


WAYS = ["fp16", "codes", "graph"]


def over(way, plane, covered, threads=2):
    rows = plane.base[:covered]
    if way == "codes":
        return WholeSearch.over(plane, codes=to_bytes(rows), threads=threads)
    if way == "graph":
        graph = build_graph(
            rows, links=16, ef_construction=80, ef=4 * covered, progress=lambda done, total: None
        )
        return WholeSearch.over(plane, graph=graph, threads=threads)
    return WholeSearch.over(plane, threads=threads)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=25)
@given(data=st.data())
def test_every_way_of_searching_finds_what_one_product_over_all_rows_finds(way, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    n, tail = data.draw(st.integers(1, 700)), data.draw(st.integers(0, 150))
    dim = data.draw(st.sampled_from([5, 16, 40]))
    plane = plane_of(rng, n, dim, data.draw(st.integers(1, 300)), tail, data.draw(
        st.sampled_from([0.0, 0.1, 0.9])))  # fmt: skip
    search = over(way, plane, data.draw(st.integers(1, n)))
    allowed = None
    if data.draw(st.booleans()):
        allowed = plane.alive & (rng.random(len(plane)) < 0.5)
    queries = rng.normal(size=(data.draw(st.integers(1, 4)), dim)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    k = data.draw(st.sampled_from([1, 3, 40]))
    for query, found in zip(queries, search.best_many(queries, k, allowed), strict=True):
        want = by_hand(plane, query, allowed)
        assert_best(found, want, k)
        assert_best(search.best(query, k, allowed), want, k)


@pytest.mark.parametrize("way", ["fp16", "codes"])
def test_all_that_ties_with_the_last_one_is_answered_however_many_there_are(way):
    rng = np.random.default_rng(0)
    rows = halves(rng, 3000, 24)
    rows[500:2500] = rows[0]
    plane = Plane(rows, rows[:0], np.arange(3000, dtype=np.int32))
    products, scores = over(way, plane, 3000).best(rows[0].astype(np.float32), 2)
    assert set(products.tolist()) == {0, *range(500, 2500)}
    assert len(set(scores.tolist())) == 1


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), dim=st.sampled_from([3, 16, 48, 200]), wild=st.booleans())
def test_codes_are_never_further_off_than_their_bound(seed, dim, wild):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(300, dim))
    if wild:  # a few dimensions that outweigh the others, as embeddings often have
        rows[:, rng.integers(0, dim)] *= 50
        rows[rng.integers(0, 300)] *= 1e-3
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    queries = rng.normal(size=(5, dim)).astype(np.float32)
    queries[4] = 0
    for codes in (Codes(rows), to_bytes(rows)):
        asked = codes.asked(queries)
        index = scan.view(codes)
        scores, found = index.search(asked.values, 300)
        for q in range(5):
            true = rows[found[q]].astype(np.float64) @ queries[q]
            off = np.abs(scores[q] * asked.step[q] - true).max()
            assert off <= asked.error[q]


def test_a_bound_is_not_so_wide_that_codes_are_of_no_use():
    rows = halves(np.random.default_rng(1), 2000, 256)
    asked = to_bytes(rows).asked(rows[:5].astype(np.float32))
    assert asked.error.max() < 0.03
    assert Codes(rows).asked(rows[:5].astype(np.float32)).error.max() < 1e-4


def test_what_a_scan_left_out_is_below_its_ceiling():
    rng = np.random.default_rng(2)
    rows = halves(rng, 2000, 32)
    query = rng.normal(size=32).astype(np.float32)
    true = rows.astype(np.float64) @ query
    for codes in (Codes(rows), to_bytes(rows)):
        found = Scan(codes, 100).candidates(query, 50, None)
        assert not found.everything
        others = np.setdiff1d(np.arange(2000), found.rows - 100)
        assert true[others].max() <= found.ceiling


def test_a_graph_over_the_mapped_rows_survives_a_file(tmp_path):
    rows = halves(np.random.default_rng(3), 800, 16)
    built = build_graph(rows, links=8, ef_construction=40, ef=64, progress=lambda d, t: None)
    built.write(tmp_path / "graph")
    assert (tmp_path / "graph").stat().st_size < 800 * 4 * 2 * 20  # links only, no vectors
    read = read_graph(tmp_path / "graph", rows, 64)
    for query in rows[:20].astype(np.float32):
        want = built.candidates(query, 20, None).rows
        np.testing.assert_array_equal(read.candidates(query, 20, None).rows, want)
    assert read_graph(tmp_path / "graph", rows[:799], 64) is None


def test_building_a_graph_tells_how_far_it_is():
    told = []
    rows = halves(np.random.default_rng(4), 5000, 8)
    build_graph(rows, links=4, ef_construction=8, ef=8, progress=lambda d, t: told.append((d, t)))
    assert told == [(4096, 5000), (5000, 5000)]


def test_many_threads_search_the_same_graph_and_get_the_same_answers():
    rng = np.random.default_rng(5)
    plane = plane_of(rng, 3000, 32, 1500, tail=300)
    search = over("graph", plane, 3000)
    queries = rng.normal(size=(40, 32)).astype(np.float32)
    want = [search.best(q, 5) for q in queries]
    wrong = []

    def run():
        for query, best in zip(queries, want, strict=True):
            got = search.best(query, 5)
            if not all(np.array_equal(a, b) for a, b in zip(got, best, strict=True)):
                wrong.append(query)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_search_does_not_wait_for_helpers_that_are_at_other_searches():
    plane = plane_of(np.random.default_rng(6), 2000, 16, 900)
    search = over("fp16", plane, 2000)
    query = np.eye(1, 16, dtype=np.float32)[0]
    free, found = threading.Event(), []
    helpers = whole._threads()
    for _ in range(whole.cores()):
        helpers.submit(free.wait, 30)
    thread = threading.Thread(target=lambda: found.append(search.best(query, 3)))
    thread.start()
    thread.join(20)
    free.set()
    thread.join()
    assert_best(found[0], by_hand(plane, query), 3)
    assert not thread.is_alive()


class _Counting:
    """A FAISS index that notes how many threads it may use."""

    def __init__(self, index):
        self._index, self.threads = index, []

    def search(self, *args, **kwargs):
        self.threads.append(scan.faiss().omp_get_max_threads())
        return self._index.search(*args, **kwargs)


def test_only_a_batch_that_is_worth_it_wakes_the_threads_of_faiss():
    before = scan.faiss().omp_get_max_threads()
    scan.faiss().omp_set_num_threads(3)  # of this thread only
    try:
        part = Scan(Codes(halves(np.random.default_rng(7), 2000, 16)), 0)
        part._index = _Counting(part._index)
        queries = np.eye(16, dtype=np.float32)
        part.candidates(queries[0], 5, None)
        part.candidates_many(queries[:4], 5, None)
        part.candidates_many(queries, 5, None)
        assert part._index.threads == [1, 1, 3]
        assert scan.faiss().omp_get_max_threads() == 3
    finally:
        scan.faiss().omp_set_num_threads(before)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31))
def test_centroids_kept_up_to_date_are_those_made_anew(seed):
    rng = np.random.default_rng(seed)
    before = plane_of(rng, 200, 8, 40, dead=0.2)
    old = all_centroids(before, 40)
    rows = np.concatenate([before.base, halves(rng, 30, 8)])
    product = np.concatenate([before.product, rng.integers(30, 50, 30)]).astype(np.int32)
    product[rng.integers(0, 200, 20)] = -1
    after = Plane(rows, rows[:0], product)
    dirty = np.zeros(51, bool)
    dirty[product[200:]] = True
    gone = np.flatnonzero(product[:200] != before.product)
    dirty[before.product[gone]] = True
    dirty[-1] = False
    new, want = renewed_centroids(old, after, dirty), all_centroids(after, 50)
    alive = np.flatnonzero(new.alive)
    order = np.argsort(new.product[alive])
    np.testing.assert_array_equal(new.product[alive][order], want.product)
    np.testing.assert_array_equal(new.take(alive)[order], want.base)


def test_a_signature_changes_with_the_references_and_not_with_their_order():
    products, references = np.array([7, 3, 7, 3]), np.array([1, 2, 3, 4])
    numbers, marks = signatures(products, references)
    assert numbers.tolist() == [3, 7]
    again = signatures(products[::-1], references[::-1])[1]
    np.testing.assert_array_equal(marks, again)
    other = signatures(products, np.array([1, 2, 3, 5]))[1]
    assert marks[0] != other[0]
    assert marks[1] == other[1]
    swapped = signatures(products, np.array([2, 1, 3, 4]))[1]
    assert (marks != swapped).all()
