"""Folders, the bag made of them, and that bag through DDS: one station, one answer."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import psutil
import pytest
from tiny_armbench import write_picks

pytest.importorskip("rclpy", reason="ROS 2 is one of the three ways")
pytest.importorskip("vision_msgs", reason="the nodes need vision_msgs")

from robollm.core.errors import EvalError
from robollm.data.bag import BagWriter
from robollm.data.problems import Problems
from robollm.eval import ros, ros_filing, ros_processes
from robollm.eval.ros import RosSettings, replay_bags
from robollm.eval.run_folder import RunFolder
from robollm.eval.truth import Bag, StationTruth, read_truth

PICKS = 8
OPTIONS = ("--allow-untrained", "-p", "view_timeout_s:=1.0")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_picks(folder, count=PICKS)
    return folder


@pytest.fixture
def own_domain(monkeypatch):
    """This test process' ROS domain, which no other one has."""
    monkeypatch.setattr(ros_processes, "free_domain", lambda: int(os.environ["ROS_DOMAIN_ID"]))


def answers(run):
    """What was decided, by pick; what ROS does not publish is left out."""
    out = {}
    for r in RunFolder.open(run).records("picks"):
        named, verdict = r.identification, r.verdict
        out[r.key] = {
            "error": r.error,
            "truth": r.truth,
            "named": (named["decision"], [tuple(row) for row in named["ranked"]]),
            "verdict": (verdict["decision"], [tuple(row) for row in verdict["ranked"]]),
            "inspected": verdict["inspected"],
            "missing": [view for view, _ in verdict["missing"]],
            "evidence": {
                e["view"]: (e["stamp_ns"], e["probabilities"], e["box"])
                for e in r.evidence
                if e["probabilities"] is not None
            },
        }
    return out


def figures(run):
    sections = json.loads((run / "metrics.json").read_text())["sections"]
    (section,) = (s for s in sections if s["subset"] == "picks")
    named = {k: v for k, v in section["figures"].items() if not k.startswith("latency")}
    assert len(named) > 20
    return named


def add_instances(truth):
    """Tell what lies in two of the tote images."""
    card = json.loads(truth.read_text())
    one = {"category": "Object", "bbox": [2, 3, 8, 9], "iscrowd": 0}
    one["segmentation"] = [[2, 3, 10, 3, 10, 12, 2, 12]]
    card["frames"] = [
        {"stamp_ns": p["tote_stamp_ns"], "hw": [16, 16], "instances": [one]}
        for p in card["picks"][2:4]
    ]
    truth.write_text(json.dumps(card))


def test_folders_bag_and_ros_give_the_same_records_and_figures(
    robollm, data, sketch_bundle, tmp_path, own_domain
):
    folders, bag, through = (tmp_path / n for n in ("folders", "bag", "ros"))
    common = ("--bundle", sketch_bundle, *OPTIONS, "--draws", "100", "--json")
    said = [robollm("eval", "picks", data, "--out", folders, *common, "--workers", "1")]
    said.append(robollm("eval", "make-bag", data, "--out", tmp_path / "made"))
    add_instances(tmp_path / "made" / "truth.json")
    place = (tmp_path / "made" / "bag", "--manifest", tmp_path / "made" / "manifest.json")
    more = ("--gallery", folders / "gallery", *common)
    said.append(robollm("eval", "bag", *place, "--out", bag, *more, "--workers", "1"))
    said.append(robollm("eval", "bag", *place, "--out", through, *more, "--ros"))
    assert [s.code for s in said] == [0] * 4, said

    one, two, three = (answers(run) for run in (folders, bag, through))
    assert len(one) == PICKS
    assert sum("tote_wall" in a["missing"] for a in one.values()) == 2
    assert {a["named"][0] for a in one.values()} <= {
        "identified", "ambiguous", "unknown", "not_in_manifest"
    }  # fmt: skip
    assert one == two == three
    offline, ros_ = (list(RunFolder.open(run).records("totes")) for run in (bag, through))
    assert len(offline) == 2
    assert [replace(r, ms={}) for r in offline] == [replace(r, ms={}) for r in ros_]
    assert figures(folders) == figures(bag) == figures(through)
    assert json.loads(said[-1].out)["complete"] is True
    cards = [json.loads((run / "run.json").read_text()) for run in (folders, bag, through)]
    assert [c["source"] for c in cards] == ["folder", "bag", "ros"]
    assert [c["problems"]["counts"] for c in cards] == [{"picks_timed_out": 2}] * 3


