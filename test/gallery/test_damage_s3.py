"""A gallery that something happened to: a clear error, or the same answers; nothing in between."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robollm.core.errors import GalleryError
from robollm.gallery.check import check_gallery
from robollm.gallery.compact import compact_gallery
from robollm.gallery.records import MadeWith, Product
from robollm.gallery.store import create_gallery, open_gallery, open_writer, read_card
from robollm.gallery.words import find_products

DIM = 8
BUNDLE = MadeWith("e" * 64, "sketch 1.0 (aaaa)")
PRODUCTS = [f"P{i}" for i in range(12)]
QUERIES = np.random.default_rng(7).standard_normal((5, DIM)).astype(np.float32)
FILES = ("gallery.json", "gallery.sqlite", "gallery.sqlite-wal", "vectors-000001.fp16",
         "generation")  # fmt: skip


def vectors(seed, n):
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)


def add(writer, product, n, name=""):
    names = [f"{product}/{name}{i}.jpg" for i in range(n)]
    seed = sum(map(ord, product + name))
    writer.add_references(product, vectors(seed, n), sources=names, sha256s=["0" * 64] * n)


def fill(folder):
    """Some commits; the writer, which is still open: the newest ones are in the log only."""
    create_gallery(folder, dim=DIM, made_with=BUNDLE)
    with open_writer(folder, made_with=BUNDLE) as writer:
        for product in PRODUCTS:
            add(writer, product, 3)
        writer.put_container("tote", PRODUCTS[:4])
        writer.commit()
    writer = open_writer(folder, made_with=BUNDLE)
    for product in PRODUCTS[::3]:
        writer.put_product(Product(product, f"title of {product}", "long text", 0.25, (1, 2, 3)))
        writer.remove_reference(f"{product}/1.jpg")
        writer.put_container(f"box {product}", [product, "unknown"])
        writer.put_record("tuning", product, {"product": product})
        writer.commit()
    return writer


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """As the disk looks while a writer is at work, and what it answers."""
    place = tmp_path_factory.mktemp("damage")
    writer = fill(place / "live")
    shutil.copytree(place / "live", place / "gallery")
    (place / "gallery" / "gallery.sqlite-shm").unlink()  # memory of processes, not on the disk
    writer.close()
    shutil.copytree(place / "gallery", place / "answering")
    return place / "gallery", answers(place / "answering")


@pytest.fixture
def folder(original, tmp_path):
    return Path(shutil.copytree(original[0], tmp_path / "gallery"))


def answers(folder):
    """Everything that a gallery can be asked; a look-up may be refused."""
    gallery = open_gallery(folder, embedding_sha256=None, bundle="")
    try:
        found = {
            "card": (gallery.generation, gallery.made_with, gallery.dim),
            "containers": dict(gallery.manifests.containers),
            "records": [gallery.record("tuning", p) for p in PRODUCTS],
            "whole": gallery.search_many(QUERIES, 50),
            "tote": gallery.search(QUERIES[0], 5, frozenset(PRODUCTS[:4])),
        }
        for product in PRODUCTS:
            for name, look in (("text", gallery.product), ("refs", gallery.reference_of)):
                try:
                    found[name, product] = look(product)
                except GalleryError:
                    found[name, product] = None
        return found
    finally:
        gallery.close()


def attempt(ask, folder):
    """(answer, None) or (None, our error, which has a fix)."""
    try:
        return ask(folder), None
    except GalleryError as e:
        error = e
    assert error.fix
    return None, error


def same_or_refused(folder, want):
    """Whether the gallery answers at all; what it answers must be right."""
    got, error = attempt(answers, folder)
    if error is not None:
        assert str(folder) in error.what
        return False
    for name, value in got.items():
        if value is not None:
            assert value == want[name], name
    return True


def check_finds(folder):
    report, error = attempt(check_gallery, folder)
    return error is not None or bool(report.problems)


def test_the_gallery_of_these_tests_is_whole(folder, original):
    assert same_or_refused(folder, original[1])
    assert check_gallery(folder).problems == []


@settings(max_examples=6000)
@given(
    name=st.sampled_from(FILES),
    where=st.floats(0, 1, exclude_max=True),
    flip=st.integers(1, 255),
    folded=st.booleans(),
)
def test_a_flipped_byte_gives_an_error_or_the_same_answers(
    original, tmp_path_factory, name, where, flip, folded
):
    folder = tmp_path_factory.mktemp("flip") / "gallery"
    shutil.copytree(original[0], folder)
    if folded:  # a log that was written back: the bytes are in the database
        open_writer(folder).close()
    file = folder / name
    raw = bytearray(file.read_bytes()) if file.exists() else bytearray()
    if raw:
        raw[int(where * len(raw))] ^= flip
        file.write_bytes(raw)
    fine = same_or_refused(folder, original[1])
    assert fine or check_finds(folder)
    shutil.rmtree(folder)


@settings(max_examples=60)
@given(name=st.sampled_from(FILES), keep=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_gives_an_error_or_the_same_answers(
    original, tmp_path_factory, name, keep
):
    folder = tmp_path_factory.mktemp("cut") / "gallery"
    shutil.copytree(original[0], folder)
    os.truncate(folder / name, int(keep * (folder / name).stat().st_size))
    fine = same_or_refused(folder, original[1])
    assert fine or check_finds(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed(folder, original, name):
    (folder / name).unlink()
    fine = same_or_refused(folder, original[1])
    assert fine == (name == "generation"), "a note is no truth"
    assert fine or check_finds(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_copy_of_parts_of_two_commits_is_noticed(folder, original, tmp_path, name):
    """What a backup looks like that is taken file by file while somebody compacts."""
    newer = Path(shutil.copytree(folder, tmp_path / "newer"))
    with open_writer(newer, made_with=BUNDLE) as writer:
        add(writer, "new", 4)
        writer.remove_product("P1")
        writer.commit()
    compact_gallery(newer)
    if (newer / name).exists():
        shutil.copy2(newer / name, folder / name)
    else:
        (folder / name).unlink()
    got, error = attempt(answers, folder)
    if error is None:
        assert got in (original[1], answers(newer))
    else:
        assert check_finds(folder)


def test_what_is_damaged_is_named_with_the_products_that_are_hit(folder):
    file = folder / "vectors-000001.fp16"
    raw = bytearray(file.read_bytes())
    raw[0] ^= 1
    file.write_bytes(raw)
    with pytest.raises(GalleryError, match=r"vectors-000001\.fp16: the bytes of slots 0 to 35"):
        open_gallery(folder, embedding_sha256=None, bundle="")
    problems = check_gallery(folder).problems
    assert len(problems) == 1
    assert "P0, P1, P2" in problems[0]


def rows_changed(folder, *statements):
    import sqlite3

    conn = sqlite3.connect(folder / "gallery.sqlite")
    for statement in statements:
        conn.execute(statement)
    conn.commit()
    conn.close()


@pytest.mark.parametrize(
    ("statement", "named", "opens"),
    [
        ("UPDATE product SET title='x' WHERE id='P0'", "product 'P0'", True),
        ("UPDATE product SET id='Q0' WHERE id='P0'", "product 'Q0'", False),
        ("DELETE FROM product WHERE id='P11'", "belongs to no product", False),
        ("UPDATE reference SET source='x' WHERE id=3", "reference 3 ('x')", True),
        ("UPDATE reference SET product=3 WHERE id=5", "reference 5", False),
        ("DELETE FROM reference WHERE id=3", "there are 31 references, want 32", False),
        ("DELETE FROM reference WHERE died IS NOT NULL", "0 removed references, want 4", True),
        ("UPDATE container_product SET product='P9' WHERE product='P1'", "container 'tote'", False),
        ("DELETE FROM container_product WHERE product='P1'", "container 'tote'", False),
        ("UPDATE record SET value='{}' WHERE name='P0'", "record tuning/P0", False),
        ("DELETE FROM record", "0 records, want 4", False),
        ("UPDATE extent SET crc32=1", "the bytes of slots", False),
        ("DELETE FROM extent", "checksums cover 0 slots", False),
        ("UPDATE space SET slots=35", "space 'image'", False),
        ("UPDATE card SET value='x' WHERE key='created'", "card's 'created'", False),
        ("INSERT INTO words(words) VALUES('delete-all')", "index of words", True),
    ],
)
def test_a_row_that_somebody_changed_by_hand_is_named(folder, original, statement, named, opens):
    rows_changed(folder, statement)
    assert any(named in p for p in check_gallery(folder).problems), check_gallery(folder).problems
    assert same_or_refused(folder, original[1]) == opens


def test_a_damaged_index_of_words_is_made_again(folder):
    rows_changed(folder, "INSERT INTO words(words) VALUES('delete-all')")
    assert check_gallery(folder).problems
    assert compact_gallery(folder).left == ""
    assert check_gallery(folder).problems == []
    assert [p.product_id for p in find_products(folder, "title p3")] == ["P3"]


def test_many_problems_of_a_kind_are_counted(folder):
    rows_changed(folder, "UPDATE reference SET sha256='x'")
    problems = check_gallery(folder).problems
    assert len(problems) == 21
    assert problems[-1].startswith("and 16 more like: ")


# disks


@contextmanager
def mounted(place, *options):
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", *options, "none", str(place)], capture_output=True, check=False
    )
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def small_files(size):
    """No file may grow beyond this size: writes fail as on a full disk (EFBIG, not ENOSPC)."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def fill_up(folder):
    """Commit until the disk refuses; the sources that were committed, and the error."""
    known = set()
    with open_writer(folder, made_with=BUNDLE) as writer:
        for i in range(10_000):
            try:
                add(writer, "big", 50, f"{i}-")
                writer.commit()
            except GalleryError as e:
                with open_writer(folder, wait_s=1) as second:
                    assert set(second.known()) == known, "an error, and yet it is there"
                return known, e
            known = set(writer.known())
    raise AssertionError("it was never full")


