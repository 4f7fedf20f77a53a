"""`robollm bench`, on the sketch bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from robollm.core.settings import RuntimeConfig
from robollm.runtime import probe

Call = Callable[..., Any]
STARTED = {"python_s": 0.1, "imports_s": 0.2, "loaded_s": 0.5, "masks_s": 0.6, "verdict_s": 0.7,
           "next_ms": 9.0, "rss_mib": 99.0, "peak_mib": 100.0}  # fmt: skip


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[RuntimeConfig]:
    """Starts no process; the probe has a test of its own."""
    asked: list[RuntimeConfig] = []

    def start(config: RuntimeConfig) -> dict[str, float]:
        asked.append(config)
        return dict(STARTED)

    monkeypatch.setattr(probe, "start", start)
    return asked


def bench(robollm: Call, bundle: Path, *words: object) -> Any:
    quick = ("--rounds", 1, "--threads", 1, "--crops", 2)
    return robollm("bench", "--bundle", bundle, *quick, *words)


def test_a_table_has_every_way_to_run_beside_the_reference(
    robollm: Call, sketch_bundle: Path
) -> None:
    done = bench(robollm, sketch_bundle)
    assert done.code == 0, done.err
    head = done.out.splitlines()
    assert "UNTRAINED" in head[0]
    assert "drawn, seeded" in head[0]
    row, stages = (line for line in head if line.startswith("cpu/fp32"))
    assert row.split()[4] == "1.0"
    names = head[head.index(stages) - 1]
    for stage in ("tote backbone", "tote rois", "tote masks", "crops backbone", "crops heads"):
        assert stage in names


def test_what_a_provider_cannot_do_is_said_and_not_hidden(
    robollm: Call, sketch_bundle: Path
) -> None:
    done = bench(robollm, sketch_bundle, "--precisions", "fp32,bf16", "--json")
    card = json.loads(done.out)
    assert list(card["rows"]) == ["cpu/fp32"]
    assert "bf16" in card["refused"]["cpu/bf16"]


def test_nothing_measured_is_an_error(robollm: Call, sketch_bundle: Path) -> None:
    done = bench(robollm, sketch_bundle, "--precisions", "fp16")
    assert done.code == 2
    assert "nothing could be measured: cpu/fp16" in done.err


def test_the_json_has_machine_settings_and_stages(
    robollm: Call, sketch_bundle: Path, tmp_path: Path, started: list[RuntimeConfig]
) -> None:
    out = tmp_path / "found.json"
    done = bench(robollm, sketch_bundle, "--proposals", 7, "--json", "--out", out)
    card = json.loads(done.out)
    assert json.loads(out.read_text()) == card
    assert (card["crops"], card["proposals"], card["threads"]) == (2, 7, 1)
    assert card["machine"]["packages"]["onnxruntime"]
    assert card["rows"]["cpu/fp32"]["verdict_s"] == STARTED["verdict_s"]
    assert card["rows"]["cpu/fp32"]["load_s"] == 0.3
    assert card["stages_ms"]["cpu/fp32"]["tote backbone"] > 0
    assert [c.proposals for c in started] == [7]


def test_where_the_json_can_not_go_is_said_before_anything_is_measured(
    robollm: Call, sketch_bundle: Path, tmp_path: Path, started: list[RuntimeConfig]
) -> None:
    done = bench(robollm, sketch_bundle, "--out", tmp_path / "no" / "such" / "x.json")
    assert done.code == 2
    assert f"there is no folder {tmp_path / 'no' / 'such'}" in done.err
    assert f"fix: mkdir -p {tmp_path / 'no' / 'such'}" in done.err
    done = bench(robollm, sketch_bundle, "--out", tmp_path)
    assert done.code == 2
    assert "is a folder, want a file" in done.err
    assert (started, list(tmp_path.iterdir())) == ([], [])


def test_a_disk_that_is_full_at_the_end_leaves_the_old_file_and_the_table(
    robollm: Call, sketch_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "found.json"
    out.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    done = bench(robollm, sketch_bundle, "--out", out)
    assert done.code == 2
    assert "can't be written: No space left on device" in done.err
    assert "cpu/fp32" in done.out
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("found.json", "old")]


def test_engines_are_kept_where_it_is_said(
    robollm: Call, sketch_bundle: Path, tmp_path: Path, started: list[RuntimeConfig]
) -> None:
    assert bench(robollm, sketch_bundle, "--engine-cache", tmp_path).code == 0
    assert [c.engine_cache for c in started] == [str(tmp_path)]


def test_pictures_of_a_folder_are_taken(robollm: Call, sketch_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        cv2.imwrite(str(tmp_path / "in" / f"{i}.png"), rng.integers(0, 255, (60, 80, 3), np.uint8))
    done = bench(robollm, sketch_bundle, "--images", tmp_path / "in")
    assert "3 of 3 from --images" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--precisions", "fp8"), "--precisions is 'fp8', want some of fp32"),
        (("--providers", ""), "--providers is '', want some of cpu"),
        (("--crop-features", "none"), "--crop-features is 'none', want some of crops, tote, both"),
        (("--images", "."), "holds no JPEG or PNG"),
    ],
)
def test_a_wrong_word_is_named(
    robollm: Call, sketch_bundle: Path, words: tuple[str, str], message: str,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = bench(robollm, sketch_bundle, *words)
    assert done.code == 2
    assert message in done.err
