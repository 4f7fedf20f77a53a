"""tools/results_tote_small_runs.py: what training noted, without this machine's folders."""

from __future__ import annotations

import importlib
import json
import sys


def test_every_line_of_every_run_is_kept_without_folders(pytestconfig, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath / "tools"))
    module = importlib.import_module("results_tote_small_runs")
    start = {"command": "robollm train defects --data /mnt/x/sim --out /mnt/x/one", "processes": 2}
    rows = [{"step": 20, "loss": 1.23456789, "val/auc": None}, {"step": 40, "loss": 1.0}]
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        card = {"robollm": "0", "task": "defects", "seed": 3, "starts": [start]}
        (folder / "run.json").write_text(json.dumps(card))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "runs.json"
    words = ["x", str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    assert module.main() == 0
    kept = json.loads(out.read_text())
    assert [run["run"] for run in kept] == ["one", "two"]
    assert kept[0]["commands"] == ["robollm train defects --data sim --out one"]
    assert (kept[0]["seed"], kept[0]["processes"], kept[0]["steps"]) == (3, 2, 40)
    assert kept[0]["rows"] == [{"step": 20, "loss": 1.2346, "val/auc": None}, rows[1]]
    assert "/mnt" not in out.read_text()
