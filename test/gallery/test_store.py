from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from robollm.core.errors import GalleryError, ManifestError
from robollm.gallery.base import ExactGallery
from robollm.gallery.catalogue import Catalogue, load_catalogue
from robollm.gallery.manifest import Manifests, Product
from robollm.gallery.store import Row, open_gallery, write_gallery

ROWS = [Row("a", "a/1.jpg", "00"), Row("b", "b/1.jpg", "11"), Row("a", "a/2.jpg", "22")]
VECTORS = np.float32([[1, 0, 0], [0, 1, 0], [0.6, 0, 0.8]])
MADE_BY = {"embedding_sha256": "e" * 64, "bundle": "sketch 1.0 (aaaa)"}
FILES = ("gallery.json", "index.faiss", "rows.json")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    out = tmp_path_factory.mktemp("store") / "gallery"
    write_gallery(out, ROWS, VECTORS, **MADE_BY)
    return out


@pytest.fixture
def folder(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "gallery"))


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_gallery_survives_the_disk(folder):
    opened = open_gallery(folder, **MADE_BY)
    query = np.float32([0.6, 0, 0.8])
    want = ExactGallery([r.product_id for r in ROWS], VECTORS).search(query, 5)
    got = opened.search(query, 5)
    assert [m.product_id for m in got] == [m.product_id for m in want] == ["a", "b"]
    assert [m.similarity for m in got] == pytest.approx([m.similarity for m in want], abs=1e-6)


def test_the_card_says_what_the_gallery_is(folder):
    card = json.loads((folder / "gallery.json").read_text())
    assert card["bundle"] == MADE_BY["bundle"]
    assert (card["dim"], card["vectors"], card["products"]) == (3, 3, 2)
    assert {n: f["bytes"] for n, f in card["files"].items()} == {
        n: (folder / n).stat().st_size for n in ("index.faiss", "rows.json")
    }


def test_another_bundle_is_refused_and_both_are_named(folder):
    with pytest.raises(GalleryError) as e:
        open_gallery(folder, embedding_sha256="f" * 64, bundle="other 2.0 (bbbb)")
    assert "sketch 1.0 (aaaa)" in e.value.what
    assert "other 2.0 (bbbb)" in e.value.what
    assert e.value.fix


@pytest.mark.parametrize("name", ["index.faiss", "rows.json"])
@pytest.mark.parametrize("where", [0, 0.5, 1])
def test_one_damaged_byte_is_noticed(folder, name, where):
    raw = bytearray((folder / name).read_bytes())
    raw[int(where * (len(raw) - 1))] ^= 0x10
    (folder / name).write_bytes(raw)
    with pytest.raises(GalleryError, match="is damaged") as e:
        open_gallery(folder, **MADE_BY)
    assert name in e.value.what
    assert e.value.fix


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0, 0.5])
def test_a_truncated_file_is_noticed(folder, name, keep):
    raw = (folder / name).read_bytes()
    (folder / name).write_bytes(raw[: int(keep * len(raw))])
    with pytest.raises(GalleryError) as e:
        open_gallery(folder, **MADE_BY)
    assert str(folder) in e.value.what
    assert e.value.fix


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed(folder, name):
    (folder / name).unlink()
    with pytest.raises(GalleryError) as e:
        open_gallery(folder, **MADE_BY)
    assert e.value.fix


@pytest.mark.parametrize(
    "card",
    [b"[]", b"null", b'"x"', b"{}", b"\xff\xfe\xfd", b'{"format": "robollm-gallery"}'],
)
def test_a_card_that_is_none_is_malformed(folder, card):
    (folder / "gallery.json").write_bytes(card)
    with pytest.raises(GalleryError, match="malformed"):
        open_gallery(folder, **MADE_BY)


@pytest.mark.parametrize(("key", "value"), [("format", "robollm-bundle"), ("format_version", 2)])
def test_another_format_is_refused(folder, key, value):
    card = json.loads((folder / "gallery.json").read_text())
    card[key] = value
    (folder / "gallery.json").write_text(json.dumps(card))
    with pytest.raises(GalleryError, match="want 'robollm-gallery' version 1") as e:
        open_gallery(folder, **MADE_BY)
    assert e.value.fix


def test_an_index_that_faiss_can_not_read_is_an_error_of_ours(tmp_path):
    from robollm.gallery.faiss_gallery import read_index

    (tmp_path / "index.faiss").write_bytes(b"nonsense")
    with pytest.raises(GalleryError, match="not a readable FAISS index"):
        read_index(tmp_path / "index.faiss")


# writing