def test_a_full_disk_loses_nothing_and_says_so(tmp_path):
    with mounted(tmp_path / "disk", "-o", "size=1m") as real:
        folder = tmp_path / "disk" / "gallery"
        create_gallery(folder, dim=DIM, made_with=BUNDLE)
        if real:
            known, error = fill_up(folder)
        else:
            with small_files(300_000):
                known, error = fill_up(folder)
        assert "disk full" in error.what
        assert "free some space" in error.fix
        assert len(known) > 100
        assert check_gallery(folder).problems == []
        assert read_card(folder).references == len(known)
        if real:  # room again: it goes on
            subprocess.run(["mount", "-o", "remount,size=8m", str(tmp_path / "disk")], check=True)
        with open_writer(folder, made_with=BUNDLE) as writer:
            add(writer, "later", 3)
            writer.commit()
        assert check_gallery(folder).problems == []


def test_a_compaction_on_a_full_disk_changes_nothing_and_leaves_no_file(tmp_path):
    create_gallery(tmp_path / "gallery", dim=DIM, made_with=BUNDLE)
    folder = tmp_path / "gallery"
    with open_writer(folder, made_with=BUNDLE) as writer:
        for i in range(20):
            add(writer, "big", 1000, f"{i}-")
        writer.remove_references([f"big/0-{i}.jpg" for i in range(10)])
        writer.commit()
    before = answers(folder)
    with small_files(200_000), pytest.raises(GalleryError, match="disk full"):
        compact_gallery(folder)
    assert [p.name for p in folder.glob("*.fp16")] == ["vectors-000001.fp16"]
    assert answers(folder) == before
    assert compact_gallery(folder).dropped == 10


