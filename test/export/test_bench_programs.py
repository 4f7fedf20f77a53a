"""No benchmark rots unseen: all of them start, and those of the runtime run on small models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench_driver import BENCH, STEPS
from exported_kit import Exported

pytestmark = pytest.mark.timeout(600)  # one process, which imports everything
PARTS = {p.stem for p in BENCH.glob("*.py") if "def main(" not in p.read_text()}


@pytest.fixture(scope="module")
def outcomes(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    work = tmp_path_factory.mktemp("bench")
    driver = Path(__file__).with_name("bench_driver.py")
    command = [sys.executable, driver, work, exported.runs[0], exported.data]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_benchmark_is_imported_and_says_how_it_is_used(outcomes: dict[str, Any]) -> None:
    assert {n: one["error"] for n, one in outcomes["help"].items() if "error" in one} == {}
    helps = {n: one["found"] for n, one in outcomes["help"].items()}
    assert {n for n, text in helps.items() if not text.startswith("usage: ")} == PARTS
    assert {"end_to_end", "instances", "peers", "startup", "rois"} <= helps.keys() - PARTS


@pytest.mark.parametrize("name", STEPS)
def test_a_benchmark_of_the_runtime_runs_on_small_models(
    outcomes: dict[str, Any], name: str
) -> None:
    outcome = outcomes["run"][name]
    assert "error" not in outcome, outcome["error"]
    cases = outcome["found"]["cases"]
    assert cases
    for case in cases.values():
        assert "refused" not in case or isinstance(case["refused"], dict), case["refused"]
        rows = case.get("rows") or case["engines"]
        assert any("cpu fp32" in row or row.startswith("onnxruntime fp32") for row in rows) or (
            all("ratio" in row for row in rows.values())
        )
        assert case["run"]["command"].startswith(f"python bench/{name}.py --rounds 1")


def test_the_float32_runtime_is_compared_with_torch_before_it_is_timed(
    outcomes: dict[str, Any],
) -> None:
    for case in outcomes["run"]["end_to_end"]["found"]["cases"].values():
        ours, torchs = case["equal"]["instances"]
        assert ours == torchs > 0
        share = case["baseline_operators"]
        assert 0 < share["share"] < 1
        assert share["runs"] == case["rows"]["torch fp32"]["runs"]
        assert case["rows"]["cpu fp32"]["ratio_bound"] < case["rows"]["cpu fp32"]["ratio"]
