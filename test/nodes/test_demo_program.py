"""`make demo`'s program, as it stands: exit code, table, pictures, reports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from robollm.runtime.default_bundle import NAME, shipped_bundles

ROOT = Path(__file__).resolve().parents[2]
PICKS = 7  # one of everything that `sim.demo_bag.EVENTS` has


@pytest.mark.timeout(240)
def test_the_demo_shows_what_was_said_of_every_pick_beside_the_truth(tmp_path, ros_env):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "demo.py"), "--out", str(tmp_path),
         "--picks", str(PICKS)],
        env=ros_env, capture_output=True, text=True, check=False, timeout=230,
    )  # fmt: skip
    log = tmp_path / "perception.log"
    assert done.returncode == 0, done.stdout + done.stderr + log.read_text(errors="replace")
    truth = json.loads((tmp_path / "data" / "truth.json").read_text())["picks"]
    assert len(truth) == PICKS
    report = json.loads((tmp_path / "report.json").read_text())
    shipped = NAME in shipped_bundles()  # a checkout without it shows random weights, and says so
    assert report["trained"] is shipped
    for text in (done.stdout, log.read_text(), (tmp_path / "picks.md").read_text()):
        assert ("UNTRAINED" in text) is not shipped
    assert [p["pick_id"] for p in report["picks"]] == [p["id"] for p in truth]
    for p, t in zip(report["picks"], truth, strict=True):
        assert len(p["views"]) == sum(label is not None for label in t["views"].values())
        assert 0 < p["latency_ms"] <= p["event_ms"]
        assert cv2.imread(str(tmp_path / f"{p['pick_id']}.png")) is not None
        [row] = re.findall(rf"^\| {p['pick_id']} +\|.*$", done.stdout, re.MULTILINE)
        cells = [c.strip() for c in row.strip("|").split("|")]
        assert cells[1].split()[0] == t["product_id"]
        assert (cells[2], cells[4], cells[6]) == (p["product"], p["verdict"], t["event"])
        assert cells[8] == f"{p['event_ms']:.0f}"
        assert all("backbone" in s or "heads" in s for s in p["stages_ms"].values())
    words = re.findall(r"^\| (\w+) +\|(.*)\|$", done.stdout.partition("stage, ms")[2], re.MULTILINE)
    shown = {stage: [c.strip() for c in cells.split("|")] for stage, cells in words}
    for stage in ("decode", "preprocess", "backbone", "publish", "total"):
        assert all(re.fullmatch(r"\d+\.\d \(\d+\.\d\)", c) for c in shown[stage]), stage
    for stage, columns in {"proposals": [0], "rois": [0], "masks": [0], "heads": [1, 2]}.items():
        assert [i for i, c in enumerate(shown[stage]) if c != "-"] == columns
    assert report["stages_ms"]["defect_node"]["total"][0] > 0
    assert re.search(r"^verdicts: \d of 7 right \(95 % interval", done.stdout, re.MULTILINE)
    assert re.search(r"p50 \d+ ms, p95 \d+ ms of 6 picks with all views", done.stdout)
    assert cv2.imread(str(tmp_path / "contact-sheet.png")) is not None
    page = tmp_path / "report" / "report.html"
    assert f"report:   {page}" in done.stdout
    assert page.stat().st_size > 10_000
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert metrics["partial"] is False
