from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from enrolled import SAME, assert_alike, contents

from robollm.core.errors import GalleryError
from robollm.core.frame import Frame
from robollm.gallery.manifest import Manifests
from robollm.gallery.reader import GalleryReader
from robollm.gallery.records import Product
from robollm.gallery.store import open_gallery, read_card
from robollm.runtime import references
from robollm.runtime.enroll import enroll
from robollm.runtime.pixels import Region


@pytest.fixture
def images(tmp_path, drawn):
    """Two good products, one with a bad file too, one with bad files only, one without any."""
    folder = tmp_path / "references"
    shutil.copytree(drawn / "a", folder / "A")
    shutil.copytree(drawn / "b", folder / "B")
    (folder / "B" / "0.png").write_bytes(b"no picture")
    (folder / "B" / "notes.txt").write_text("not looked at")
    (folder / "C").mkdir()
    (folder / "C" / "1.JPG").write_bytes(b"")
    (folder / "D").mkdir()
    (folder / "readme.md").write_text("not a product")
    return folder


def record(folder):
    reader = GalleryReader(folder)
    found = reader.record("build", "bad_images")
    reader.close()
    return found


# the first build


def test_good_images_make_a_gallery_and_bad_ones_are_named(perceiver, images, tmp_path):
    steps = []
    done = enroll(
        perceiver, images, tmp_path / "gallery", progress=lambda n, total: steps.append((n, total))
    )
    assert (done.images, done.products, done.others) == (6, 2, 2)
    assert list(done.bad) == ["B/0.png", "C/1.JPG"]
    assert "begins with b'no pict" in done.bad["B/0.png"]
    assert done.bad["C/1.JPG"].endswith("C/1.JPG is empty")
    assert done.empty == ("C", "D")
    assert steps == [(n, 8) for n in range(1, 9)]
    assert record(tmp_path / "gallery") == {
        "images": str(images), "bad": dict(done.bad), "empty": ["C", "D"]
    }  # fmt: skip


def test_the_gallery_holds_what_the_perceiver_says_of_each_image(perceiver, images, tmp_path):
    enroll(perceiver, images, tmp_path / "gallery")
    b = perceiver.bundle
    gallery = open_gallery(
        tmp_path / "gallery", embedding_sha256=b.embedding_sha256, bundle=b.title
    )
    rows = contents(tmp_path / "gallery")
    assert sorted(rows) == [f"{p}/{i}.jpg" for p in "AB" for i in (1, 2, 3)]
    for source, (product, sha256, _) in rows.items():
        raw = (images / source).read_bytes()
        assert sha256 == hashlib.sha256(raw).hexdigest()
        pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
        (query,) = perceiver.embed([Region(Frame(pixels, "bgr", 1, stream=sha256))])
        best = gallery.search(query, 1)[0]
        assert best.product_id == product
        assert best.similarity == pytest.approx(1, abs=SAME)
    gallery.close()


def test_more_images_than_a_batch_keep_their_products(perceiver, tmp_path, drawn):
    done = enroll(perceiver, drawn, tmp_path / "gallery")
    assert done.images == 18 > 16
    assert all(s.startswith(row[0] + "/") for s, row in contents(tmp_path / "gallery").items())


def test_titles_and_containers_of_a_manifest_go_in_too(perceiver, drawn, tmp_path):
    told = Manifests(
        {"a": Product("a", title="Blue mug"), "z": Product("z", title="No picture yet")},
        {"tote-1": frozenset("az")},
    )
    enroll(perceiver, drawn, tmp_path / "gallery", products=told)
    reader = GalleryReader(tmp_path / "gallery")
    assert reader.product("a").title == "Blue mug"
    assert reader.load().containers == told.containers
    assert (reader.card().products, reader.card().products_without_reference) == (6, 1)
    reader.close()


@pytest.mark.parametrize("kind", ["nowhere", "empty", "file"])
def test_no_images_at_all_are_an_error(perceiver, tmp_path, kind):
    images = tmp_path / "images"
    if kind == "empty":
        (images / "A").mkdir(parents=True)
    if kind == "file":
        images.write_text("x")
    with pytest.raises(GalleryError, match="no reference images") as e:
        enroll(perceiver, images, tmp_path / "gallery")
    assert e.value.fix
    assert not (tmp_path / "gallery").exists()


