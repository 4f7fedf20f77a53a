"""What the tests of the house share."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def bootstrap() -> ModuleType:
    """tools/bootstrap.py as a module."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "tools" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tracked(root: Path) -> list[Path]:
    """Every file that git has or would take."""
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return [root / name for name in done.stdout.split("\0") if name and (root / name).is_file()]


@pytest.fixture(scope="session")
def scripts() -> dict[str, str]:
    """The commands that users call, by name; a rename breaks somebody's launch file."""
    return {
        "robollm": "robollm.cli.main:main",
        "perception": "robollm.nodes.perception:main",
        "segmentation_node": "robollm.nodes.segmentation_node:main",
        "identification_node": "robollm.nodes.identification_node:main",
        "defect_node": "robollm.nodes.defect_node:main",
        "bag_player": "robollm.nodes.bag_player:main",
        "eval_replay": "robollm.nodes.eval_recorder:main",
        "verdict_monitor": "robollm.nodes.verdict_monitor:main",
    }