def test_a_foreign_folder_is_not_overwritten(tmp_path):
    out = tmp_path / "photos"
    out.mkdir()
    (out / "holiday.jpg").write_bytes(b"irreplaceable")
    with pytest.raises(GalleryError, match="is not a gallery"):
        write_gallery(out, ROWS, VECTORS, **MADE_BY)
    assert contents(out) == {"holiday.jpg": b"irreplaceable"}
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


def test_a_gallery_is_replaced_whole(folder):
    write_gallery(folder, ROWS[:1], VECTORS[:1], **MADE_BY)
    assert set(open_gallery(folder, **MADE_BY).products) == {"a"}
    assert [p.name for p in folder.parent.iterdir()] == ["gallery"], "nothing is left beside it"


def test_missing_parents_are_made(tmp_path):
    write_gallery(tmp_path / "x" / "y" / "gallery", ROWS, VECTORS, **MADE_BY)
    assert open_gallery(tmp_path / "x" / "y" / "gallery", **MADE_BY).dim == 3


def test_bad_vectors_leave_the_old_gallery_alone(folder):
    before = contents(folder)
    with pytest.raises(GalleryError):
        write_gallery(folder, ROWS, np.zeros((3, 3), np.float32), **MADE_BY)
    assert contents(folder) == before


@pytest.mark.parametrize("failing", ["card", "first rename", "second rename"])
def test_a_failure_in_the_middle_leaves_the_old_gallery(folder, monkeypatch, failing):
    before = contents(folder)
    rename, write_text = Path.rename, Path.write_text
    calls = []

    def bad_rename(self, target):
        calls.append(target)
        if len(calls) == (1 if failing == "first rename" else 2) and failing != "card":
            raise OSError("disk full")
        return rename(self, target)

    def bad_write(self, *args, **kwargs):
        if self.name == "gallery.json" and failing == "card":
            raise OSError("disk full")
        return write_text(self, *args, **kwargs)

    with monkeypatch.context() as m:
        m.setattr(Path, "rename", bad_rename)
        m.setattr(Path, "write_text", bad_write)
        with pytest.raises(OSError, match="disk full"):
            write_gallery(folder, ROWS[:1], VECTORS[:1], **MADE_BY)
    assert contents(folder) == before
    assert [p.name for p in folder.parent.iterdir()] == ["gallery"]
    assert set(open_gallery(folder, **MADE_BY).products) == {"a", "b"}


# catalogue


def catalogue(**containers):
    gallery = ExactGallery([r.product_id for r in ROWS], VECTORS)
    named = {c: frozenset(ids) for c, ids in containers.items()}
    products = {p: Product(p) for ids in named.values() for p in ids}
    return Catalogue(gallery, Manifests(products, named))


def test_only_products_of_the_container_with_a_reference_may_be_answered():
    stock = catalogue(one={"a", "new"}, two={"new"}, three={"a", "b"})
    assert stock.allowed("one") == ({"a"}, "")
    assert stock.allowed("three") == ({"a", "b"}, "")


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        (None, "no container was announced"),
        ("nine", "container 'nine' is not in the manifest"),
        ("two", "none of the 1 products of 'two' has a reference"),
        ("empty", "none of the 0 products of 'empty' has a reference"),
    ],
)
def test_where_nothing_may_be_answered_it_says_why(container, reason):
    assert catalogue(one={"a"}, two={"new"}, empty=()).allowed(container) == (None, reason)


def test_products_without_a_reference_are_listed():
    assert catalogue(one={"a", "z"}, two={"c", "z"}).without_reference() == ["c", "z"]
    assert catalogue().without_reference() == []


def test_a_catalogue_is_found_beside_its_manifest(folder):
    manifest = folder.parent / "manifest.json"
    manifest.write_text(
        '{"format": "robollm-manifest", "format_version": 1, "containers": {"one": ["a", "x"]}}'
    )
    for gallery in ("", str(folder)):
        stock = load_catalogue(str(manifest), gallery, **MADE_BY)
        assert stock.allowed("one") == ({"a"}, "")
        assert stock.without_reference() == ["x"]


def test_a_catalogue_needs_a_manifest_and_a_gallery(tmp_path):
    with pytest.raises(ManifestError, match="no manifest is set"):
        load_catalogue("", "", **MADE_BY)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(
        '{"format": "robollm-manifest", "format_version": 1, "containers": {"one": ["a"]}}'
    )
    with pytest.raises(GalleryError, match="looked for by default"):
        load_catalogue(str(manifest), "", **MADE_BY)
    with pytest.raises(GalleryError, match=r"there is no gallery\.json"):
        load_catalogue(str(manifest), str(tmp_path / "nowhere"), **MADE_BY)
