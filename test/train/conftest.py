"""What the tests of training share: one thread, and a small run that is quickly trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pick_folders
import pytest
import torch
from drawn_world import write_inducts
from engine_kit import CONFIG

from robollm.train.run import Order


@pytest.fixture(scope="session")
def drawn_inducts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inducts")
    write_inducts(root)
    return root


@pytest.fixture
def order(drawn_inducts: Path, tmp_path: Path) -> Callable[..., Order]:
    config = tmp_path / "small.py"
    config.write_text(CONFIG)

    def make(name: str = "run", *changes: str, **options: Any) -> Order:
        given = {"data": drawn_inducts, "out": tmp_path / name, "changes": changes, **options}
        return Order(task="defects", config=str(config), **given)

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that nobody changes."""
    return pick_folders.write(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder to damage."""
    return pick_folders.write(tmp_path, products=6, picks=2, val=(3,), test=(4, 5))
