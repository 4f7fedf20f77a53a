from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from robollm.data.armbench_files import read_object

ROOT = Path(__file__).resolve().parents[2]


def test_help_names_the_verbs_and_loads_no_simulator(robollm):
    done = robollm("sim", "--help")
    assert done.code == 0
    assert all(verb in done.out for verb in ("dataset", "audit", "catalogue", "preview"))
    code = (
        "import sys; sys.argv = ['robollm', 'sim', 'dataset', '--help']\n"
        "from robollm.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('MODULES', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.split("MODULES")[1].split())
    assert not modules & {"mujoco", "PIL", "rich.progress", "rosbags"}


def test_a_catalogue_is_printed_one_product_a_line(robollm):
    done = robollm("sim", "catalogue", "--seed", "3", "--count", "12", "--split", "test")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert len({row["id"] for row in rows}) == 12
    assert {"title", "description", "weight_kg", "dimensions_m"} <= set(rows[0])


def test_a_catalogue_can_go_into_a_file(robollm, tmp_path):
    done = robollm("sim", "catalogue", "--count", "4", "--out", tmp_path / "c.jsonl")
    assert (done.code, done.out) == (0, "")
    assert len((tmp_path / "c.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    "words",
    [
        ["dataset", "--out", "{tmp}"],
        ["dataset", "--out", "{tmp}/d", "--size", "640"],
        ["dataset", "--out", "{tmp}/d", "--task", "flight"],
        ["dataset", "--out", "{tmp}/d", "--totes", "0", "--picks", "0", "--task", "segmentation"],
        ["audit", "{tmp}"],
        ["preview", "--out", "{tmp}/x.jpg"],
    ],
    ids=lambda words: " ".join(words),
)
def test_a_mistake_is_two_lines_and_exit_code_2(robollm, tmp_path, words):
    (tmp_path / "something.txt").write_text("not ours")
    done = robollm("sim", *(w.format(tmp=tmp_path) for w in words))
    assert (done.code, done.out) == (2, "")
    what, fix = done.err.splitlines()
    assert what.startswith("error: ")
    assert fix.startswith("  fix: ")


def test_ctrl_c_says_that_the_same_command_goes_on(robollm, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("robollm.sim.dataset.make.make_dataset", interrupted)
    done = robollm("sim", "dataset", "--out", tmp_path / "d")
    assert (done.code, done.out) == (130, "")
    assert "The same command goes on from there." in " ".join(done.err.split())


def test_the_audit_prints_a_table_for_people_and_json_for_programs(robollm, tmp_path):
    folder = tmp_path / "armbench-segmentation-0.1" / "mix-object-tote"
    folder.mkdir(parents=True)
    (folder / "test.json").write_text(
        '{"images": [{"id": 1}], "annotations": [], "categories": []}'
    )
    done = robollm("sim", "audit", tmp_path, "--write")
    assert done.code == 0, done.err
    assert json.loads(done.out)["goals"]["recall_at_1"] == 0.35
    assert "mix-object" in done.err
    assert "not measured" in " ".join(done.err.split())
    assert read_object(tmp_path / "audit.json") == json.loads(done.out)
