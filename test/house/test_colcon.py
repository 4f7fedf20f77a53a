"""colcon sees one package, and installs all of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robollm.runtime.default_bundle import shipped_bundles, shipped_folders

SHARED = ("launch", "config", "models")


def colcon(*arguments: str, cwd: Path) -> str:
    command = [str(Path(sys.executable).with_name("colcon")), "--log-base", os.devnull, *arguments]
    prefixes = os.environ.get("AMENT_PREFIX_PATH") or sys.prefix
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "AMENT_PREFIX_PATH": prefixes},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace's install/robollm, built from a copy of the tree."""
    workspace = tmp_path_factory.mktemp("workspace")
    source = workspace / "src" / "robollm"
    source.mkdir(parents=True)
    for name in ("package.xml", "setup.py", "setup.cfg", "pyproject.toml"):
        shutil.copy(root / name, source)
    for name in ("robollm", "resource", *SHARED):
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    colcon("build", cwd=workspace)
    return workspace / "install" / "robollm"


def test_every_executable_is_where_ros2_run_looks(installed: Path, scripts: dict[str, str]) -> None:
    found = {p.name for p in (installed / "lib" / "robollm").iterdir() if os.access(p, os.X_OK)}
    assert found == set(scripts)


def test_the_ament_index_knows_the_package(installed: Path) -> None:
    assert (installed / "share/ament_index/resource_index/packages/robollm").is_file()
    assert (installed / "share/robollm/package.xml").is_file()


@pytest.mark.parametrize("folder", SHARED)
def test_every_shared_file_is_installed(folder: str, installed: Path, root: Path) -> None:
    kept = {p.relative_to(root) for p in (root / folder).rglob("*") if p.is_file()}
    kept = {p for p in kept if not any(x == "__pycache__" or x[0] == "." for x in p.parts)}
    if folder == "launch":
        kept = {p for p in kept if p.suffix == ".py"}
    assert kept
    assert {p for p in kept if not (installed / "share/robollm" / p).is_file()} == set()


def test_an_installed_robollm_finds_the_bundles_that_were_installed_with_it(
    installed: Path, root: Path
) -> None:
    [module] = installed.glob("lib/python3.*/site-packages/robollm/runtime/default_bundle.py")
    models = installed / "share" / "robollm" / "models"
    assert shipped_folders(module) == (models,)
    kept = shipped_bundles([root / "models"])
    assert shipped_bundles([models]) == {name: models / name for name in kept}


def test_every_module_is_installed(installed: Path, root: Path) -> None:
    [packages] = installed.glob("lib/python3.*/site-packages")
    kept = {p.relative_to(root) for p in (root / "robollm").rglob("*.py")}
    assert {p for p in kept if not (packages / p).is_file()} == set()


def test_colcon_sees_only_robollm_in_a_checkout_that_has_been_set_up(root: Path) -> None:
    assert colcon("list", "--names-only", "--base-paths", str(root), cwd=root) == "robollm\n"
    # It skips these two by their dot; the marks are for who points it there.
    assert [d for d in (".venv", ".cache") if not (root / d / "COLCON_IGNORE").is_file()] == []
