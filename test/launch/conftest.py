"""A place where launch finds the package: pip puts it elsewhere than colcon does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from launched import ROOT, scripts


def _prefix(root: Path, script: Callable[[str, str], str]) -> Path:
    """An ament prefix at `root`, as colcon would install robollm with these executables."""
    index = root / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "robollm").touch()
    share = root / "share" / "robollm"
    share.mkdir()
    for folder in ("launch", "config"):
        (share / folder).symlink_to(ROOT / folder)
    lib = root / "lib" / "robollm"
    lib.mkdir(parents=True)
    for name, target in scripts().items():
        (lib / name).write_text(script(name, target))
        (lib / name).chmod(0o755)
    return root


@pytest.fixture(scope="session")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def script(name: str, target: str) -> str:
        module, function = target.split(":")
        return (
            f"#!/bin/sh\nexec '{sys.executable}' -c "
            f"'import sys; from {module} import {function}; sys.exit({function}())' \"$@\"\n"
        )

    return _prefix(tmp_path_factory.mktemp("installed") / "prefix", script)


@pytest.fixture
def installed(_installed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package as launch finds it after colcon, for this process and its children."""
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{_installed}:{os.environ['AMENT_PREFIX_PATH']}")
    return _installed


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, but its executables only write down how they were called; returns where."""

    def script(name: str, target: str) -> str:
        out = f"{tmp_path}/{name}"
        return f"#!/bin/sh\nprintf '%s\\0' \"$0\" \"$@\" > '{out}.argv'\nenv -0 > '{out}.env'\n"

    prefix = _prefix(tmp_path / "prefix", script)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{prefix}:{os.environ['AMENT_PREFIX_PATH']}")
    return tmp_path
