"""A shelf of drawn products: the demo's pictures take long to simulate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest


@dataclass(frozen=True)
class Shelf:
    """Reference pictures, a manifest file of two containers, and a gallery of the pictures."""

    references: Path
    manifest: Path
    gallery: Path


@pytest.fixture(scope="session")
def shelf(perceiver, tmp_path_factory):
    """Eight products with two drawn pictures each; read only."""
    from robollm.runtime.enroll import enroll

    folder, rng = tmp_path_factory.mktemp("shelf"), np.random.default_rng(1)
    names = [f"P{i}" for i in range(8)]
    for name in names:
        (folder / "references" / name).mkdir(parents=True)
        for i in (1, 2):
            pixels = cv2.resize(rng.integers(0, 255, (9, 9, 3), np.uint8), (140, 110))
            assert cv2.imwrite(str(folder / "references" / name / f"{i}.jpg"), pixels)
    manifest = {
        "format": "robollm-manifest", "format_version": 1,
        "products": {n: {"title": f"Product {n}", "weight_kg": 0.2} for n in names},
        "containers": {"tote-A": names[:5], "tote-B": names[4:]},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    enroll(perceiver, folder / "references", folder / "gallery")
    return Shelf(folder / "references", folder / "manifest.json", folder / "gallery")
