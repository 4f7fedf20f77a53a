"""What a writer keeps, refuses and rolls back; and how a gallery is compacted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from robollm.core.errors import GalleryError
from robollm.gallery.check import check_gallery
from robollm.gallery.compact import compact_gallery
from robollm.gallery.manifest import Manifests
from robollm.gallery.records import MadeWith, Product
from robollm.gallery.store import create_gallery, open_gallery, open_writer, read_card

DIM = 4
BUNDLE = MadeWith("e" * 64, "sketch 1.0 (aaaa)")


@pytest.fixture
def folder(tmp_path):
    create_gallery(tmp_path / "gallery", dim=DIM, made_with=BUNDLE)
    return tmp_path / "gallery"


@pytest.fixture
def writer(folder):
    with open_writer(folder, made_with=BUNDLE) as writer:
        yield writer


def vector(seed):
    return np.random.default_rng(seed).standard_normal((1, DIM)).astype(np.float32)


def add(writer, product, *numbers):
    for n in numbers:
        writer.add_references(
            product, vector(n), sources=[f"{product}/{n}.jpg"], sha256s=[f"{n:064x}"]
        )


def opened(folder):
    return open_gallery(folder, embedding_sha256=None, bundle="")


def answers(gallery, k=9):
    return [gallery.search(vector(n)[0], k) for n in range(6)]


def test_a_product_that_is_put_again_keeps_its_references(folder, writer):
    add(writer, "soap", 1, 2)
    whole = Product("soap", "Soap", "smells", 0.5, (1.0, 2.0, 3.0), {"aisle": [4, None]})
    writer.put_product(whole)
    writer.commit()
    gallery = opened(folder)
    assert gallery.product("soap") == whole
    assert [r.source for r in gallery.reference_of("soap")] == ["soap/1.jpg", "soap/2.jpg"]
    gallery.close()


def test_leaving_without_commit_changes_nothing(folder):
    with open_writer(folder, made_with=BUNDLE) as writer:
        add(writer, "soap", 1)
    assert read_card(folder).generation == 0
    assert check_gallery(folder).problems == []


def test_a_commit_of_nothing_is_no_commit(writer):
    assert writer.commit() == 0
    add(writer, "soap", 1)
    assert writer.commit() == 1
    writer.put_container("tote", ["soap"])
    assert writer.commit() == 2
    writer.put_container("tote", ["soap"])
    assert writer.commit() == 2


def test_a_rollback_forgets_rows_and_vectors_and_later_commits_are_whole(folder, writer):
    add(writer, "soap", 1)
    writer.commit()
    add(writer, "soap", 2, 3)
    writer.rollback()
    add(writer, "mug", 4)
    writer.commit()
    assert set(writer.known()) == {"soap/1.jpg", "mug/4.jpg"}
    assert (folder / "vectors-000001.fp16").stat().st_size >= 2 * DIM * 2
    gallery = opened(folder)
    assert gallery.search(vector(4)[0], 1)[0].product_id == "mug"
    gallery.close()
    assert check_gallery(folder).problems == []


@pytest.mark.parametrize(
    "bad", [np.zeros((1, DIM)), np.full((1, DIM), np.nan), np.full((1, DIM), np.inf)]
)
def test_an_unusable_vector_is_refused_by_the_name_of_its_picture(folder, writer, bad):
    add(writer, "soap", 1)
    two = np.concatenate([vector(2), bad.astype(np.float32)])
    with pytest.raises(GalleryError, match=r"'mug/bad\.jpg' is zero or not finite"):
        writer.add_references("mug", two, sources=["mug/a.jpg", "mug/bad.jpg"], sha256s=["0"] * 2)
    writer.commit()
    assert set(writer.known()) == {"soap/1.jpg"}, "the transaction went on without the refused"
    assert read_card(folder).products_without_reference == 0


def test_vectors_of_another_length_are_refused(writer):
    with pytest.raises(GalleryError, match=r"\(1, 5\) for 1 images, want \(1, 4\)"):
        writer.add_references("a", np.ones((1, 5)), sources=["a/1"], sha256s=["0"])
    with pytest.raises(GalleryError, match="1 digests for 2 images"):
        writer.add_references("a", np.ones((2, 4)), sources=["a/1", "a/2"], sha256s=["0"])


def test_a_picture_has_one_living_reference(writer):
    add(writer, "soap", 1)
    with pytest.raises(GalleryError, match=r"has a reference of 'soap/1\.jpg' already"):
        add(writer, "soap", 1)
    with pytest.raises(GalleryError, match=r"names 'a/1' more than once"):
        writer.add_references("a", np.ones((2, 4)), sources=["a/1", "a/1"], sha256s=["0", "1"])
    writer.remove_reference("soap/1.jpg")
    add(writer, "soap", 1)
    writer.commit()
    assert set(writer.known()) == {"soap/1.jpg"}


def test_what_is_unknown_can_not_be_removed(writer):
    add(writer, "soap", 1)
    for remove, name in (
        (writer.remove_product, "mug"),
        (writer.remove_reference, "soap/2.jpg"),
        (writer.remove_container, "tote"),
        (lambda name: writer.remove_record("tuning", name), "whole"),
    ):
        with pytest.raises(GalleryError, match=f"has no .*{name}"):
            remove(name)
    with pytest.raises(GalleryError, match="soap/9"):
        writer.remove_references(["soap/1.jpg", "soap/9.jpg"])
    assert set(writer.known()) == {"soap/1.jpg"}


def test_a_removed_product_stays_in_its_container_and_may_come_back(folder, writer):
    add(writer, "soap", 1)
    writer.put_container("tote", ["soap"])
    writer.commit()
    writer.remove_product("soap")
    writer.commit()
    gallery = opened(folder)
    assert gallery.products == set()
    assert gallery.manifests.containers == {"tote": {"soap"}}
    add(writer, "soap", 2)
    writer.commit()
    assert gallery.refreshed().products == {"soap"}
    gallery.close()


def test_a_product_without_pictures_is_known_and_never_found(folder, writer):
    writer.put_product(Product("lamp", "A lamp"))
    add(writer, "soap", 1)
    writer.commit()
    gallery = opened(folder)
    assert gallery.product("lamp").title == "A lamp"
    assert gallery.products == {"soap"}
    assert [m.product_id for m in gallery.search(vector(1)[0], 9)] == ["soap"]
    assert gallery.card.products_without_reference == 1
    gallery.close()


@pytest.mark.parametrize("bad", ["", "  ", "a\0b", "\ud800", None, 7])
def test_ids_that_can_not_be_kept_are_refused(writer, bad):
    for put in (
        lambda: writer.put_product(Product(bad)),
        lambda: writer.put_container(bad, ["a"]),
        lambda: writer.put_container("tote", ["a", bad]),
        lambda: writer.put_record(bad, "x", {}),
        lambda: writer.add_references(bad, vector(1), sources=["a"], sha256s=["0"]),
        lambda: writer.add_references("a", vector(1), sources=[bad], sha256s=["0"]),
    ):
        with pytest.raises(GalleryError) as e:
            put()
        assert e.value.fix
    assert writer.commit() == 0


@pytest.mark.parametrize(
    "bad",
    [
        Product("a", weight_kg=float("nan")),
        Product("a", dimensions_m=(1.0, 2.0, float("inf"))),
        Product("a", extra={"x": object()}),
    ],
)
def test_values_that_can_not_be_kept_are_refused(writer, bad):
    with pytest.raises(GalleryError, match="product 'a' can't be kept"):
        writer.put_product(bad)
    with pytest.raises(GalleryError, match="record a/b can't be kept"):
        writer.put_record("a", "b", {"x": float("nan")})


def test_a_product_twice_in_a_container_is_refused(writer):
    with pytest.raises(GalleryError, match=r"container 'tote' names 'a' more than once"):
        writer.put_container("tote", ["a", "b", "a"])


def test_manifests_are_put_whole_or_not_at_all(folder, writer):
    writer.put_product(Product("a", "A title"))
    writer.put_container("old", ["a"])
    new = Manifests({"a": Product("a"), "b": Product("b", "B")}, {"new": frozenset("ab")})
    writer.put_manifests(new)
    writer.commit()
    gallery = opened(folder)
    assert set(gallery.manifests.containers) == {"old", "new"}
    assert gallery.product("a").title == "A title", "a bare id doesn't wipe what is known"
    assert gallery.product("b").title == "B"
    writer.put_manifests(new, replace=True)
    with pytest.raises(GalleryError):
        writer.put_manifests(Manifests({}, {"ok": frozenset("a"), "": frozenset("b")}))
    writer.commit()
    assert set(gallery.refreshed().manifests.containers) == {"new"}
    gallery.close()


def test_a_manifest_of_100_000_products_is_kept(folder, writer):
    ids = [f"B{i:09d}" for i in range(100_000)]
    writer.put_container("warehouse", ids)
    writer.commit()
    gallery = opened(folder)
    assert gallery.manifests.containers["warehouse"] == frozenset(ids)
    gallery.close()


def test_a_writer_without_a_bundle_adds_no_vectors(folder):
    with open_writer(folder) as writer:
        writer.put_product(Product("a"))
        with pytest.raises(GalleryError, match="without a bundle"):
            add(writer, "a", 1)
        assert writer.commit() == 1


def test_a_file_of_many_extents_reads_as_it_was_written(folder, writer):
    want = np.random.default_rng(0).standard_normal((10_000, DIM)).astype(np.float32)
    for start, end in ((0, 1), (1, 4100), (4100, 4101), (4101, 10_000)):
        names = [f"a/{i}" for i in range(start, end)]
        writer.add_references("a", want[start:end], sources=names, sha256s=["0"] * len(names))
        writer.commit()
    gallery = opened(folder)
    _, found = gallery.vectors_of("a")
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(found, want, atol=1e-3)
    gallery.close()
    assert check_gallery(folder).problems == []


# compact


def test_compacting_changes_no_answer_and_gives_back_the_space(folder, writer):
    add(writer, "a", 0, 1)
    add(writer, "b", 2)
    add(writer, "c", 3, 4)
    writer.put_container("gone", ["a"])
    writer.put_container("tote", ["b"])
    writer.commit()
    writer.remove_reference("a/0.jpg")
    writer.remove_product("b")
    writer.remove_container("gone")
    writer.commit()
    before = opened(folder)
    want = answers(before)
    report = compact_gallery(folder)
    assert (report.generation, report.references, report.dropped, report.left) == (3, 3, 2, "")
    assert [p.name for p in folder.glob("*.fp16")] == ["vectors-000002.fp16"]
    assert (folder / "vectors-000002.fp16").stat().st_size == 3 * DIM * 2
    assert answers(before) == want, "the old snapshot has the old file mapped"
    after = before.refreshed()
    assert (after.generation, after.card.removed) == (3, 0)
    assert answers(after) == want
    fresh = opened(folder)
    assert answers(fresh) == want
    assert [r.slot for p in "ac" for r in fresh.reference_of(p)] == [0, 1, 2]
    assert check_gallery(folder).problems == []
    add(writer, "d", 5)  # the open writer goes on in the new file
    writer.commit()
    assert after.refreshed().products == {"a", "c", "d"}
    assert check_gallery(folder).problems == []
    for gallery in (before, fresh):
        gallery.close()


def test_compacting_a_gallery_without_dead_vectors_leaves_them_where_they_are(folder, writer):
    add(writer, "a", 0, 1)
    writer.commit()
    report = compact_gallery(folder)
    assert (report.generation, report.dropped, report.references) == (2, 0, 2)
    assert [p.name for p in folder.glob("*.fp16")] == ["vectors-000001.fp16"]
    assert check_gallery(folder).problems == []


def test_everything_may_be_removed_and_compacted(folder, writer):
    add(writer, "a", 0, 1)
    writer.commit()
    writer.remove_product("a")
    writer.commit()
    compact_gallery(folder)
    assert read_card(folder).references == 0
    add(writer, "a", 0)
    writer.commit()
    gallery = opened(folder)
    assert gallery.search(vector(0)[0], 1)[0].product_id == "a"
    gallery.close()


def test_files_of_interrupted_compactions_are_named_and_swept(folder, writer):
    add(writer, "a", 0, 1)
    writer.commit()
    for number in (2, 7):
        (folder / f"vectors-{number:06d}.fp16").write_bytes(b"half")
    found = check_gallery(folder)
    assert found.problems == []
    assert len(found.notes) == 2
    writer.remove_reference("a/0.jpg")
    writer.commit()
    compact_gallery(folder)
    assert [p.name for p in folder.glob("*.fp16")] == ["vectors-000002.fp16"]


def test_a_damaged_gallery_is_not_compacted(folder, writer):
    add(writer, "a", 0, 1)
    writer.remove_reference("a/0.jpg")
    writer.commit()
    file = folder / "vectors-000001.fp16"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(GalleryError, match="is damaged"):
        compact_gallery(folder)
    assert [p.name for p in folder.glob("*.fp16")] == ["vectors-000001.fp16"]
    assert file.read_bytes() == raw
    assert read_card(folder).generation == 1


def test_words_follow_every_change(folder, writer):
    from robollm.gallery.words import find_products

    def found(words):
        return [p.product_id for p in find_products(folder, words)]

    writer.put_product(Product("A1", "Café crème", json.dumps("50% off")))
    writer.put_product(Product("B2", "Tea"))
    writer.commit()
    assert found("CAFE") == ["A1"]
    writer.put_product(Product("A1", "Cocoa"))
    writer.remove_product("B2")
    writer.commit()
    assert (found("cafe"), found("tea"), found("coc")) == ([], [], ["A1"])
    compact_gallery(folder)
    assert found("cocoa") == ["A1"]


@pytest.mark.parametrize(
    "odd",
    [
        {"weight_kg": -1.0},
        {"dimensions_m": (0.1, float("nan"), 0.1)},
        {"extra": {"price": float("inf")}},
    ],
    ids=["negative", "nan", "infinite"],
)
def test_a_product_that_no_manifest_could_hold_is_refused(folder, odd):
    with open_writer(folder) as writer:
        with pytest.raises(GalleryError, match="product 'mug'"):
            writer.put_product(Product("mug", **odd))
        writer.put_product(Product("cup"))
        assert writer.commit() > 0
