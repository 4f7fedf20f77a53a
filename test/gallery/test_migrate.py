"""Migration: killed at every step, damaged inputs, upgrades that misbehave."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from contextlib import closing

import numpy as np
import pytest

from robollm.core.errors import GalleryError
from robollm.gallery import migrate as migrate_module
from robollm.gallery import schema
from robollm.gallery.migrate import migrate_gallery
from robollm.gallery.reader import GalleryReader
from robollm.gallery.store import open_writer

KILLED = """
import os, sys
from pathlib import Path
left = int(sys.argv[2])
def watch(event, args):
    global left
    if event in ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "open") and (
            sys.argv[1] in str(args[0]) or event == "os.rmdir"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
from robollm.gallery.migrate import migrate_gallery
import faiss
sys.addaudithook(watch)
migrate_gallery(Path(sys.argv[1]))
"""


def load(folder):
    with closing(GalleryReader(folder)) as reader:
        return reader.load()


def version_1(folder):
    import faiss

    folder.mkdir()
    unit = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    index = faiss.IndexFlatIP(8)
    index.add(unit)
    faiss.write_index(index, str(folder / "index.faiss"))
    rows = [{"product_id": f"B{i // 2}", "image": f"{i}.jpg", "sha256": "00"} for i in range(5)]
    (folder / "rows.json").write_text(json.dumps(rows))
    files = {
        n: {"sha256": hashlib.sha256((folder / n).read_bytes()).hexdigest()}
        for n in ("index.faiss", "rows.json")
    }
    card = {"format": "robollm-gallery", "format_version": 1, "files": files,
            "embedding_sha256": "00", "bundle": "b"}  # fmt: skip
    (folder / "gallery.json").write_text(json.dumps(card))
    return unit


def test_a_kill_at_any_step_leaves_the_old_or_the_new_whole(tmp_path):
    original = tmp_path / "original"
    unit = version_1(original)
    step, killed = 0, True
    while killed:
        folder = tmp_path / f"g{step}"
        shutil.copytree(original, folder)
        pid = os.fork()
        if pid == 0:
            os.execv(sys.executable, [sys.executable, "-c", KILLED, str(folder), str(step)])
        killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
        migrate_gallery(folder)
        np.testing.assert_array_equal(load(folder).vectors, unit.astype(np.float16))
        assert len(list(folder.iterdir())) == 4
        step += 3
    assert step > 20


def test_damaged_format_1_is_named_and_left_alone(tmp_path):
    folder = tmp_path / "old"
    version_1(folder)
    file = folder / "index.faiss"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(GalleryError, match=r"index\.faiss is damaged"):
        migrate_gallery(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_card_of_another_program_is_refused(tmp_path):
    (tmp_path / "gallery.json").write_text('{"format": "photos", "format_version": 1}')
    with pytest.raises(GalleryError, match="photos"):
        migrate_gallery(tmp_path)


def test_an_upgrade_that_commits_is_refused_and_writers_are_no_obstacle(tmp_path, monkeypatch):
    folder = tmp_path / "g"
    version_1(folder)
    migrate_gallery(folder)
    with open_writer(folder) as w:
        w.put_container("tote", [])
        assert not migrate_gallery(folder).changed
    monkeypatch.setattr(schema, "UPGRADES", (lambda conn: conn.executescript("SELECT 1"),))
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 2)
    with pytest.raises(RuntimeError, match="ended the transaction"):
        migrate_gallery(folder)


def test_names_become_distinct_without_taking_another_name():
    names = ["a", "a", "a (2)", "a", ""]
    assert migrate_module._distinct(names) == (["a", "a (3)", "a (2)", "a (4)", ""], ("a", "a"))
