from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.gallery.base import ExactGallery
from robollm.gallery.store import open_gallery
from robollm.runtime.lookup import name_views


@pytest.fixture(scope="module")
def gallery(shelf):
    """A gallery of the shelf, built with the sketch bundle; read only."""
    return shelf.gallery


@pytest.fixture
def search(robollm, gallery, sketch_bundle):
    """Call `robollm gallery search`; the answer's JSON with --json, else what was printed."""

    def call(*words, folder=gallery):
        done = robollm(
            "gallery", "search", folder, *words, "--bundle", sketch_bundle, "--allow-untrained",
            "--threads", "1",
        )  # fmt: skip
        assert done.code == 0, done.err
        return json.loads(done.out) if "--json" in words else done

    return call


@pytest.fixture(scope="module")
def references(shelf):
    return sorted(shelf.references.glob("*/*.jpg"))


def test_a_reference_picture_is_found_to_be_itself(search, references):
    for picture in references[:3]:
        card = search(picture, "--json")
        first = card["products"][0]
        assert first["product"] == picture.parent.name
        assert first["cosine"] == pytest.approx(1, abs=2e-3)
        assert first["reference"] == f"{picture.parent.name}/{picture.name}"
        assert first["in_manifest"]


def test_cosines_and_order_are_those_of_the_slow_search(search, references, gallery, perceiver):
    from robollm.core.frame import Frame
    from robollm.data.images import read_image
    from robollm.runtime.pixels import Region

    card = search(references[1], "--json", "--top-k", "3")
    query = perceiver.embed([Region(Frame(read_image(references[1]), "rgb", stamp_ns=1))])[0]
    opened = open_gallery(gallery, embedding_sha256=None, bundle="")
    ids, rows = [], []
    for product in opened.products:
        _, vectors = opened.vectors_of(product)
        ids += [product] * len(vectors)
        rows.append(vectors)
    opened.close()
    want = ExactGallery(ids, np.concatenate(rows)).search(query, 3)
    assert [p["product"] for p in card["products"]] == [m.product_id for m in want]
    got = [p["cosine"] for p in card["products"]]  # of float16, which is not quite unit length
    assert got == pytest.approx([m.similarity for m in want], abs=3e-4)
    assert all(p["cosine"] == pytest.approx(p["reference_cosine"], abs=1e-5)
               for p in card["products"])  # fmt: skip
    assert card["compared_with"] == len(set(ids))


def test_a_container_limits_the_answer_to_its_products(search, references, shelf):
    manifest = json.loads(shelf.manifest.read_text())
    container, ids = next(iter(manifest["containers"].items()))
    card = search(references[0], "--json", "--container", container, "--manifest", shelf.manifest)
    assert card["container"] == container
    assert {p["product"] for p in card["products"]} <= set(ids)
    assert card["compared_with"] == len(ids)


def test_a_box_is_what_is_looked_at(search, references, tmp_path):
    """A reference inside a larger picture is found by its box, as if it were alone."""
    inner = cv2.imread(str(references[2]))
    h, w = inner.shape[:2]
    outer = np.full((h + 200, w + 300, 3), 30, np.uint8)
    outer[70 : 70 + h, 110 : 110 + w] = inner
    assert cv2.imwrite(str(tmp_path / "outer.png"), outer)
    alone = search(references[2], "--json")["products"][0]
    boxed = search(tmp_path / "outer.png", "--box", f"110,70,{w},{h}", "--json")["products"][0]
    whole = search(tmp_path / "outer.png", "--json")["products"][0]
    assert boxed["product"] == alone["product"]
    assert boxed["cosine"] == pytest.approx(alone["cosine"], abs=1e-3)
    assert whole["cosine"] < boxed["cosine"] - 1e-3


@pytest.mark.parametrize("fusion", ["fused", "max"])
def test_several_pictures_are_views_of_one_object(search, references, fusion):
    card = search(references[0], references[1], "--json", "--view-fusion", fusion)
    assert len(card["views"]) == 2
    assert card["thresholds"].startswith("bundle's thresholds")


def test_product_scores_may_be_those_of_centroids(search, references):
    card = search(references[0], "--json", "--product-score", "centroid")
    assert card["products"][0]["cosine"] <= 1


def test_the_table_says_what_was_decided_and_why(search, references):
    done = search(references[0], "--top-k", "2")
    assert references[0].parent.name in done.out
    assert "compared with" in done.out
    assert "generation" in done.out
    assert any(w in done.out for w in ("IDENTIFIED", "AMBIGUOUS", "UNKNOWN"))
    assert "UNTRAINED" in done.err


def test_thresholds_for_a_container_are_said_to_be_too_easy_among_all_products(
    search, references, shelf
):
    container, products = next(iter(
        json.loads(shelf.manifest.read_text())["containers"].items()
    ))  # fmt: skip
    picture = next(r for r in references if r.parent.name in products)
    among = ("--container", container, "--manifest", shelf.manifest)
    assert "meant for a container" in search(picture, "--json")["thresholds"]
    assert "meant for a container" not in search(picture, *among, "--json")["thresholds"]


def test_the_probability_of_a_doubt_is_not_taken_for_that_of_a_product(search, references):
    said = search(references[0], "--accept", "-1", "--margin", "2").out
    assert "that it is one of the two)" in said


