"""The job that benchmarks time, and the process that is timed from its start."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from robollm.core.errors import ModelFileError
from robollm.core.frame import Frame
from robollm.core.settings import RuntimeConfig
from robollm.runtime.measure import interleave
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.probe import start
from robollm.runtime.workload import Workload, windows


def test_windows_are_the_best_boxes_and_then_a_grid() -> None:
    boxes = np.array([[1, 2, 30, 40], [5, 5, 9, 9]], np.float32)
    assert windows(boxes, (60, 90), 1) == [(1, 2, 30, 40)]
    some = windows(boxes, (60, 90), 5)
    assert some[:2] == [(1, 2, 30, 40), (5, 5, 9, 9)]
    assert some[2:] == [(0, 0, 30, 20), (30, 0, 60, 20), (60, 0, 90, 20)]
    assert windows(boxes, (60, 90), 0) == []
    assert all(0 <= a < c <= 90 and 0 <= b < d <= 60 for a, b, c, d in windows(boxes, (60, 90), 40))


def test_no_run_is_cheaper_because_of_an_earlier_one(perceiver: Perceiver) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (96, 120, 3), np.uint8)
    jobs = [Workload(perceiver, [picture], crops=4) for _ in range(2)]
    rows, hits = perceiver.backbone.rows, perceiver.backbone.cache_hits
    for turn in (0, 0, 1):  # a short case runs twice in a round
        for job in jobs:
            job(turn)
    assert perceiver.backbone.rows - rows == 6 * (1 + 4)
    assert perceiver.backbone.cache_hits == hits


def test_the_round_chooses_the_picture_for_every_case(
    perceiver: Perceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    pictures = [rng.integers(0, 255, (60, 80, 3), np.uint8) for _ in range(3)]
    seen: list[tuple[int, int]] = []
    own = Perceiver.segment

    def look(self: Perceiver, frame: Frame, **how: Any) -> Any:
        seen.append((next(i for i, p in enumerate(pictures) if p is frame.pixels), frame.stamp_ns))
        return own(self, frame, **how)

    monkeypatch.setattr(Perceiver, "segment", look)
    cases = {f"{n} crops": Workload(perceiver, pictures, crops=n) for n in (0, 2)}
    alike = SimpleNamespace(wall=lambda: 0.0, cpu=lambda: 0.0)  # all are short: an untimed run more
    interleave(cases, rounds=4, warm_up=1, clock=alike)
    shown = [picture for picture, _ in seen]
    assert shown == [2, 2] + 4 * [0] + 4 * [1] + 4 * [2] + 4 * [0]
    assert len({stamp for _, stamp in seen}) == len(seen)


def test_what_is_told_is_of_the_timed_rounds(perceiver: Perceiver) -> None:
    job = Workload(perceiver, [np.zeros((60, 80, 3), np.uint8)], crops=0)
    job.found, job.stages = {-1: 90, 0: 1, 1: 4}, {-1: {"a": 9.0}, 0: {"a": 1.0}, 1: {"a": 2.0}}
    assert job.instances() == 2.5
    assert job.stages_ms() == {"a": 1.5}


def test_masks_and_crops_are_as_many_as_asked_for(perceiver: Perceiver) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (96, 120, 3), np.uint8)
    job = Workload(perceiver, [picture], crops=0, score_min=0.0, masks=2)
    job(0)
    assert job.found == {0: 2}
    assert {"tote preprocess", "tote backbone", "tote masks"} <= set(job.stages_ms())
    assert not any(name.startswith("crops") for name in job.stages_ms())


def test_a_process_tells_how_long_it_took_to_its_first_verdict(sketch_bundle: Path) -> None:
    config = RuntimeConfig(bundle=str(sketch_bundle), threads=1, allow_untrained=True)
    found = start(config)
    order = ("python_s", "imports_s", "loaded_s", "masks_s", "verdict_s")
    marks = [found[name] for name in order]
    assert marks[0] > 0
    assert marks == sorted(marks)
    assert 0 < found["rss_mib"] <= found["peak_mib"]


def test_a_process_that_gives_up_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no model bundle at") as e:
        start(RuntimeConfig(bundle=str(tmp_path)))
    assert e.value.fix
