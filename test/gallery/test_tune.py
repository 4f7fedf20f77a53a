"""`tune` measures, keeps an index, and the index never becomes the truth."""

from __future__ import annotations

import json
import resource
import shutil
import signal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robollm.core.errors import GalleryError
from robollm.gallery import derived, scan
from robollm.gallery import tune as tuning
from robollm.gallery.base import ExactGallery
from robollm.gallery.compact import compact_gallery
from robollm.gallery.plan import SearchPlan
from robollm.gallery.records import MadeWith
from robollm.gallery.store import create_gallery, open_gallery, open_writer
from robollm.gallery.tune import tune
from robollm.gallery.vectors import unit_rows

BUNDLE = MadeWith("e" * 64, "a bundle")
DIM, PRODUCTS = 16, 1020
SCORES = ["max", "centroid"]


def vectors_of(rng, n):
    return rng.normal(size=(n, DIM)).astype(np.float32)


def put(writer, product, vectors, name="0"):
    sources = [f"{product}/{name}-{i}.jpg" for i in range(len(vectors))]
    writer.add_references(product, vectors, sources=sources, sha256s=["0" * 64] * len(vectors))


def opened(folder, score="max", whole="auto"):
    return open_gallery(folder, embedding_sha256=None, bundle="", search=SearchPlan(score, whole))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A gallery with two references a product, and what is in it."""
    folder = tmp_path_factory.mktemp("made") / "gallery"
    rng = np.random.default_rng(0)
    create_gallery(folder, dim=DIM, made_with=BUNDLE)
    stock = {}
    with open_writer(folder, made_with=BUNDLE) as writer:
        for i in range(PRODUCTS):
            stock[f"B{i:04d}"] = vectors_of(rng, 2)
            put(writer, f"B{i:04d}", stock[f"B{i:04d}"])
        writer.commit()
    return folder, stock


@pytest.fixture(scope="module")
def tuned(made, tmp_path_factory):
    """That gallery with graphs for both scores, and the two reports."""
    folder = tmp_path_factory.mktemp("tuned") / "gallery"
    shutil.copytree(made[0], folder)
    return folder, {
        s: tune(folder, product_score=s, whole="approximate", recall_min=0.9) for s in SCORES
    }


@pytest.fixture
def folder(tuned, tmp_path):
    """A copy to change."""
    shutil.copytree(tuned[0], tmp_path / "gallery")
    return tmp_path / "gallery"


def oracle(stock, score):
    ids = [p for p, rows in stock.items() for _ in rows]
    rows = unit_rows(np.concatenate(list(stock.values())), ids, DIM).astype(np.float32)
    return ExactGallery(ids, rows, product_score=score, normalise=False)


def queries(n=20):
    rows = np.random.default_rng(7).normal(size=(n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def assert_agree(gallery, stock, score):
    exact = oracle(stock, score)
    for query in queries():
        got, want = gallery.search(query, 5), exact.search(query, 5)
        assert [m.similarity for m in got] == pytest.approx(
            [m.similarity for m in want], abs=2e-6 if score == "max" else 1e-3
        )


@pytest.mark.parametrize("score", SCORES)
def test_the_report_says_what_was_measured_and_is_kept_as_a_record(tuned, made, score):
    folder, reports = tuned
    report = reports[score]
    n = 2 * PRODUCTS if score == "max" else PRODUCTS
    assert (report.references, report.rows, report.k) == (2 * PRODUCTS, n, 100)
    assert report.chosen.startswith("HNSW")
    assert {c.name.split(",")[0] for c in report.candidates} == {"fp16", "8 bit", "HNSW 32"}
    assert all(c.ms > 0 and c.recall_low <= c.recall <= 1 for c in report.candidates)
    assert ("hidden while it asks" if score == "max" else "with noise") in report.queries
    assert report.written_bytes > 0
    name = "whole" if score == "max" else "whole/centroid"
    record = opened(folder).record("tuning", name)
    assert record["chosen"] == report.chosen
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("whole", ["auto", "approximate"])
def test_the_index_is_used_and_finds_the_same(tuned, made, score, whole):
    gallery = opened(tuned[0], score, whole)
    assert gallery.plan.startswith("HNSW ef ")
    assert_agree(gallery, made[1], score)
    assert opened(tuned[0], score, "exact").plan.startswith("exact: ")


@pytest.mark.parametrize("score", SCORES)
def test_what_came_after_the_index_is_found_and_what_went_is_not(folder, made, score):
    stock = dict(made[1])
    before = opened(folder, score, "approximate")
    rng = np.random.default_rng(3)
    with open_writer(folder, made_with=BUNDLE) as writer:
        for i in range(0, PRODUCTS, 10):
            writer.remove_product(f"B{i:04d}")
            del stock[f"B{i:04d}"]
        for i in range(1, PRODUCTS, 10):  # one more reference
            more = vectors_of(rng, 1)
            put(writer, f"B{i:04d}", more, "more")
            stock[f"B{i:04d}"] = np.concatenate([stock[f"B{i:04d}"], more])
        for i in range(60):
            stock[f"N{i:04d}"] = vectors_of(rng, 1)
            put(writer, f"N{i:04d}", stock[f"N{i:04d}"])
        writer.commit()
    for gallery in (before.refreshed(), opened(folder, score, "approximate")):
        assert gallery.plan.startswith("HNSW")
        assert_agree(gallery, stock, score)
        assert "came after the index: robollm gallery tune" in gallery.advice
        assert "are dead: robollm gallery compact" in gallery.advice
    assert_agree(before, made[1], score)


def test_an_open_gallery_takes_a_new_index_over(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "gallery")
    gallery = opened(tmp_path / "gallery")
    assert "no index; robollm gallery tune makes one" in gallery.plan
    tune(tmp_path / "gallery", whole="approximate", recall_min=0.9)
    assert gallery.refreshed().plan.startswith("HNSW")
    assert "no index" in gallery.plan


def test_the_fastest_exact_search_can_be_asked_for(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "gallery")
    report = tune(tmp_path / "gallery", whole="exact")
    assert report.chosen in {"fp16", "8 bit, re-scored"}
    assert {c.name for c in report.candidates} == {"fp16", "8 bit, re-scored"}
    assert_agree(opened(tmp_path / "gallery"), made[1], "max")


@pytest.mark.parametrize("score", SCORES)
def test_codes_that_were_kept_are_used_exactly(made, tmp_path, monkeypatch, score):
    shutil.copytree(made[0], tmp_path / "gallery")
    monkeypatch.setattr(tuning, "_choose", lambda *_: (1, "chosen by the test"))
    tune(tmp_path / "gallery", product_score=score, whole="exact")
    gallery = opened(tmp_path / "gallery", score)
    assert "8-bit codes, re-scored in fp16" in gallery.plan
    assert_agree(gallery, made[1], score)


def test_an_exact_search_within_the_budget_needs_no_index(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "gallery")
    report = tune(tmp_path / "gallery", budget_ms=1e6)
    assert report.chosen in {"fp16", "8 bit, re-scored"}
    assert "is enough" in report.why


def test_too_few_vectors_are_searched_exactly_and_the_report_says_so(tmp_path):
    folder = tmp_path / "gallery"
    create_gallery(folder, dim=DIM, made_with=BUNDLE)
    with open_writer(folder, made_with=BUNDLE) as writer:
        put(writer, "a", vectors_of(np.random.default_rng(0), 3))
        writer.commit()
    report = tune(folder)
    assert report.chosen == "fp16"
    assert "3 vectors are too few" in report.why
    assert report.candidates == ()
    with pytest.raises(GalleryError, match="has 3 vectors to search, want 1000"):
        tune(folder, whole="approximate")


def test_no_index_that_misses_too_much_is_kept(made, tmp_path, monkeypatch):
    shutil.copytree(made[0], tmp_path / "gallery")
    monkeypatch.setattr(tuning, "_wilson_low", lambda hits, n: 0.5)
    monkeypatch.setattr(tuning, "QUERIES", 100)
    with pytest.raises(GalleryError, match=r"no index keeps recall 0\.99"):
        tune(tmp_path / "gallery", whole="approximate")
    assert not (tmp_path / "gallery/index").exists()
    report = tune(tmp_path / "gallery", budget_ms=0.0)
    assert report.why == "no index keeps recall 0.99"


def test_approximate_search_without_an_index_is_refused_with_the_fix(made):
    with pytest.raises(GalleryError, match="can't be searched approximately: no index") as e:
        opened(made[0], whole="approximate")
    assert "robollm gallery tune" in e.value.fix


def test_after_a_compaction_an_open_gallery_is_new_before_it_is_fast_and_says_so(made, folder):
    stock = dict(made[1])
    gallery = opened(folder, whole="approximate")
    with open_writer(folder) as writer:
        writer.remove_product("B0007")
        writer.commit()
    compact_gallery(folder)
    del stock["B0007"]
    after = gallery.refreshed()
    assert "B0007" not in after.products
    assert after.plan.startswith("exact")
    assert "searched exactly, not approximately as asked for" in after.advice
    assert_agree(after, stock, "max")
    tune(folder, whole="approximate", recall_min=0.9)
    assert after.refreshed().plan.startswith("HNSW")


@pytest.mark.parametrize("score", SCORES)
@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_damaged_index_is_left_out_and_said_or_harmless(folder, made, score, data):
    files = sorted((folder / "index").glob(f"{score}*"))
    file = data.draw(st.sampled_from(files))
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "gone"]))
    if kind == "flip":
        bit = 1 << data.draw(st.integers(0, 7))
        file.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
    elif kind == "cut":
        file.write_bytes(whole[:at])
    else:
        file.unlink()
    try:
        gallery = opened(folder, score)
        if file.suffix != ".json":  # a flipped blank in the JSON does no harm
            assert "index" in gallery.plan or "damaged" in gallery.plan
            assert gallery.plan.startswith("exact")
        assert_agree(gallery, made[1], score)
        gallery.close()
    finally:
        file.write_bytes(whole)


def test_a_bound_that_became_smaller_on_the_disk_is_not_believed(made, tmp_path, monkeypatch):
    """A flipped digit in the card would make the exact search miss products."""
    shutil.copytree(made[0], tmp_path / "gallery")
    monkeypatch.setattr(tuning, "_measured", _eight_bits_first)
    tune(tmp_path / "gallery", whole="exact")
    assert "by 8-bit codes" in opened(tmp_path / "gallery").plan
    card = tmp_path / "gallery/index/max.json"
    card.write_text(card.read_text().replace('"residual": ', '"residual": 0.000001, "was": '))
    gallery = opened(tmp_path / "gallery")
    assert "the index is damaged and left out" in gallery.plan
    assert_agree(gallery, made[1], "max")


def _eight_bits_first(ways, asked):
    return [tuning.Candidate(w.name, w.codes is None, 1.0, 1.0, 0.0, 0) for w in ways]


def test_an_index_that_faiss_cannot_read_is_left_out(folder, made, monkeypatch):
    def unreadable(*args):
        raise RuntimeError("Index type 0x12345678 not recognized")

    monkeypatch.setattr(scan.faiss(), "read_index", unreadable)
    gallery = opened(folder)
    assert "the index is damaged and left out" in gallery.plan
    assert_agree(gallery, made[1], "max")


def test_an_index_of_another_gallery_is_left_out(folder, made, tmp_path):
    other = tmp_path / "other"
    create_gallery(other, dim=DIM, made_with=BUNDLE)
    rng = np.random.default_rng(99)
    with open_writer(other, made_with=BUNDLE) as writer:
        stock = {f"C{i}": vectors_of(rng, 2) for i in range(PRODUCTS)}
        for product, rows in stock.items():
            put(writer, product, rows)
        writer.commit()
    shutil.copytree(folder / "index", other / "index")
    for score in SCORES:
        gallery = opened(other, score)
        assert_agree(gallery, stock, score)
        assert "of vectors that are no longer there" in gallery.plan


@pytest.mark.parametrize("whole", ["exact", "approximate"])
def test_a_disk_that_is_full_leaves_the_old_index_and_no_rest_of_a_new_one(
    folder, monkeypatch, whole
):
    monkeypatch.setattr(tuning, "_measured", _eight_bits_first)
    monkeypatch.setattr(tuning, "save", _save_on_a_small_disk)
    before = sorted(p.name for p in (folder / "index").iterdir())
    with pytest.raises(GalleryError, match=r"can't write .*index"):
        tune(folder, whole=whole)
    assert sorted(p.name for p in (folder / "index").iterdir()) == before
    assert opened(folder).plan.startswith("HNSW")


def _save_on_a_small_disk(*args, **kwargs):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        return derived.save(*args, **kwargs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_tuning_again_replaces_the_files(folder):
    before = {p.name for p in (folder / "index").iterdir()}
    tune(folder, whole="approximate", recall_min=0.9, seed=1)
    after = {p.name for p in (folder / "index").iterdir()}
    assert len(after) == len(before)
    assert {n for n in after if n.startswith("centroid")} < before
    assert not {n for n in after if n.endswith(".graph") and n.startswith("max")} & before


def test_of_good_indexes_the_widest_within_the_budget_is_kept_because_real_queries_are_harder():
    def ways(*ms):
        return [tuning.Candidate(f"ef {i}", t, 1.0, 0.996, 0.0, 0) for i, t in enumerate(ms)]

    def chosen(budget_ms, *ms):
        return tuning._index([2, 3, 4], ways(*ms), 0.99, budget_ms)[0]

    assert chosen(2.0, 12, 7, 0.9, 1.1, 2.6) == 3
    assert chosen(0.5, 12, 7, 0.9, 1.1, 2.6) == 2