def test_thresholds_may_be_set_by_hand(search, references):
    words = references[0], "--json", "--margin", "0"
    sure = search(*words, "--accept", "-1")
    assert sure["decision"] == "identified"
    assert sure["ranked"][0]["class_id"] == references[0].parent.name
    never = search(*words, "--accept", "1")
    assert never["decision"] == "unknown"
    assert "not above 1.000" in never["reason"]


# the picture


def reference_in(page, picture):
    """Whether a picture is in the page at the size at which it is shown there."""
    h, w = picture.shape[:2]
    scale = min(284 / w, 224 / h)  # a card's place for it, less its margins
    small = cv2.resize(picture, (round(w * scale), round(h * scale)),
                       interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)  # fmt: skip
    inner = small[34:-4, 4:-4]  # the rank covers a corner
    return cv2.matchTemplate(page, inner, cv2.TM_SQDIFF).min() / inner.size < 3.0


def test_the_picture_shows_query_and_the_references_that_matched(
    search, references, shelf, tmp_path
):
    out = tmp_path / "match.png"
    done = search(references[0], "--top-k", "3", "--out", out)
    assert "could not be shown" not in done.err
    card = search(references[0], "--top-k", "3", "--json")
    page = cv2.imread(str(out))
    sources = [p["reference"] for p in card["products"]]
    for source in sources:
        assert reference_in(page, cv2.imread(str(shelf.references / source))), source
    others = [r for r in references if r.parent.name not in {s.split("/")[0] for s in sources}]
    assert others, "or this proves nothing"
    assert not reference_in(page, cv2.imread(str(others[0])))


def test_references_that_are_gone_are_named_and_drawn_as_empty_frames(search, references, tmp_path):
    out = tmp_path / "match.jpg"
    done = search(references[0], "--top-k", "2", "--out", out, "--images", tmp_path)
    assert "2 reference pictures could not be shown" in done.err
    assert "No such file" in done.err
    assert cv2.imread(str(out)) is not None


# mistakes


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nothing.jpg"], "can't be read"),
        (["{gallery}/gallery.json"], "not a JPEG or PNG"),
        (["{ref}", "--box", "1,2,3"], "want X,Y,W,H"),
        (["{ref}", "--box", "9000,0,5,5"], "no area inside"),
        (["{ref}", "--box", "1,1,5,5", "--box", "1,1,5,5"], "2 times --box for 1 pictures"),
        (["{ref}", "--container", "nowhere"], "not in the manifest"),
        (["{ref}", "--manifest", "{manifest}"], "--manifest without --container"),
        (["{ref}", "--out", "{tmp}/x.gif"], "--out is"),
        (["{ref}", "--out", "{tmp}/nowhere/x.png"], "can't write"),
        (["{ref}", "--whole-search", "approximate"], "index"),
    ],
    ids=lambda w: " ".join(w) if isinstance(w, list) else "",
)
def test_a_mistake_is_named_with_a_fix(
    robollm, gallery, references, shelf, sketch_bundle, tmp_path, words, says
):
    places = {"gallery": gallery, "ref": references[0], "manifest": shelf.manifest, "tmp": tmp_path}
    done = robollm("gallery", "search", gallery, *(w.format(**places) for w in words),
                   "--bundle", sketch_bundle, "--allow-untrained")  # fmt: skip
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert says in done.err
    assert "\n  fix: " in done.err


def test_a_gallery_of_another_bundle_is_refused_naming_both(
    robollm, gallery, references, sketch_bundle, tmp_path
):
    from robollm.export.sketch import SketchSize, write_sketch_bundle

    size = SketchSize(dim=32, depth=2, heads=2, embedding=16, channels=16)
    other = write_sketch_bundle(
        tmp_path / "other", size=size, tote_hw=(192, 240), crop_hw=(96, 96), seed=7
    )
    done = robollm("gallery", "search", gallery, references[0], "--bundle", other,
                   "--allow-untrained")  # fmt: skip
    assert done.code == 2
    assert "was made with bundle" in done.err
    assert "the loaded bundle is" in done.err


def test_searching_changes_nothing_in_the_gallery(search, references, gallery, tmp_path):
    copy = tmp_path / "gallery"
    shutil.copytree(gallery, copy)
    names = ("gallery.json", "gallery.sqlite", "generation")
    before = {n: (copy / n).read_bytes() for n in names}
    search(references[0], folder=copy)
    assert {n: (copy / n).read_bytes() for n in names} == before


# names of views


def test_views_are_told_by_their_files_names_then_by_order(tmp_path):
    fused = ("image", "tote_wall", "on_arm_low")
    paths = [tmp_path / n for n in ("OnArmLowRGB.jpg", "x.jpg", "y.png")]
    assert name_views(paths, fused) == ["on_arm_low", "image", "tote_wall"]
    assert name_views([tmp_path / "a.jpg"], fused) == ["image"]
    assert name_views(paths, ()) == ["OnArmLowRGB.jpg", "x.jpg", "y.png"]
    twice = [tmp_path / "1" / "a.jpg", tmp_path / "2" / "a.jpg"]
    assert name_views(twice, ()) == ["a.jpg (1)", "a.jpg (2)"]
    assert len(set(name_views([tmp_path / "image.jpg"] * 2, fused))) == 2
    with pytest.raises(ConfigError, match="4 pictures, but the bundle joins 3 views"):
        name_views([*paths, tmp_path / "z.jpg"], fused)