@contextmanager
def read_only(folder):
    """A folder that can't be written, also not by root, which chmod doesn't stop."""
    done = subprocess.run(
        ["mount", "--bind", "-o", "ro", str(folder), str(folder)], capture_output=True, check=False
    )
    if done.returncode == 0:
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
    elif os.getuid():
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
    else:
        pytest.skip("root that may not mount: there is nothing that it can't write")


def test_a_read_only_folder_is_searched_and_not_written(folder, original):
    open_writer(folder).close()
    with read_only(folder):
        assert answers(folder) == original[1]
        assert check_gallery(folder).problems == []
        for change in (compact_gallery, open_and_put):
            with pytest.raises(GalleryError, match="can't") as e:
                change(folder)
            assert "writable" in e.value.fix or "rights" in e.value.fix


def open_and_put(folder):
    with open_writer(folder) as writer:
        writer.put_product(Product("a"))
        writer.commit()


def test_commits_that_only_the_log_has_are_missed_on_a_read_only_folder(folder):
    with read_only(folder), pytest.raises(GalleryError, match=r"at generation 1, but 5 was"):
        open_gallery(folder, embedding_sha256=None, bundle="")


def test_another_process_reads_while_one_writes_and_compacts(folder):
    """Real processes: 60 commits and 6 compactions against a reader that never sees half."""
    script = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from robollm.gallery.writer import GalleryWriter\n"
        "from robollm.gallery.compact import compact_gallery\n"
        "from robollm.gallery.records import MadeWith\n"
        "folder = Path(sys.argv[1])\n"
        f"w = GalleryWriter(folder, MadeWith({BUNDLE.embedding_sha256!r}, 'x'), 10)\n"
        f"v = np.ones((2, {DIM}))\n"
        "for i in range(60):\n"
        "    names = [f'new/{i}-{j}' for j in range(2)]\n"
        "    w.add_references('new', v, sources=names, sha256s=['0', '0'])\n"
        "    if i: w.remove_references([f'new/{i - 1}-{j}' for j in range(2)])\n"
        "    w.commit()\n"
        "    if i % 10 == 9: compact_gallery(folder)\n"
    )
    first = gallery = open_gallery(folder, embedding_sha256=None, bundle="")
    before, seen = first.search_many(QUERIES, 50), set()
    with subprocess.Popen([sys.executable, "-c", script, str(folder)]) as process:
        while True:
            ended = process.poll() is not None
            gallery = gallery.refreshed()
            seen.add(gallery.generation)
            assert gallery.card.references in (32, 34)
            if ended:
                break
    assert process.returncode == 0
    assert gallery.generation == 5 + 60 + 6
    assert len(seen) > 2
    assert first.search_many(QUERIES, 50) == before
    first.close()
    assert check_gallery(folder).problems == []
