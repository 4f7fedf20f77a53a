"""Sketch bundles: one that several tests read, and a quick way to write others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from onnx_kit import TINY

from robollm.export.sketch import write_sketch_bundle


@pytest.fixture(scope="session")
def sketch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default sketch: the one that the demo uses."""
    return write_sketch_bundle(tmp_path_factory.mktemp("models") / "sketch")


@pytest.fixture
def write_tiny(tmp_path: Path) -> Callable[..., Path]:
    """Write a tiny bundle for small canvases, quickly."""

    def write(folder: str = "tiny", **options: object) -> Path:
        settings = {"size": TINY, "tote_hw": (96, 128), "crop_hw": (64, 64)} | options
        return write_sketch_bundle(tmp_path / folder, **settings)  # type: ignore[arg-type]

    return write
