"""bench/gallery.py runs, its vectors are what they say, and its results make rows of the README."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture
def vectors(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "bench"))
    return importlib.import_module("gallery_vectors")


def test_a_small_run_measures_every_engine_and_makes_rows(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "gallery.json"
    command = [sys.executable, "bench/gallery.py", "--small", "--cases", "small, 3 references",
               "--rounds", "1", "--commits", "1", "--threads", "1", "--timeout", "60",
               "--work", str(tmp_path / "work"), "--out", str(out),
               "--picture", str(tmp_path / "gallery.png")]  # fmt: skip
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())["cases"]["small, 3 references"]
    missing = {n: why for n, why in found["refused"].items() if why != "not installed"}
    assert missing == {}
    assert found["equal"]["different"] == 0
    ours = {"ours, exact", "ours, exact, tuned", "ours, approximate", "numpy", "faiss flat"}
    assert ours <= found["tasks"]["whole"].keys()
    assert found["tasks"]["container of 50"]["ours, exact"]["same"] == 1
    assert found["changes"]["refresh 1000"]["runs"] == 2
    assert (tmp_path / "gallery.png").stat().st_size > 1000
    assert list((tmp_path / "work").iterdir()) == [], "a case leaves nothing behind"


def test_a_smaller_catalogue_is_the_beginning_of_a_larger_one(vectors: ModuleType) -> None:
    def made(products: int) -> np.ndarray:
        return np.concatenate([rows for _, rows in vectors.Catalogue(products, 2).blocks()])

    large = made(vectors.BLOCK + 10)
    assert np.array_equal(made(100), large[:100])
    np.testing.assert_allclose(np.linalg.norm(large, axis=2), 1, atol=1e-5)


def test_picks_are_hard_but_not_hopeless_and_some_products_are_nearly_equal(
    vectors: ModuleType,
) -> None:
    catalogue = vectors.Catalogue(2000)
    rows = np.concatenate([rows[:, 0] for _, rows in catalogue.blocks()])
    truth, picks = catalogue.picks(400)
    recall = float(np.mean((picks @ rows.T).argmax(1) == truth))
    assert 0.8 < recall < 0.95
    beside = (rows[1:] * rows[:-1]).sum(1)
    assert 5 < int((beside > 0.9999).sum()) < 60


def test_manifests_hold_the_truth_and_no_product_twice(vectors: ModuleType) -> None:
    catalogue = vectors.Catalogue(2000)
    truth, _ = catalogue.picks(96)
    truth = truth.reshape(8, 12)
    for wanted, listed in zip(truth, catalogue.containers(truth, 50), strict=True):
        assert set(wanted) <= set(listed)
        assert len(set(listed)) == 50
