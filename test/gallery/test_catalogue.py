"""Gallery and manifests as one pair, taken over as they change on disk."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

from robollm.core.errors import GalleryError, ManifestError
from robollm.gallery.catalogue import CatalogueSource, load_catalogue
from robollm.gallery.manifest import Manifests
from robollm.gallery.records import MadeWith
from robollm.gallery.store import create_gallery, open_writer

DIM = 8
MADE_WITH = MadeWith("a" * 64, "sketch 1")
LOADED = {"embedding_sha256": MADE_WITH.embedding_sha256, "bundle": MADE_WITH.bundle}


def vector(name):
    v = np.random.default_rng(list(name.encode())).normal(size=(1, DIM))
    return (v / np.linalg.norm(v)).astype(np.float32)


def add(folder, *products, **containers):
    with open_writer(folder, made_with=MADE_WITH) as writer:
        for p in products:
            writer.add_references(p, vector(p), sources=[f"{p}/1.jpg"], sha256s=[p])
        for container, listed in containers.items():
            writer.put_container(container, listed)
        return writer.commit()


@pytest.fixture
def gallery(tmp_path):
    """Products P1 to P3; tote has P1 and P2 and one without a picture."""
    folder = tmp_path / "gallery"
    create_gallery(folder, dim=DIM, made_with=MADE_WITH)
    add(folder, "P1", "P2", "P3", tote=["P1", "P2", "bare"])
    return folder


def write(path, **containers):
    card = {"format": "robollm-manifest", "format_version": 1}
    path.write_text(json.dumps({**card, "containers": containers}))
    return path


def source(manifest, gallery, **kwargs):
    s = CatalogueSource(str(manifest), str(gallery), **{**LOADED, **kwargs})
    return s, s.load()


# what may be answered


def test_without_a_file_the_gallery_keeps_the_containers(gallery):
    stock = load_catalogue("", str(gallery), **LOADED)
    assert stock.allowed("tote") == ({"P1", "P2"}, "")
    assert stock.without_reference() == ["bare"]


def test_a_file_is_the_truth_even_if_the_gallery_keeps_containers_too(gallery, tmp_path):
    file = write(tmp_path / "m.json", other=["P3"])
    stock = load_catalogue(str(file), str(gallery), **LOADED)
    assert stock.allowed("other") == ({"P3"}, "")
    assert stock.allowed("tote")[0] is None


def test_a_container_gets_the_same_set_every_time(gallery):
    stock = load_catalogue("", str(gallery), **LOADED)
    assert stock.allowed("tote")[0] is stock.allowed("tote")[0]


def test_containers_that_are_not_there_are_not_remembered(gallery):
    stock = load_catalogue("", str(gallery), **LOADED)
    for i in range(1000):
        assert stock.allowed(f"stranger-{i}")[0] is None
    assert not stock._allowed


@pytest.mark.parametrize(
    ("container", "says"),
    [
        (None, "no container was announced"),
        ("none", "'none' is not in the manifest"),
        ("empty", "none of the 0 products of 'empty' has a reference"),
        ("bare", "none of the 1 products of 'bare' has a reference"),
    ],
)
def test_where_nothing_may_be_answered_the_reason_is_given(gallery, container, says):
    add(gallery, empty=[], bare=["nothing"])
    stock = load_catalogue("", str(gallery), **LOADED)
    allowed, reason = stock.allowed(container)
    assert allowed is None
    assert says in reason


# loading


def test_neither_manifest_nor_gallery_is_refused():
    with pytest.raises(ManifestError, match="no manifest is set"):
        load_catalogue("", "", **LOADED)


def test_the_gallery_is_looked_for_beside_the_manifest(gallery, tmp_path):
    file = write(tmp_path / "m.json", tote=["P1"])
    assert load_catalogue(str(file), "", **LOADED).allowed("tote")[0] == {"P1"}
    gallery.rename(tmp_path / "elsewhere")
    with pytest.raises(GalleryError, match="where it is looked for by default"):
        load_catalogue(str(file), "", **LOADED)


def test_another_bundle_is_refused_with_both_named(gallery):
    with pytest.raises(GalleryError, match=r"sketch 1.*sketch 2"):
        load_catalogue("", str(gallery), embedding_sha256="b" * 64, bundle="sketch 2")


# taking over changes


def test_nothing_changed_gives_the_same_object(gallery, tmp_path):
    for manifest in ("", write(tmp_path / "m.json", tote=["P1"])):
        s, first = source(manifest, gallery)
        assert s.refreshed(first) == (first, [])


def test_a_commit_makes_a_new_pair_of_one_generation_and_leaves_the_old_one_alone(gallery):
    s, first = source("", gallery)
    old = first.gallery.search(vector("P1")[0], 5)
    generation = add(gallery, "P4", tote=["P4"], new=["P1"])
    second, errors = s.refreshed(first)
    assert not errors
    assert second.gallery.generation == generation
    assert second.allowed("tote")[0] == {"P4"}
    assert second.allowed("new")[0] == {"P1"}
    assert first.allowed("tote")[0] == {"P1", "P2"}
    assert first.gallery.search(vector("P1")[0], 5) == old


def test_a_manifest_file_is_read_again_only_when_it_changed(gallery, tmp_path):
    file = write(tmp_path / "m.json", tote=["P1"])
    s, first = source(file, gallery)
    write(file, tote=["P1"], more=["P2"])
    second, errors = s.refreshed(first)
    assert not errors
    assert second.allowed("more")[0] == {"P2"}
    assert second.gallery is first.gallery
    assert s.refreshed(second)[0] is second
    assert s.refreshed(second, reread=True)[0] is not second


def test_a_file_replaced_by_one_of_the_same_time_and_size_is_seen(gallery, tmp_path):
    file = write(tmp_path / "m.json", tote=["P1"])
    s, first = source(file, gallery)
    new = write(tmp_path / "new.json", tote=["P2"])
    then = file.stat()
    os.utime(new, ns=(then.st_atime_ns, then.st_mtime_ns))
    new.replace(file)
    assert s.refreshed(first)[0].allowed("tote")[0] == {"P2"}


def test_a_broken_file_leaves_the_old_manifest_and_is_one_trouble_until_it_changes(
    gallery, tmp_path
):
    file = write(tmp_path / "m.json", tote=["P1"])
    s, first = source(file, gallery)
    good = file.read_text()
    file.write_text(good[:-5])
    again = [s.refreshed(first) for _ in range(3)]
    assert all(stock is first for stock, _ in again)
    assert len({id(e) for _, (e,) in again}) == 1
    file.unlink()
    stock, (error,) = s.refreshed(first)
    assert stock is first
    assert "does not exist" in error.what
    file.write_text(good)
    assert s.refreshed(first)[1] == []


def test_a_gallery_that_went_away_does_not_hold_back_a_new_manifest_file(gallery, tmp_path):
    file = write(tmp_path / "m.json", tote=["P1"])
    s, first = source(file, gallery)
    gallery.rename(tmp_path / "away")
    write(file, tote=["P2"])
    second, (error,) = s.refreshed(first)
    assert isinstance(error, GalleryError)
    assert second.allowed("tote")[0] == {"P2"}
    assert second.gallery.search(vector("P2")[0], 1)[0].product_id == "P2"


def test_a_gallery_replaced_as_a_whole_is_opened_anew(gallery, tmp_path):
    s, first = source("", gallery)
    other = tmp_path / "other"
    create_gallery(other, dim=DIM, made_with=MADE_WITH)
    add(other, "Q1", box=["Q1"])
    shutil.rmtree(gallery)
    stock, (error,) = s.refreshed(first)
    assert stock is first
    assert str(gallery) in error.what
    other.rename(gallery)
    second, errors = s.refreshed(first)
    assert not errors
    assert second.gallery.products == {"Q1"}
    assert second.allowed("box")[0] == {"Q1"}
    assert second.allowed("tote")[0] is None


def test_a_gallery_of_another_bundle_in_the_same_place_is_refused_and_the_old_one_stays(
    gallery, tmp_path
):
    s, first = source("", gallery)
    gallery.rename(tmp_path / "away")
    create_gallery(gallery, dim=DIM, made_with=MadeWith("b" * 64, "other bundle"))
    stock, (error,) = s.refreshed(first)
    assert stock is first
    assert "other bundle" in error.what
    shutil.rmtree(gallery)
    (tmp_path / "away").rename(gallery)
    assert s.refreshed(first)[1] == []


def test_a_pair_can_be_put_together_from_parts(gallery):
    stock = load_catalogue("", str(gallery), **LOADED)
    own = type(stock)(stock.gallery, Manifests({}, {"mine": frozenset({"P3"})}))
    assert own.allowed("mine")[0] == {"P3"}
