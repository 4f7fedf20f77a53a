"""An export is one commit, whole, with sums that prove it."""

from __future__ import annotations

import hashlib
import json
import sqlite3

import numpy as np
import pytest

from robollm.core.errors import GalleryError
from robollm.gallery.export import export_gallery
from robollm.gallery.manifest import load_manifests
from robollm.gallery.records import MadeWith, Product
from robollm.gallery.store import create_gallery, open_writer

MADE = MadeWith("00", "b")


@pytest.fixture
def gallery(tmp_path):
    folder = tmp_path / "g"
    create_gallery(folder, dim=4, made_with=MADE)
    with open_writer(folder, made_with=MADE) as w:
        w.put_product(Product("A", 'a, "b"\n', "é", 0.0, (0.0, 0.1, 0.2), {"n": [1]}))
        w.add_references("A", np.eye(4)[:2], sources=["1", "2"], sha256s=["", ""])
        w.put_container("tote", ["A"])
        w.commit()
        w.remove_reference("1")
        w.commit()
    return folder


def test_the_sums_are_right_and_the_manifest_comes_back(gallery, tmp_path):
    out = tmp_path / "new" / "out"
    done = export_gallery(gallery, out)
    card = json.loads((out / "card.json").read_text())
    assert sorted([*card["files"], "card.json"]) == sorted(done.files)
    for name, want in card["files"].items():
        raw = (out / name).read_bytes()
        assert (hashlib.sha256(raw).hexdigest(), len(raw)) == (want["sha256"], want["bytes"])
    assert (card["generation"], card["references"], card["bundle"]) == (2, 1, "b")
    vectors = np.load(out / "vectors.npy")
    assert vectors.dtype == np.float16
    np.testing.assert_array_equal(vectors, np.eye(4)[1:2])
    back = load_manifests(out / "manifest.json")
    assert back.containers == {"tote": {"A"}}
    assert back.products["A"] == Product("A", 'a, "b"\n', "é", 0.0, (0.0, 0.1, 0.2), {"n": [1]})


@pytest.mark.parametrize("change", ["product SET title='x'", "reference SET source='x'"])
def test_a_changed_text_is_not_exported_and_nothing_is_left(gallery, tmp_path, change):
    conn = sqlite3.connect(gallery / "gallery.sqlite")
    conn.execute(f"UPDATE {change}")
    conn.commit()
    conn.close()
    with pytest.raises(GalleryError, match="not what was written"):
        export_gallery(gallery, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["g"]
