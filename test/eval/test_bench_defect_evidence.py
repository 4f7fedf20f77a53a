"""bench/defect_evidence.py: areas by how much of a defect shows; another run's data are refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
from calibration_kit import KINDS, make_run

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location("evidence", BENCH / "defect_evidence.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(sketch_bundle, tmp_path):
    return make_run(tmp_path / "run", shutil.copytree(sketch_bundle, tmp_path / "bundle"))


def write_truth(folder, run, shown):
    """The truth of a run's inducts; `shown`: pixels of the defect in an induct's pictures."""
    records = list(run.records("defects"))
    lines = []
    for name in sorted({r.induct for r in records}):
        mine = [r for r in records if r.induct == name]
        event = {"package_defect": "open"}.get(mine[0].label, mine[0].label)
        images = [{"label": r.label, "evidence_px": shown(int(name))} for r in mine]
        lines.append(json.dumps({"id": name, "event": event, "images": images}))
    folder.mkdir()
    (folder / "truth.jsonl").write_text("\n".join(lines))
    return folder


def test_each_group_of_defects_is_held_against_all_nominal_pictures(
    bench, run, tmp_path, monkeypatch
):
    data = write_truth(tmp_path / "data", run, lambda name: 0 if name < 30 else 7000)
    out = tmp_path / "out.json"
    words = ["--data", data, "--run", run.path, "--out", out]
    monkeypatch.setattr(sys, "argv", ["defect_evidence.py", *map(str, words)])
    assert bench.main() == 0
    card = json.loads(out.read_text())
    assert [(g["from_px"], g["to_px"]) for g in card["groups"]] == [(0, 300), (6000, None)]
    said = [r for r in run.records("defects") if r.label != KINDS[0]]
    nominal = [r.probabilities["package_defect"] for r in said if r.label == "nominal"]
    assert card["nominal_images"] == len(nominal)
    for group, late in zip(card["groups"], (False, True), strict=True):
        mine = [r.probabilities["package_defect"] for r in said
                if r.label == "package_defect" and (int(r.induct) >= 30) == late]  # fmt: skip
        won = sum((m > n) + (m == n) / 2 for m in mine for n in nominal)
        value, low, high = group["auc"]
        assert group["images"] == len(mine)
        assert value == pytest.approx(won / len(mine) / len(nominal), abs=6e-4)
        assert low <= value <= high


def test_data_of_another_run_are_refused(bench, run, tmp_path):
    data = write_truth(tmp_path / "data", run, lambda name: 0)
    lines = (data / "truth.jsonl").read_text()
    (data / "truth.jsonl").write_text(lines.replace('"label": "nominal"', '"label": "multi_pick"'))
    with pytest.raises(SystemExit, match="is nominal in RUN and multi_pick in"):
        bench.read(data, run)
    (data / "truth.jsonl").write_text(lines.splitlines()[0])
    with pytest.raises(SystemExit, match="has no induct"):
        bench.read(data, run)