def test_bad_images_only_are_an_error_that_names_the_first(perceiver, tmp_path):
    folder = tmp_path / "images" / "A"
    folder.mkdir(parents=True)
    for name in ("1.jpg", "2.jpg"):
        (folder / name).write_bytes(b"x")
    with pytest.raises(GalleryError, match="none of the 2 files") as e:
        enroll(perceiver, tmp_path / "images", tmp_path / "gallery")
    assert str(folder / "1.jpg") in e.value.fix
    assert read_card(tmp_path / "gallery").references == 0


# again


def test_the_same_build_again_embeds_nothing_and_commits_nothing(
    perceiver, images, tmp_path, monkeypatch
):
    first = enroll(perceiver, images, tmp_path / "gallery")
    monkeypatch.setattr(perceiver, "embed", lambda regions: pytest.fail("nothing is new"))
    again = enroll(perceiver, images, tmp_path / "gallery")
    assert (again.images, again.skipped, again.products) == (0, 6, 2)
    assert (again.bad, again.empty) == (first.bad, first.empty)
    assert again.generation == first.generation


def test_a_changed_picture_takes_the_place_of_the_old_one(perceiver, pictures, tmp_path):
    enroll(perceiver, pictures, tmp_path / "gallery")
    before = contents(tmp_path / "gallery")
    shutil.copy(pictures / "b" / "1.jpg", pictures / "a" / "1.jpg")
    done = enroll(perceiver, pictures, tmp_path / "gallery")
    assert (done.images, done.replaced, done.skipped) == (1, 1, 17)
    after = contents(tmp_path / "gallery")
    product, sha256, vector = after.pop("a/1.jpg")
    assert (product, sha256) == ("a", before["b/1.jpg"][1])
    np.testing.assert_allclose(vector, before["b/1.jpg"][2], atol=SAME)
    del before["a/1.jpg"]
    assert_alike(after, before)


def test_a_picture_that_was_damaged_since_keeps_its_old_vector(perceiver, pictures, tmp_path):
    for product in "bcdef":
        shutil.rmtree(pictures / product)
    enroll(perceiver, pictures, tmp_path / "gallery")
    before = contents(tmp_path / "gallery")
    for file in (pictures / "a").iterdir():
        file.write_bytes(b"")
    done = enroll(perceiver, pictures, tmp_path / "gallery", prune=True)
    assert (done.images, done.pruned, done.products, done.empty) == (0, 0, 1, ())
    assert list(done.bad) == ["a/1.jpg", "a/2.jpg", "a/3.jpg"]
    assert_alike(contents(tmp_path / "gallery"), before)


def test_what_is_gone_stays_until_it_is_pruned(perceiver, pictures, tmp_path):
    told = Manifests({"c": Product("c", title="Listed")}, {"tote-1": frozenset("c")})
    enroll(perceiver, pictures, tmp_path / "gallery", products=told)
    (pictures / "a" / "1.jpg").unlink()
    for product in "bc":
        shutil.rmtree(pictures / product)
    for file in (pictures / "d").iterdir():
        file.unlink()
    kept = enroll(perceiver, pictures, tmp_path / "gallery")
    assert (kept.pruned, len(contents(tmp_path / "gallery"))) == (0, 18)
    done = enroll(perceiver, pictures, tmp_path / "gallery", prune=True, products=told)
    assert (done.pruned, done.pruned_products) == (10, ("b",))
    assert done.empty == ("d",)
    assert sorted(contents(tmp_path / "gallery")) == [
        "a/2.jpg", "a/3.jpg", *(f"{p}/{i}.jpg" for p in "ef" for i in (1, 2, 3))
    ]  # fmt: skip
    assert read_card(tmp_path / "gallery").products_without_reference == 2


def test_a_folder_that_can_not_be_listed_is_not_taken_for_empty(
    perceiver, pictures, tmp_path, monkeypatch
):
    enroll(perceiver, pictures, tmp_path / "gallery")
    real = os.scandir

    def scandir(path):
        if Path(path).name == "b":
            raise OSError(5, "Input/output error", str(path))
        return real(path)

    monkeypatch.setattr(references.os, "scandir", scandir)
    done = enroll(perceiver, pictures, tmp_path / "gallery", prune=True)
    assert done.pruned == 0
    assert list(done.bad) == ["b"]
    assert "Input/output error" in done.bad["b"]
    assert len(contents(tmp_path / "gallery")) == 18
