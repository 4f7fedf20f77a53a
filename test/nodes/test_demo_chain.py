"""The demo's bag through player and nodes: three processes, real DDS, one verdict per pick."""

from __future__ import annotations

import json
import subprocess
import sys

from cell import Cell, stamp


def test_every_recorded_pick_gets_one_verdict_and_one_identification(demo, demo_station, tmp_path):
    truth = json.loads(demo.truth.read_text())["picks"]
    params = {"use_sim_time": True, "view_timeout_s": 2.0}
    cell = Cell(demo_station, tmp_path, params=params, publishers=False)
    try:
        remaps = []
        for name in (
            *("image/compressed", "pick", "container"),
            *("views/on_arm_low/image", "views/tote_wall/image/compressed"),
        ):
            remaps += ["-r", f"/robollm/{name}:={cell.namespace}/{name}"]
        player = subprocess.Popen(
            [
                *(sys.executable, "-m", "robollm.nodes.bag_player", str(demo.bag), "--wait", "20"),
                *("--ros-args", *remaps),
            ],
            stdout=subprocess.DEVNULL,
        )
        for p in truth:
            msg = cell.verdict(p["id"], 60)
            (d,) = msg.detections
            assert stamp(msg) == stamp(d) == p["tote_stamp_ns"]
            seen = sum(label is not None for label in p["views"].values())
            evidence = cell.evidence(p["id"])
            assert len(evidence.detections) == seen
            judged = {r.hypothesis.class_id for r in d.results}
            assert ("uninspected" in judged) == (seen < len(p["views"]))
            assert cell.until(lambda p=p: cell.answers("pick_identifications", p["id"]))
        cell.settle()
        assert len(cell.got["defects"]) == len(truth)
        assert len(cell.got["pick_identifications"]) == len(truth)
        assert cell.count("identification_node", "pick_without_tote_image") == 0
        assert player.wait(20) == 0
    finally:
        cell.close()
