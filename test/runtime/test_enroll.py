from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from robollm.core.errors import GalleryError
from robollm.core.frame import Frame
from robollm.gallery.store import open_gallery
from robollm.runtime.enroll import enroll
from robollm.runtime.pixels import Region


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Six products with three drawn pictures each."""
    folder, rng = tmp_path_factory.mktemp("references"), np.random.default_rng(0)
    for product in "abcdef":
        (folder / product).mkdir()
        for i in (1, 2, 3):
            pixels = cv2.resize(rng.integers(0, 255, (9, 9, 3), np.uint8), (120, 100))
            cv2.imwrite(str(folder / product / f"{i}.jpg"), pixels)
    return folder


@pytest.fixture
def images(tmp_path, references):
    """Two good products, one with a bad file too, one with bad files only, one without any."""
    folder = tmp_path / "references"
    shutil.copytree(references / "a", folder / "A")
    shutil.copytree(references / "b", folder / "B")
    (folder / "B" / "0.png").write_bytes(b"no picture")
    (folder / "B" / "notes.txt").write_text("not looked at")
    (folder / "C").mkdir()
    (folder / "C" / "1.JPG").write_bytes(b"")
    (folder / "D").mkdir()
    (folder / "readme.md").write_text("not a product")
    return folder


def test_good_images_make_a_gallery_and_bad_ones_are_named(perceiver, images, tmp_path):
    steps = []
    done = enroll(
        perceiver, images, tmp_path / "gallery", progress=lambda n, total: steps.append((n, total))
    )
    assert (done.images, done.products) == (6, 2)
    assert [f.relative_to(images).as_posix() for f in done.bad] == ["B/0.png", "C/1.JPG"]
    assert [f.name for f in done.empty] == ["C", "D"]
    assert steps == [(n, 8) for n in range(1, 9)]


def test_the_gallery_holds_what_the_perceiver_says_of_each_image(perceiver, images, tmp_path):
    enroll(perceiver, images, tmp_path / "gallery")
    b = perceiver.bundle
    gallery = open_gallery(
        tmp_path / "gallery", embedding_sha256=b.embedding_sha256, bundle=b.title
    )
    rows = json.loads((tmp_path / "gallery" / "rows.json").read_text())
    assert [r["image"] for r in rows] == [f"{p}/{i}.jpg" for p in "AB" for i in (1, 2, 3)]
    for row in rows:
        file = images / row["image"]
        assert row["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        pixels = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        (query,) = perceiver.embed([Region(Frame(pixels, "bgr", 1, stream=row["sha256"]))])
        best = gallery.search(query, 1)[0]
        assert best.product_id == row["product_id"]
        assert best.similarity == pytest.approx(1, abs=1e-4)


def test_more_images_than_a_batch_keep_their_products(perceiver, tmp_path, references):
    done = enroll(perceiver, references, tmp_path / "gallery")
    assert done.images == 18 > 16
    rows = json.loads((tmp_path / "gallery" / "rows.json").read_text())
    assert len(rows) == done.images
    assert all(r["image"].startswith(r["product_id"] + "/") for r in rows)


def test_an_image_that_is_too_large_is_a_bad_one(perceiver, references, tmp_path, monkeypatch):
    shutil.copytree(references / "a", tmp_path / "images" / "A")
    cv2.imwrite(str(tmp_path / "images" / "A" / "0.png"), np.zeros((3, 121, 3), np.uint8))
    monkeypatch.setattr(perceiver, "config", replace(perceiver.config, max_image_side=120))
    done = enroll(perceiver, tmp_path / "images", tmp_path / "gallery")
    assert (done.images, [f.name for f in done.bad]) == (3, ["0.png"])


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
    assert not (tmp_path / "gallery").exists()
