"""What the benchmarks share: the share of operators, the names of kept files, equality, totes."""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from bench_driver import BENCH

from robollm.core.errors import ConfigError, InferenceError
from robollm.core.settings import RuntimeConfig
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.workload import Workload

EQUAL = {"pictures": 1, "instances": [9, 9], "max_box_px": 1e-3, "max_score": 1e-6,
         "max_embedding": 1e-6, "max_probability": 1e-6, "min_mask_iou": 1.0}  # fmt: skip


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def test_random_parts_become_a_bundle_that_runs_and_is_kept(
    bench: Callable[[str], Any], tmp_path: Path
) -> None:
    bundles = bench("bundles")
    parts = bundles.random_parts("small", tote=64, crop=32)
    out = bundles.write(parts, tmp_path / "small")
    written = (out / "bundle.json").stat().st_mtime_ns
    config = RuntimeConfig(bundle=str(out), threads=1, allow_untrained=True)
    job = Workload(Perceiver(config), bundles.drawn(1, (80, 60)), crops=2, score_min=0.0)
    job(0)
    assert job.found[0] > 0
    again = bundles.random_parts("small", tote=64, crop=32)
    assert bundles.write(again, tmp_path / "small") == out
    assert (out / "bundle.json").stat().st_mtime_ns == written


def test_other_weights_options_or_code_are_another_folder(
    bench: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles = bench("bundles")
    parts = bundles.random_parts("small", tote=64, crop=32)
    first = bundles.digest(parts, calibrated=False)
    assert bundles.digest(parts, calibrated=False) == first
    larger = replace(parts, crop=replace(parts.crop, hw=(48, 48)))
    found = {
        first,
        bundles.digest(parts, calibrated=True),
        bundles.digest(larger, calibrated=False),
    }
    with torch.no_grad():
        next(parts.defects.parameters()).view(-1)[0] += 1e-3
    found.add(bundles.digest(parts, calibrated=False))
    parts.detector.test_cfg.rpn.max_per_img += 1
    found.add(bundles.digest(parts, calibrated=False))
    monkeypatch.setattr(bundles.made, "code", lambda sources: "another exporter")
    found.add(bundles.digest(parts, calibrated=False))
    assert len(found) == 6


def test_the_digest_of_the_code_is_that_of_its_files(
    bench: Callable[[str], Any], tmp_path: Path
) -> None:
    made = bench("made")
    (tmp_path / "a.py").write_text("one")
    before = made.code.__wrapped__((tmp_path / "a.py",))
    (tmp_path / "a.py").write_text("two")
    assert made.code.__wrapped__((tmp_path / "a.py",)) != before


def test_the_share_of_the_operators_is_the_median_over_the_timed_runs(
    bench: Callable[[str], Any],
) -> None:
    now = 0.0

    def work(seconds: float) -> str:
        nonlocal now
        now += seconds
        return "kept"

    extension = ModuleType("operators of a test", "by robollm")
    vars(extension).update(nms=work, roi_align_forward=work)
    meter = bench("operators").Meter(extension, lambda: now)
    rest = {-1: 0.0, 0: 1.0, 1: 3.0, 2: 6.0}

    def job(turn: int) -> None:
        assert vars(extension)["nms"](0.5) == "kept"
        vars(extension)["roi_align_forward"](0.5)
        work(rest[turn])

    timed = meter.metered(job)
    for turn in (-1, 0, 0, 1, 2):  # a short case runs twice in a round: the last run counts
        timed(turn)
    assert meter.shares == {-1: 1.0, 0: 0.5, 1: 0.25, 2: pytest.approx(1 / 7)}
    assert meter.about() == {"whose": "robollm's, in torch", "share": 0.25, "runs": 3}
    rows = {"reference": {"ratio": 1.0}, "ours": {"ratio": 2.0}}
    meter.bound(rows, ["reference"])
    assert rows == {"reference": {"ratio": 1.0}, "ours": {"ratio": 2.0, "ratio_bound": 1.5}}
    assert vars(extension)["nms"] is work


def test_a_runtime_that_is_equal_to_torch_is_timed(bench: Callable[[str], Any]) -> None:
    bench("eager").refuse_unequal(EQUAL)
    bench("eager").refuse_unequal({**EQUAL, "min_mask_iou": 0.96}, trained=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_box_px": 0.06}, "box_px 0.06, want <= 0.05"),
        ({"max_score": 2e-4}, "score 0.0002, want <= 0.0001"),
        ({"max_embedding": math.nan}, "embedding nan, want <= 0.0001"),
        ({"max_probability": 1.0}, "probability 1, want <= 0.0001"),
        ({"min_mask_iou": 0.98}, "mask IoU 0.98, want >= 0.99"),
        ({"instances": [8, 9]}, "8 instances, torch has 9"),
        ({"instances": [0, 0]}, "0 instances, torch has 0"),
    ],
)
def test_a_runtime_that_is_not_equal_to_torch_is_refused(
    bench: Callable[[str], Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(InferenceError, match="not equal to torch on 1 pictures") as e:
        bench("eager").refuse_unequal(EQUAL | change)
    assert words in e.value.what
    assert e.value.fix


@pytest.fixture
def end_to_end(bench: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The program; what it is called with goes to a folder of the test."""
    program = bench("end_to_end")
    monkeypatch.setattr(program.kit, "use_torch", lambda threads, work: torch)

    def call(*words: str) -> tuple[int, Path]:
        out = tmp_path / "out.json"
        words = ("--work", str(tmp_path), "--out", str(out), "--cases", "base 640", *words)
        monkeypatch.setattr(sys, "argv", ["end_to_end.py", *words])
        return program.kit.told(program.main), out

    program.call = call
    return program


def test_a_case_that_is_not_equal_is_recorded_as_refused_and_the_program_fails(
    end_to_end: Any, bench: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        end_to_end, "official", lambda _: bench("eager").refuse_unequal({**EQUAL, "max_box_px": 1})
    )
    code, out = end_to_end.call()
    assert code == 1
    assert "box_px 1, want <= 0.05" in json.loads(out.read_text())["cases"]["base 640"]["refused"]


def test_data_without_totes_end_the_program_before_anything_is_measured(
    end_to_end: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out = end_to_end.call("--data", str(tmp_path))
    assert (code, out.exists()) == (2, False)
    assert capsys.readouterr().err.startswith(f"error: --data {tmp_path} has no armbench")


def test_data_without_test_totes_are_refused_in_words(
    bench: Callable[[str], Any], tmp_path: Path
) -> None:
    bundles = bench("bundles")
    with pytest.raises(ConfigError, match=r"has no .*test\.json, want test totes") as e:
        bundles.test_totes(tmp_path, 3)
    assert "test split" in e.value.fix
    (tmp_path / bundles.TOTES).mkdir(parents=True)
    empty: dict[str, list[object]] = {"images": [], "annotations": [], "categories": []}
    (tmp_path / bundles.TOTES / "test.json").write_text(json.dumps(empty))
    with pytest.raises(ConfigError, match="lists 0 test totes, want 1 or more"):
        bundles.test_totes(tmp_path, 3)


def test_test_totes_are_spread_over_the_split(bench: Callable[[str], Any], drawn: Path) -> None:
    few = bench("bundles").test_totes(drawn, 2)
    assert [p.dtype for p in few] == [np.uint8] * len(few)
    assert 1 <= len(few) <= 2
