"""Drawn reference pictures for builds of a gallery."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from robollm.runtime import embed_files, enroll


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Six products with three drawn pictures each; read only."""
    folder, rng = tmp_path_factory.mktemp("references"), np.random.default_rng(0)
    for product in "abcdef":
        (folder / product).mkdir()
        for i in (1, 2, 3):
            pixels = cv2.resize(rng.integers(0, 255, (9, 9, 3), np.uint8), (120, 100))
            cv2.imwrite(str(folder / product / f"{i}.jpg"), pixels)
    return folder


@pytest.fixture
def pictures(tmp_path, drawn):
    """A copy of the six products, to change."""
    return Path(shutil.copytree(drawn, tmp_path / "pictures"))


@pytest.fixture
def small_commits(monkeypatch):
    """Commits of four pictures."""
    monkeypatch.setattr(enroll, "COMMIT", 4)


@pytest.fixture
def small_batches(monkeypatch):
    """Batches of four pictures."""
    monkeypatch.setattr(embed_files, "BATCH_MAX", 4)
