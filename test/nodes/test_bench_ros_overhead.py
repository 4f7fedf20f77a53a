"""bench/ros_overhead.py runs, and what it writes is complete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_a_small_run_of_the_ros_bench_measures_both_sizes_and_writes_its_conditions(
    tmp_path, ros_env
):
    out = tmp_path / "ros_overhead.json"
    done = subprocess.run(
        [sys.executable, "bench/ros_overhead.py", "--blocks", "1", "--stream-s", "0.5",
         "--depth", "1", "--dim", "64", "--out", str(out)],
        cwd=ROOT, env=ros_env, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    card = json.loads(out.read_text())
    options = "--blocks 1 --stream-s 0.5 --depth 1 --dim 64"
    assert card["command"] == f"python bench/ros_overhead.py {options}"
    assert {"cpu", "cores", "packages", "load_before", "load_after"} <= card["conditions"].keys()
    assert card["sizes"].keys() == {"VGA", "1080p"}
    for row in card["sizes"].values():
        assert row["ratio_p50"] > 0
        assert row["stream"]["sent"] >= row["stream"]["answered"] >= 0
        p50 = {k.removesuffix("_ms_p50"): v for k, v in row["node_stages_ms"].items() if "p50" in k}
        assert {"backbone", "proposals", "rois", "masks"} <= p50.keys()
        own = sum(v for k, v in p50.items() if k not in ("decode", "publish"))
        assert row["added_to_own_model_ms_p50"] == pytest.approx(
            row["dds_ms"]["p50"] - own, abs=0.1
        )
