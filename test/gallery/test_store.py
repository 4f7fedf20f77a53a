"""Making and opening a gallery: what is refused, who may write, and where it may lie."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from robollm.core.errors import GalleryBusyError, GalleryError
from robollm.gallery import store
from robollm.gallery.base import ExactGallery
from robollm.gallery.check import check_gallery
from robollm.gallery.records import MadeWith, Product
from robollm.gallery.store import create_gallery, open_gallery, open_writer, read_card

BUNDLE = MadeWith("e" * 64, "sketch 1.0 (aaaa)")
OTHER = MadeWith("f" * 64, "other 2.0 (bbbb)")
IDS = ["a", "b", "a"]
VECTORS = np.float32([[1, 0, 0], [0, 1, 0], [0.6, 0, 0.8]])


@pytest.fixture
def folder(tmp_path):
    create_gallery(tmp_path / "gallery", dim=3, made_with=BUNDLE)
    with open_writer(tmp_path / "gallery", made_with=BUNDLE) as writer:
        for i, product in enumerate(IDS):
            writer.add_references(
                product, VECTORS[i : i + 1], sources=[f"{product}/{i}.jpg"], sha256s=["00"]
            )
        writer.commit()
    return tmp_path / "gallery"


def opened(folder, made_with=BUNDLE):
    return open_gallery(
        folder, embedding_sha256=made_with.embedding_sha256, bundle=made_with.bundle
    )


def put(folder, product, wait_s=10.0):
    with open_writer(folder, wait_s=wait_s) as writer:
        writer.put_product(Product(product))
        return writer.commit()


def test_a_gallery_survives_the_disk(folder):
    gallery = opened(folder)
    query = np.float32([0.6, 0, 0.8])
    want = ExactGallery(IDS, VECTORS).search(query, 5)
    got = gallery.search(query, 5)
    assert [m.product_id for m in got] == [m.product_id for m in want] == ["a", "b"]
    assert [m.similarity for m in got] == pytest.approx([m.similarity for m in want], abs=1e-3)
    gallery.close()


def test_a_new_gallery_is_empty_and_whole(tmp_path):
    create_gallery(tmp_path / "x" / "y" / "gallery", dim=3, made_with=BUNDLE)
    card = read_card(tmp_path / "x" / "y" / "gallery")
    assert (card.generation, card.references, card.dim, card.made_with) == (0, 0, 3, BUNDLE)
    gallery = opened(card.folder)
    assert gallery.search(VECTORS[0], 5) == []
    gallery.close()
    assert check_gallery(card.folder).problems == []


def test_the_card_says_what_the_gallery_is(folder):
    card = json.loads((folder / "gallery.json").read_text())
    assert (card["format"], card["format_version"]) == ("robollm-gallery", 2)
    assert (card["bundle"], card["dim"]) == (BUNDLE.bundle, 3)


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_what_exists_is_not_overwritten(tmp_path, kind):
    place = tmp_path / "photos"
    if kind == "folder":
        place.mkdir()
        (place / "holiday.jpg").write_bytes(b"irreplaceable")
    elif kind == "file":
        place.write_bytes(b"irreplaceable")
    else:
        place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(GalleryError, match="exists"):
        create_gallery(place, dim=3, made_with=BUNDLE)
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]
    assert kind != "folder" or (place / "holiday.jpg").read_bytes() == b"irreplaceable"


def test_a_failure_in_the_middle_of_making_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "note_generation", full)
    with pytest.raises(GalleryError, match="disk full"):
        create_gallery(tmp_path / "gallery", dim=3, made_with=BUNDLE)
    assert list(tmp_path.iterdir()) == []


def test_a_gallery_of_no_numbers_is_refused(tmp_path):
    with pytest.raises(GalleryError, match="dim is 0"):
        create_gallery(tmp_path / "gallery", dim=0, made_with=BUNDLE)


def test_another_bundle_is_refused_and_both_are_named(folder):
    for use in (lambda: opened(folder, OTHER), lambda: open_writer(folder, made_with=OTHER)):
        with pytest.raises(GalleryError) as e:
            use()
        assert BUNDLE.bundle in e.value.what
        assert OTHER.bundle in e.value.what
        assert e.value.fix


def test_any_bundle_may_look(folder):
    gallery = open_gallery(folder, embedding_sha256=None, bundle="")
    assert gallery.made_with == BUNDLE
    gallery.close()


@pytest.mark.parametrize(
    "card",
    [b"[]", b"null", b'"x"', b"{}", b"\xff\xfe\xfd", b'{"format": "robollm-gallery"}'],
)
def test_a_card_that_is_none_is_malformed(folder, card):
    (folder / "gallery.json").write_bytes(card)
    for use in (opened, open_writer, read_card, check_gallery):
        with pytest.raises(GalleryError, match="malformed"):
            use(folder)


@pytest.mark.parametrize(("key", "value"), [("format", "robollm-bundle"), ("format_version", 3)])
def test_another_format_is_refused(folder, key, value):
    card = json.loads((folder / "gallery.json").read_text())
    (folder / "gallery.json").write_text(json.dumps({**card, key: value}))
    with pytest.raises(GalleryError, match="want 'robollm-gallery' version 2") as e:
        opened(folder)
    assert e.value.fix


def test_an_older_format_is_refused_with_the_way_out(folder):
    card = json.loads((folder / "gallery.json").read_text())
    (folder / "gallery.json").write_text(json.dumps({**card, "format_version": 1}))
    with pytest.raises(GalleryError, match="format version 1") as e:
        opened(folder)
    assert "robollm gallery migrate" in e.value.fix


def test_where_there_is_no_gallery_it_says_so(tmp_path):
    for use in (opened, open_writer, read_card, check_gallery):
        with pytest.raises(GalleryError, match=r"there is no gallery\.json"):
            use(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["a b", "?x#y%20", "żółw 乌龟", "-rf", "a'b\"c", "x" * 200])
def test_odd_names_of_folders_and_things_are_kept(tmp_path, name):
    folder = tmp_path / name
    create_gallery(folder, dim=3, made_with=BUNDLE)
    with open_writer(folder, made_with=BUNDLE) as writer:
        writer.add_references(name, VECTORS[:1], sources=[name], sha256s=["0"])
        writer.put_container(name, [name, name + " "])
        writer.put_record(name, name, {name: [name]})
        writer.commit()
    gallery = opened(folder)
    assert [m.product_id for m in gallery.search(VECTORS[0], 9)] == [name]
    assert gallery.manifests.containers == {name: {name, name + " "}}
    assert gallery.record(name, name) == {name: [name]}
    assert gallery.reference_of(name)[0].source == name
    gallery.close()
    assert check_gallery(folder).problems == []


# several at once

HOLDER = """
import sys, time
from pathlib import Path
from robollm.gallery.records import Product
from robollm.gallery.writer import GalleryWriter
writer = GalleryWriter(Path(sys.argv[1]), None, 10)
writer.put_product(Product("kept"))
writer.commit()
writer.put_product(Product("lost"))
print("writing", flush=True)
time.sleep(600)
"""


@contextmanager
def another_process_writing(folder):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "writing\n"
            yield process
        finally:
            process.kill()


def test_a_second_writer_is_told_who_writes_and_goes_on_when_that_one_dies(folder):
    with another_process_writing(folder) as process:
        with pytest.raises(
            GalleryBusyError, match=f"written by process {process.pid} .* since"
        ) as e:
            put(folder, "mine", wait_s=0.05)
        assert "waited 0.05 s" in e.value.what
        gallery = opened(folder)  # readers never wait
        assert gallery.product("kept")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert put(folder, "mine") == 3
    assert gallery.product("mine")
    with pytest.raises(GalleryError, match="no product 'lost'"):
        gallery.product("lost")
    gallery.close()


def test_a_second_writer_waits_for_the_first(folder):
    with open_writer(folder) as first:
        first.put_product(Product("first"))
        second = threading.Thread(target=put, args=(folder, "second"))
        second.start()
        first.commit()
        second.join()
    gallery = opened(folder)
    assert gallery.generation == 3
    assert gallery.product("first")
    assert gallery.product("second")
    gallery.close()


def test_writers_of_several_threads_lose_no_commit(folder):
    def work(name):
        for i in range(10):
            put(folder, f"{name}-{i}")

    threads = [threading.Thread(target=work, args=(n,)) for n in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    card = read_card(folder)
    assert (card.generation, card.products_without_reference) == (31, 30)
    assert not (folder / "writer.json").exists(), "nobody writes now"


FORKED = """
import os, sys
from pathlib import Path
from robollm.core.errors import GalleryError
from robollm.gallery.reader import GalleryReader
from robollm.gallery.records import Product
from robollm.gallery.writer import GalleryWriter
folder = Path(sys.argv[1])
reader = GalleryReader(folder)
writer = GalleryWriter(folder, None, 10)
writer.put_product(Product("parent"))
if os.fork() == 0:
    for use in (writer.commit, lambda: writer.put_product(Product("child")), writer.known,
                lambda: reader.product("a")):
        try:
            use()
        except GalleryError as e:
            assert "doesn't survive a fork" in e.what
        else:
            os._exit(1)
    writer.close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
print(writer.commit())
writer.close()
"""


def test_a_fork_may_not_use_what_its_parent_opened_and_does_not_harm_it(folder):
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(folder)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("2\n", 0), done.stderr
    assert check_gallery(folder).problems == []


def test_a_folder_that_is_replaced_by_another_gallery_is_noticed(folder, tmp_path):
    gallery = opened(folder)
    create_gallery(tmp_path / "new", dim=3, made_with=BUNDLE)
    folder.rename(tmp_path / "old")
    (tmp_path / "new").rename(folder)
    after = gallery.refreshed()
    assert (after.generation, after.products) == (0, set())
    assert gallery.products == {"a", "b"}
    gallery.close()
