"""Sketch bundles: one that several tests read, and a quick way to write others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from onnx_kit import TINY

from robollm.export.sketch import write_sketch_bundle
from robollm.runtime import precision

if TYPE_CHECKING:
    from exported_kit import Exported


@pytest.fixture(scope="session", autouse=True)
def _eight_bits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let every processor run int8, as those with VNNI may: how it is exported is tested here."""
    flags = tmp_path_factory.mktemp("cpu") / "cpuinfo"
    flags.write_text(f"flags : avx512_vnni {' '.join(sorted(precision.cpu_flags()))}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "CPUINFO", flags)
        yield


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


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ARMBench's three folders with a few pictures each."""
    from exported_kit import write_data

    return write_data(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Exported:
    """One multitask run as a bundle, with dynamic int8."""
    from exported_kit import export_multitask

    return export_multitask(tmp_path_factory.mktemp("multitask"), drawn)


@pytest.fixture(scope="session")
def exported_three(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Exported:
    """Three runs on one encoder as a bundle: adapters, three views, sequences, references."""
    from exported_kit import export_three

    return export_three(tmp_path_factory.mktemp("three"), drawn)
