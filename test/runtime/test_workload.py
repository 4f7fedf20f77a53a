"""The job that benchmarks time, and the process that is timed from its start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robollm.core.errors import ModelFileError
from robollm.core.settings import RuntimeConfig
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
    for _ in range(2):
        for job in jobs:
            job()
    assert perceiver.backbone.rows - rows == 4 * (1 + 4)
    assert perceiver.backbone.cache_hits == hits


def test_masks_and_crops_are_as_many_as_asked_for(perceiver: Perceiver) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (96, 120, 3), np.uint8)
    job = Workload(perceiver, [picture], crops=0, score_min=0.0, masks=2)
    job()
    assert job.found == [2]
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
