"""`make demo`'s program, as it stands: exit code, table, one picture per pick, report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(240)
def test_the_demo_shows_one_verdict_and_one_picture_per_pick(tmp_path, ros_env):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "demo.py"), "--out", str(tmp_path)],
        env=ros_env, capture_output=True, text=True, check=False, timeout=230,
    )  # fmt: skip
    log = tmp_path / "perception.log"
    assert done.returncode == 0, done.stdout + done.stderr + log.read_text(errors="replace")
    truth = json.loads((tmp_path / "data" / "truth.json").read_text())["picks"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["trained"] is False
    assert [p["pick_id"] for p in report["picks"]] == [p["id"] for p in truth]
    for p, t in zip(report["picks"], truth, strict=True):
        assert len(p["views"]) == sum(label is not None for label in t["views"].values())
        picture = cv2.imread(str(tmp_path / f"{p['pick_id']}.png"))
        assert picture is not None
        assert f"| {p['pick_id']} | {p['verdict']} |" in done.stdout
        assert all("backbone" in s or "heads" in s for s in p["stages_ms"].values())
    assert "UNTRAINED" in done.stdout
    assert "UNTRAINED" in log.read_text()
    assert str(tmp_path) in done.stdout