class KillsTheNodes:
    """A progress that kills `perception` when two picks are done."""

    def __init__(self):
        self.done = 0

    def begin(self, label, total, done=0):
        """See `robollm.eval.progress.Progress`."""

    def advance(self, *, failed=False):
        self.done += 1
        if self.done == 2:
            (nodes,) = (
                p
                for p in psutil.Process().children()
                if "robollm.nodes.perception" in " ".join(p.cmdline())
            )
            nodes.send_signal(signal.SIGKILL)

    def end(self):
        """See `robollm.eval.progress.Progress`."""


def test_nodes_that_die_leave_a_partial_run_that_goes_on(
    robollm, data, sketch_bundle, tmp_path, own_domain
):
    made, out = tmp_path / "made", tmp_path / "run"
    assert robollm("eval", "make-bag", data, "--out", made).code == 0
    bag = Bag(made / "bag", "made", read_truth(made / "truth.json"))
    settings = RosSettings(
        parameters={
            "bundle": str(sketch_bundle),
            "manifest": str(made / "manifest.json"),
            "gallery": str(tmp_path / "gallery"),
            "allow_untrained": True,
        }
    )
    references = data / "armbench-object-id-0.1" / "Reference_Images"
    built = robollm(
        "gallery", "build", "--images", references, "--out", tmp_path / "gallery", "--bundle",
        sketch_bundle, "--allow-untrained",
    )  # fmt: skip
    assert built.code == 0, built
    card = {"source": "ros", "data": {}, "predictor": {}, "settings": {}}
    with (
        pytest.raises(EvalError, match=r"perception ended with exit code -9") as died,
        RunFolder.create_or_resume(out, card) as run,
    ):
        replay_bags(run, [bag], settings, progress=KillsTheNodes())
    assert "defect_node" in died.value.what  # the end of the nodes' log
    assert "goes on" in died.value.fix
    before = answers(out)
    assert 2 <= len(before) < PICKS
    assert any("perception ended" in line for line in RunFolder.open(out).partial_reasons())
    with RunFolder.create_or_resume(out, card) as run:
        progressed = replay_bags(run, [bag], settings)
    assert (progressed.done, progressed.skipped) == (PICKS - len(before), len(before))
    after = answers(out)
    assert len(after) == PICKS
    assert {k: after[k] for k in before} == before
    assert not RunFolder.open(out).partial_reasons()


def test_nodes_with_another_bundle_or_precision_are_refused():
    seen = {"bundle_sha256": "aaa", "precision": "int8"}
    ros_filing.refuse_other_models(seen, {"sha256": "aaa", "precision": "int8"})
    ros_filing.refuse_other_models(seen, {})
    for other in ({"sha256": "bbb"}, {"sha256": "aaa", "precision": "fp32"}):
        with pytest.raises(EvalError, match="the nodes run"):
            ros_filing.refuse_other_models(seen, other)


def test_without_ros_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(ros.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EvalError, match="finds no rclpy and no vision_msgs") as missing:
        ros.need_ros()
    assert "setup.bash" in missing.value.fix


def test_picks_are_found_where_the_nodes_would_listen(tmp_path):
    with BagWriter(tmp_path / "bag") as out:
        for k, name in enumerate(("a", "", "b", "a")):
            out.pick("/cell/grasp", 100 + k, "cam", name, (0, 0, 5, 5), 200 + k)
    settings = RosSettings(namespace="/cell", remaps=("pick:=grasp",))
    topic = ros._pick_topic(settings)
    problems = Problems()
    bag = Bag(tmp_path / "bag", "bag", StationTruth())
    found = [(p.pick_id, p.stamp_ns) for p in ros_filing.picks_of(bag, topic, problems)]
    assert found == [("a", 100), ("b", 102), ("a", 103)]
    assert problems.counts == {"bad_pick": 1}
