from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from contextlib import closing

import cv2
import numpy as np
import pytest

from robollm.gallery.reader import GalleryReader
from robollm.gallery.writer import GalleryWriter
from robollm.runtime import embed_files, enroll
from robollm.runtime.bundle import load_bundle


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Four products with two drawn pictures each."""
    folder, rng = tmp_path_factory.mktemp("drawn"), np.random.default_rng(0)
    for product in "ABCD":
        (folder / product).mkdir()
        for i in (1, 2):
            pixels = cv2.resize(rng.integers(0, 255, (9, 9, 3), np.uint8), (120, 100))
            cv2.imwrite(str(folder / product / f"{i}.jpg"), pixels)
    return folder


@pytest.fixture(scope="module")
def built(drawn, perceiver, tmp_path_factory):
    """A gallery of these pictures; copy it to change it."""
    out = tmp_path_factory.mktemp("built") / "gallery"
    enroll.enroll(perceiver, drawn, out)
    return out


@pytest.fixture
def gallery(built, tmp_path):
    """A copy of that gallery."""
    return shutil.copytree(built, tmp_path / "gallery")


@pytest.fixture
def with_bundle(sketch_bundle):
    """The options that name the bundle."""
    return "--bundle", sketch_bundle, "--allow-untrained", "--threads", "1"


def references(gallery):
    """Product -> sources."""
    reader = GalleryReader(gallery)
    found = {p: [r.source for r in reader.references(p)] for p in reader.load().ids}
    reader.close()
    return found


def product(gallery, product_id):
    reader = GalleryReader(gallery)
    found = reader.product(product_id)
    reader.close()
    return found


def containers(gallery):
    reader = GalleryReader(gallery)
    found = reader.load().containers
    reader.close()
    return dict(found)


def is_mistake(done):
    """Two lines and exit code 2."""
    what, fix = done.err.splitlines()
    return done.code == 2 and what.startswith("error: ") and fix.startswith("  fix: ")


# build


def test_a_gallery_is_built_and_summed_up(robollm, drawn, with_bundle, sketch_bundle, tmp_path):
    images = shutil.copytree(drawn, tmp_path / "images")
    (images / "A" / "2.jpg").write_bytes(b"broken")
    (images / "E").mkdir()
    (images / "readme.txt").write_text("not a product")
    words = ("gallery", "build", "--images", images, "--out", tmp_path / "gallery", *with_bundle)
    done = robollm(*words)
    assert done.code == 0
    card = json.loads(done.out)
    seconds, rate = card.pop("seconds"), card.pop("images_per_second")
    assert rate == pytest.approx(7 / seconds, rel=0.2)
    assert card == {
        "gallery": str(tmp_path / "gallery"), "generation": 2, "products": 4, "images": 7,
        "replaced": 0, "skipped": 0, "pruned": 0, "products_pruned": [], "bad_images": 1,
        "products_without_image": 1, "other_files": 1, "complete": True,
        "bundle": load_bundle(sketch_bundle, allow_untrained=True).title,
    }  # fmt: skip
    assert f"skipped: {images / 'A' / '2.jpg'} is not a JPEG or PNG image" in done.err
    assert "no usable image of product 'E'" in done.err
    assert references(tmp_path / "gallery")["A"] == ["A/1.jpg"]

    (images / "B" / "1.jpg").unlink()
    shutil.rmtree(images / "C")
    card = json.loads(robollm(*words, "--prune").out)
    assert (card["images"], card["skipped"], card["pruned"]) == (0, 4, 3)
    assert card["products_pruned"] == ["C"]
    assert references(tmp_path / "gallery").keys() == {"A", "B", "D"}


def test_a_build_takes_titles_and_containers_from_a_file(robollm, drawn, with_bundle, tmp_path):
    file = tmp_path / "products.csv"
    file.write_text("container_id,product_id,title,colour\ntote-1,A,Blue mug,blue\ntote-1,D,,\n")
    done = robollm("gallery", "build", "--images", drawn, "--out", tmp_path / "gallery",
                   "--products", file, *with_bundle)  # fmt: skip
    assert done.code == 0, done.err
    assert product(tmp_path / "gallery", "A").title == "Blue mug"
    assert product(tmp_path / "gallery", "A").extra == {"colour": "blue"}
    assert containers(tmp_path / "gallery") == {"tote-1": frozenset("AD")}


def test_many_bad_pictures_are_counted_and_the_first_are_shown(
    robollm, drawn, with_bundle, tmp_path
):
    images = shutil.copytree(drawn, tmp_path / "images")
    for i in range(30):
        (images / "A" / f"bad{i:02}.jpg").write_bytes(b"")
        (images / f"none{i:02}").mkdir()
    done = robollm("gallery", "build", "--images", images, "--out", tmp_path / "g", *with_bundle)
    lines = done.err.splitlines()
    assert len(lines) == 2 * 21
    assert "skipped: 10 more; `robollm gallery info` names all" in lines
    assert "no usable image of 10 more products" in lines
    assert json.loads(done.out)["bad_images"] == 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_is_embedded_and_says_how_to_go_on(
    robollm, drawn, with_bundle, tmp_path, monkeypatch, number
):
    monkeypatch.setattr(enroll, "COMMIT", 2)
    monkeypatch.setattr(embed_files, "BATCH_MAX", 2)
    commit, handler = GalleryWriter.commit, signal.getsignal(number)

    def commit_and_press(self):
        generation = commit(self)
        if generation == 2:
            os.kill(os.getpid(), number)
        return generation

    monkeypatch.setattr(GalleryWriter, "commit", commit_and_press)
    words = ("gallery", "build", "--images", drawn, "--out", tmp_path / "gallery", *with_bundle)
    done = robollm(*words)
    monkeypatch.undo()
    assert signal.getsignal(number) is handler
    assert done.code == 130
    assert done.err.endswith("interrupted; the same command goes on from here\n")
    card = json.loads(done.out)
    assert (card["complete"], card["images"]) == (False, 4)
    assert sum(map(len, references(tmp_path / "gallery").values())) == 4
    rest = json.loads(robollm(*words).out)
    assert (rest["complete"], rest["images"], rest["skipped"]) == (True, 4, 4)


@pytest.mark.parametrize(
    "words",
    [
        ["build", "--images", "{drawn}", "--out", "{tmp}/g", "--workers", "2"],
        ["build", "--images", "{drawn}", "--out", "{tmp}/g", "--products", "{tmp}/nothing.csv"],
        ["build", "--images", "{drawn}", "--out", "{tmp}", "--bundle", "{bundle}"],
        ["build", "--images", "{drawn}", "--out", "{tmp}/g", "--ray", "--bundle", "{tmp}"],
        ["add", "{gallery}"],
        ["add", "{gallery}", "{drawn}/A/1.jpg"],
        ["add", "{gallery}", "--title", "Blue mug"],
        ["add", "{gallery}", "--product", "A"],
        ["add", "{gallery}", "--product", " ", "--title", "Blank"],
        ["add", "{gallery}", "--product", "A", "{drawn}/A/1.jpg"],
        ["add", "{gallery}", "--product", "A", "{drawn}/A/1.jpg", "{drawn}/B/1.jpg",
         "--bundle", "{bundle}", "--allow-untrained"],
        ["add", "{gallery}", "--product", "A", "{tmp}/nothing.jpg",
         "--bundle", "{bundle}", "--allow-untrained"],
        ["add", "{gallery}", "--products", "{tmp}/nothing.csv"],
        ["add", "{tmp}/none", "--product", "A", "--title", "x"],
        ["remove", "{gallery}"],
        ["remove", "{gallery}", "--product", "Z"],
        ["remove", "{gallery}", "--product", "A", "--reference", "A/9.jpg"],
        ["remove", "{gallery}", "--container", "Z"],
        ["remove", "{tmp}/none", "--product", "A"],
    ],
    ids=lambda words: " ".join(words),
)  # fmt: skip
def test_a_mistake_is_two_lines_and_changes_nothing(
    robollm, drawn, gallery, sketch_bundle, tmp_path, words
):
    before = references(gallery)
    places = {"drawn": drawn, "tmp": tmp_path, "bundle": sketch_bundle, "gallery": gallery}
    done = robollm("gallery", *(w.format(**places) for w in words))
    assert is_mistake(done), done.err
    assert done.out == ""
    assert references(gallery) == before


# add


def test_pictures_are_added_with_a_title_and_replaced_by_name(robollm, drawn, gallery, with_bundle):
    files = [drawn / "B" / f"{i}.jpg" for i in (1, 2)]
    words = ("gallery", "add", gallery, *with_bundle, "--product", "new 7", *files)
    card = json.loads(robollm(*words, "--title", "Blue mug", "--weight-kg", "0.3").out)
    assert card == {
        "gallery": str(gallery), "generation": 3, "product": "new 7", "references": 2,
        "replaced": 0,
    }  # fmt: skip
    assert references(gallery)["new 7"] == ["new 7/1.jpg", "new 7/2.jpg"]
    assert json.loads(robollm(*words[:-1]).out)["replaced"] == 1
    assert sorted(references(gallery)["new 7"]) == ["new 7/1.jpg", "new 7/2.jpg"]
    assert (product(gallery, "new 7").title, product(gallery, "new 7").weight_kg) == (
        "Blue mug", 0.3
    )  # fmt: skip


def test_what_is_not_named_of_a_product_stays(robollm, gallery):
    assert robollm("gallery", "add", gallery, "--product", "A", "--title", "Mug").code == 0
    assert robollm("gallery", "add", gallery, "--product", "A", "--description", "blue").code == 0
    assert (product(gallery, "A").title, product(gallery, "A").description) == ("Mug", "blue")
    assert len(references(gallery)["A"]) == 2


def test_a_product_whose_row_is_damaged_is_not_overwritten(robollm, gallery):
    assert robollm("gallery", "add", gallery, "--product", "A", "--description", "blue").code == 0
    with closing(sqlite3.connect(gallery / "gallery.sqlite")) as conn:
        conn.execute("UPDATE product SET description = 'blur' WHERE id = 'A'")
        conn.commit()
    done = robollm("gallery", "add", gallery, "--product", "A", "--title", "Mug")
    assert done.code == 2
    assert "product 'A' is not what was written" in done.err
    with closing(sqlite3.connect(gallery / "gallery.sqlite")) as conn:
        (kept,) = conn.execute("SELECT description FROM product WHERE id = 'A'").fetchone()
    assert kept == "blur"


def test_a_file_of_products_needs_no_bundle(robollm, gallery, tmp_path):
    file = tmp_path / "manifest.json"
    card = {"format": "robollm-manifest", "format_version": 1,
            "products": {"A": {"title": "Mug"}, "Z": {"title": "Later"}},
            "containers": {"tote-1": ["A", "Z"]}}  # fmt: skip
    file.write_text(json.dumps(card))
    done = json.loads(robollm("gallery", "add", gallery, "--products", file).out)
    assert (done["products"], done["containers"]) == (2, 1)
    assert product(gallery, "Z").title == "Later"
    assert containers(gallery) == {"tote-1": frozenset("AZ")}


# remove


def test_products_references_and_containers_are_removed_in_one_commit(robollm, gallery, tmp_path):
    file = tmp_path / "manifest.csv"
    file.write_text("container_id,product_id\ntote-1,A\ntote-2,B\n")
    assert robollm("gallery", "add", gallery, "--products", file).code == 0
    done = robollm("gallery", "remove", gallery, "--product", "A", "--product", "D", "--product",
                   "A", "--reference", "B/1.jpg", "--container", "tote-2")  # fmt: skip
    assert json.loads(done.out) == {
        "gallery": str(gallery), "generation": 4, "products": 2, "references": 1, "containers": 1
    }  # fmt: skip
    assert references(gallery) == {"B": ["B/2.jpg"], "C": ["C/1.jpg", "C/2.jpg"]}
    assert containers(gallery) == {"tote-1": frozenset("A")}
