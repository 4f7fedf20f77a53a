"""A snapshot stays what it is; `refreshed` follows what others commit."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from robollm.core.errors import GalleryError
from robollm.gallery.compact import compact_gallery
from robollm.gallery.engine import Engine
from robollm.gallery.plan import SearchPlan
from robollm.gallery.reader import GalleryReader
from robollm.gallery.records import MadeWith, Product
from robollm.gallery.store import create_gallery, open_gallery, open_writer

BUNDLE = MadeWith("e" * 64, "a bundle")
X, Y, Z = np.eye(3, dtype=np.float32)


@pytest.fixture
def folder(tmp_path):
    """Two products along x and y, and a container with a third that has no reference."""
    folder = tmp_path / "gallery"
    create_gallery(folder, dim=3, made_with=BUNDLE)
    with writing(folder) as writer:
        add(writer, "soap", X)
        add(writer, "mug", Y)
        writer.put_product(Product("mug", "A blue mug", extra={"aisle": 4}))
        writer.put_container("tote", ["mug", "lamp"])
        writer.put_record("calibration", "max/fused", {"accept": 0.5})
        writer.commit()
    return folder


def writing(folder):
    return open_writer(folder, made_with=BUNDLE)


def add(writer, product, *vectors, name="0"):
    sources = [f"{product}/{name}-{i}.jpg" for i in range(len(vectors))]
    writer.add_references(
        product, np.array(vectors), sources=sources, sha256s=["0" * 64] * len(vectors)
    )


def opened(folder, **plan):
    return open_gallery(folder, embedding_sha256=None, bundle="", search=SearchPlan(**plan))


def names(matches):
    return [m.product_id for m in matches]


def test_a_snapshot_tells_what_the_gallery_is(folder):
    gallery = opened(folder)
    assert (gallery.dim, gallery.generation, gallery.made_with) == (3, 1, BUNDLE)
    assert gallery.products == {"soap", "mug"}
    assert gallery.manifests.containers == {"tote": {"mug", "lamp"}}
    assert gallery.record("calibration", "max/fused") == {"accept": 0.5}
    assert gallery.record("calibration", "centroid/fused") is None
    assert [r.source for r in gallery.reference_of("soap")] == ["soap/0-0.jpg"]
    assert gallery.reference_of("lamp") == []
    assert gallery.plan == "exact: 2 references in fp16 (no index; robollm gallery tune makes one)"
    assert gallery.advice == ""
    card = gallery.card
    assert (card.products, card.references, card.containers, card.removed) == (2, 2, 1, 0)


def test_product_texts_are_looked_up_one_by_one(folder):
    gallery = opened(folder)
    want = Product("mug", "A blue mug", extra={"aisle": 4})
    assert gallery.product("mug") == want
    products = gallery.manifests.products
    assert products["mug"] == want
    assert set(products) == {"mug", "soap"}
    assert len(products) == 2
    assert "lamp" not in products
    with pytest.raises(KeyError):
        products["lamp"]
    with pytest.raises(GalleryError, match="no product 'lamp'"):
        gallery.product("lamp")


def test_nothing_new_means_the_same_snapshot(folder):
    gallery = opened(folder)
    assert gallery.refreshed() is gallery
    with writing(folder) as writer:
        add(writer, "lamp", Z)  # and leaves without a commit
    assert gallery.refreshed() is gallery


def test_an_old_snapshot_stays_as_it_was(folder):
    old = opened(folder)
    with writing(folder) as writer:
        writer.remove_product("soap")
        add(writer, "lamp", X)
        add(writer, "mug", Z, name="1")
        writer.put_container("tote", ["lamp"])
        writer.put_record("calibration", "max/fused", {"accept": 0.7})
        writer.commit()
    new = old.refreshed()
    assert (old.generation, new.generation) == (1, 2)
    assert old.products == {"soap", "mug"}
    assert new.products == {"lamp", "mug"}
    assert len(old.products) == len(new.products) == 2
    for _ in range(2):  # the second time from what is kept
        assert names(old.search(X, 3)) == ["soap", "mug"]
        assert names(new.search(X, 3)) == ["lamp", "mug"]
        assert old.search(Z, 1, {"mug", "lamp"}) == [("mug", 0.0)]
        assert new.search(Z, 1, {"mug", "lamp"}) == [("mug", 1.0)]
    assert old.manifests.containers["tote"] == {"mug", "lamp"}
    assert new.manifests.containers["tote"] == {"lamp"}
    assert old.record("calibration", "max/fused") == {"accept": 0.5}
    assert new.record("calibration", "max/fused") == {"accept": 0.7}
    assert (old.card.removed, new.card.removed) == (0, 1)


def test_a_product_that_went_and_came_back_is_the_new_one(folder):
    first = opened(folder)
    with writing(folder) as writer:
        writer.remove_product("soap")
        writer.commit()
    gone = first.refreshed()
    with writing(folder) as writer:
        add(writer, "soap", Z)
        writer.commit()
    back = gone.refreshed()
    assert [s.search(Z, 1, {"soap"}) for s in (first, gone, back)] == [
        [("soap", 0.0)], [], [("soap", 1.0)],
    ]  # fmt: skip
    assert [("soap" in s.products) for s in (first, gone, back)] == [True, False, True]


def test_a_refresh_reads_only_what_changed(folder, monkeypatch):
    gallery = opened(folder)
    with writing(folder) as writer:
        add(writer, "lamp", Z)
        writer.commit()
    monkeypatch.setattr(GalleryReader, "load", None)
    monkeypatch.setattr(Engine, "of", None)
    assert names(gallery.refreshed().search(Z, 1)) == ["lamp"]


@pytest.mark.parametrize("score", ["max", "centroid"])
def test_a_container_that_did_not_change_stays_prepared(folder, score):
    gallery = opened(folder, product_score=score)
    soap, mug = frozenset({"soap"}), frozenset({"mug"})
    for allow in (soap, mug):
        gallery.search(X, 1, allow)
    with writing(folder) as writer:
        add(writer, "mug", X, name="1")
        writer.commit()
    new = gallery.refreshed()
    kept = new._choices.of(soap, None)
    assert kept is gallery._choices.of(soap, None)
    assert new._choices.of(mug, None) is not gallery._choices.of(mug, None)
    assert new.search(X, 1, mug)[0].similarity > 0.7


def test_only_the_last_containers_stay_prepared(folder):
    gallery = opened(folder)
    first = frozenset({"soap"})
    prepared = gallery._choices.of(first, None)
    for i in range(63):
        gallery.search(X, 1, {"soap", f"other {i}"})
    assert gallery._choices.of(first, None) is prepared
    for i in range(64):
        gallery.search(X, 1, {"soap", f"another {i}"})
    assert gallery._choices.of(first, None) is not prepared


def test_a_manifest_of_very_many_products_is_searched_too(folder, monkeypatch):
    monkeypatch.setattr("robollm.gallery.choice._SMALL", 1)
    gallery = opened(folder)
    assert names(gallery.search(X, 5, {"soap", "mug", "lamp"})) == ["soap", "mug"]
    assert names(gallery.search(X, 5, {"soap", "mug"}, exclude={"soap"})) == ["mug"]
    assert names(gallery.search_views(np.array([X, Y]), 5, {"soap", "mug"})) == ["mug", "soap"]


def test_search_goes_on_after_the_gallery_is_closed(folder):
    gallery = opened(folder)
    gallery.close()
    assert names(gallery.search(X, 1)) == ["soap"]
    assert names(gallery.search(X, 1, {"mug"})) == ["mug"]


@pytest.mark.parametrize("new", [[], ["crate"]])
def test_a_container_that_was_removed_before_a_compaction_is_not_there_after_it(folder, new):
    gallery = opened(folder)
    with writing(folder) as writer:
        writer.remove_container("tote")
        for container in new:
            writer.put_container(container, ["mug"])
        writer.commit()
    compact_gallery(folder)  # no reference is dead, so the vectors stay where they are
    assert list(gallery.refreshed().manifests.containers) == new


def test_threads_that_search_never_see_half_a_change(folder):
    """Every commit moves two products together; no search may find one of them moved alone."""
    gallery = opened(folder)
    current, stop, wrong = [gallery], threading.Event(), []

    def search():
        while not stop.wait(0.001):
            now = current[0]
            for allow in (None, frozenset({"soap", "mug"})):
                found = dict(now.search(np.array([1, 1, 0], np.float32) / 2**0.5, 5, allow))
                if abs(found["soap"] - found["mug"]) > 1e-3:
                    wrong.append((now.generation, found))

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        with writing(folder) as writer:
            for i in range(12):
                angle = 0.1 * i
                for product, sign in (("soap", 1), ("mug", -1)):
                    writer.remove_product(product)
                    turned = np.pi / 4 + sign * angle
                    add(writer, product, np.array([np.cos(turned), np.sin(turned), 0]), name=str(i))
                writer.commit()
                current[0] = current[0].refreshed()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert current[0].generation == 13


def test_two_threads_may_refresh_the_same_snapshot(folder):
    gallery = opened(folder)
    with writing(folder) as writer:
        for i in range(200):
            add(writer, f"new {i}", Z)
        writer.commit()
    found = []
    threads = [threading.Thread(target=lambda: found.append(gallery.refreshed())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(g.products == found[0].products and len(g.products) == 202 for g in found)
    assert all(g.search(Z, 300) == found[0].search(Z, 300) for g in found)


def test_another_bundle_is_refused_when_it_is_opened(folder):
    with pytest.raises(GalleryError, match="was made with bundle a bundle, the loaded bundle is b"):
        open_gallery(folder, embedding_sha256="f" * 64, bundle="b")
