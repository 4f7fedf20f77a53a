"""A bundle's folder appears whole or not at all, whatever happens on the way."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from onnx_kit import TINY

from robollm.core.errors import ModelFileError
from robollm.export import writer
from robollm.export.sketch import write_sketch_bundle
from robollm.export.writer import write_bundle
from robollm.runtime.bundle import load_bundle

Parts = tuple[dict[str, bytes], dict[str, Any]]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """A card, and for its graphs one file that nobody runs."""
    size = {"size": TINY, "tote_hw": (32, 32), "crop_hw": (32, 32)}
    folder = write_sketch_bundle(tmp_path_factory.mktemp("sketch") / "tiny", **size)
    card = json.loads((folder / "bundle.json").read_text())
    del card["files"]
    card["graphs"] = dict.fromkeys(card["graphs"], "all.onnx")
    return {"all.onnx": b"x" * 5000}, card


def left_beside(out: Path) -> list[str]:
    return sorted(p.name for p in out.parent.iterdir() if p != out)


def named(out: Path) -> str:
    return load_bundle(out, allow_untrained=True).name


def killed_at(step: int, act: Callable[[], Any]) -> bool:
    """Run in a forked child that is killed at the step-th thing it does to the disk."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                nonlocal count
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **options)

            return call

        os.fsync, os.rename = counted(os.fsync), counted(os.rename)
        Path.replace = counted(Path.replace)  # type: ignore[method-assign]
        Path.open = counted(Path.open)  # type: ignore[method-assign]
        writer.shutil.rmtree = counted(shutil.rmtree)
        act()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_kill_at_any_step_leaves_nothing_that_passes_for_a_bundle(
    parts: Parts, tmp_path: Path
) -> None:
    models, card = parts
    out = tmp_path / "models" / "mine"
    step = 1
    while killed_at(step, lambda: write_bundle(out, models, card)):
        if out.exists():
            assert named(out) == card["name"]
            shutil.rmtree(out)
        step += 1
    assert step > 8
    assert left_beside(out) == []  # what the last killed one left, the one that got through swept


def test_a_kill_while_a_bundle_is_replaced_leaves_the_old_or_the_new_one(
    parts: Parts, tmp_path: Path
) -> None:
    models, card = parts
    out = tmp_path / "mine"
    seen = set()
    step, died = 1, True
    while died:
        shutil.rmtree(out, ignore_errors=True)
        write_bundle(out, models, {**card, "name": "old"})
        died = killed_at(step, lambda: write_bundle(out, models, {**card, "name": "new"}))
        with writer.workplace(out):  # as the next one would begin
            seen.add(named(out))
        step += 1
    assert seen == {"old", "new"}
    assert named(out) == "new"


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """A disk that is full, as far as this process can tell."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_and_leaves_the_old_bundle(parts: Parts, tmp_path: Path) -> None:
    models, card = parts
    out = tmp_path / "mine"
    write_bundle(out, models, {**card, "name": "old"})
    with no_file_larger_than(1000), pytest.raises(ModelFileError, match=r"(?s)mine can't.*free"):
        write_bundle(out, models, {**card, "name": "new"})
    assert named(out) == "old"
    assert left_beside(out) == []


def test_a_card_that_is_no_bundles_writes_nothing(parts: Parts, tmp_path: Path) -> None:
    models, card = parts
    for damage in (
        {"status": "finished"},
        {"labels": {"segmentation": [], "defects": []}},
        {"detector": {"proposals": 0}},
        {"variants": {}},
    ):
        with pytest.raises(ModelFileError, match="malformed"):
            write_bundle(tmp_path / "mine", models, {**card, **damage})
    assert list(tmp_path.iterdir()) == []


def test_graphs_and_card_must_be_of_the_same_files(parts: Parts, tmp_path: Path) -> None:
    models, card = parts
    with pytest.raises(ModelFileError, match="the card names"):
        write_bundle(tmp_path / "mine", {**models, "extra.onnx": b"x"}, card)
    with pytest.raises(ModelFileError, match="the card names"):
        write_bundle(tmp_path / "mine", {}, card)
    assert list(tmp_path.iterdir()) == []


def test_a_workplace_in_use_is_left_alone(parts: Parts, tmp_path: Path) -> None:
    models, card = parts
    out = tmp_path / "mine"
    with writer.workplace(out) as place:
        write_bundle(out, models, card)
        assert place.is_dir()
    assert left_beside(out) == []


def test_what_a_kill_left_of_another_bundle_stays_its_own(parts: Parts, tmp_path: Path) -> None:
    models, card = parts
    mine, other = tmp_path / "mine", tmp_path / "mine.v2"
    write_bundle(other, models, {**card, "name": "other"})
    aside = tmp_path / ".mine.v2.abcdefgh.part"
    aside.mkdir()
    other.replace(aside / "old")  # killed between its two renames
    write_bundle(mine, models, card)
    assert named(mine) == card["name"]
    with writer.workplace(other):
        assert named(other) == "other"


def test_a_workplace_that_was_swept_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def swept_at_first(*args: Any, **options: Any) -> str:
        made.append(mkdtemp(*args, **options))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    mkdtemp = writer.tempfile.mkdtemp
    monkeypatch.setattr(writer.tempfile, "mkdtemp", swept_at_first)
    with writer.workplace(tmp_path / "mine") as place:
        assert place.is_dir()
    assert len(made) == 2
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_between_two_renames_brings_the_old_bundle_back(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, card = parts
    out = tmp_path / "mine"
    write_bundle(out, models, {**card, "name": "old"})
    rename = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        done = rename(path, target)
        if path == out:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(out, models, {**card, "name": "new"})
    assert named(out) == "old"


def test_processes_that_write_one_bundle_at_once_all_get_through(
    parts: Parts, tmp_path: Path
) -> None:
    models, card = parts
    out = tmp_path / "models" / "mine"
    children = []
    for name in "abcd":
        children.append(os.fork())
        if children[-1] == 0:
            try:
                for _ in range(8):
                    write_bundle(out, models, {**card, "name": name})
            except BaseException:
                os._exit(1)
            os._exit(0)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert named(out) in "abcd"
    assert left_beside(out) == []
