"""What the monitor makes of what it hears; its callbacks are called by hand, on a clock of ours."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from robollm.core.settings import PickConfig
from robollm.nodes import monitor, monitor_report
from robollm.nodes.monitor import KEPT, NODES, VerdictMonitor
from robollm.nodes.monitor_report import Row


@pytest.fixture
def clock(monkeypatch):
    """Seconds, to set."""
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(monitor, "time", SimpleNamespace(monotonic=lambda: now.s))
    return now


@pytest.fixture
def heard(clock):
    """A monitor that nobody spins, and the rows that it gave."""
    rclpy.init(args=["--ros-args", "-r", "__ns:=/robollm"])
    rows = []
    node = VerdictMonitor(PickConfig(), lambda row, picture: rows.append(row))
    yield node, rows
    node.destroy_node()
    rclpy.shutdown()


def said(pick_id, class_id, ns=1):
    one = Detection2D(id=pick_id, results=[ObjectHypothesisWithPose()])
    one.header.stamp.nanosec = ns
    one.bbox.size_x = one.bbox.size_y = 9.0
    one.results[0].hypothesis.class_id = class_id
    return Detection2DArray(detections=[one])


def status(name, **values):
    told = [KeyValue(key=k, value=v) for k, v in values.items()]
    return DiagnosticStatus(name=name, hardware_id="abc", values=told)


def test_a_fast_camera_does_not_push_out_when_the_judged_image_came(heard, clock):
    node, rows = heard
    node._take_pick(Detection2D(id="p1"))
    clock.s = 101.0
    for ns in range(1, 5 * KEPT):  # the first one is judged; the camera goes on
        node._take_image("on_arm_low", SimpleNamespace(stamp_ns=ns, frame=lambda: None))
    clock.s = 101.2
    node._take_evidence(said("p1/on_arm_low", "nominal"))
    node._take_verdict(said("p1", "nominal"))
    clock.s = 101.25
    node._take_name(said("p1", "A"))
    told = [status(f"/robollm/{n}", last_pick="p1", last_heads_ms="7") for n in NODES]
    node._take_diagnostics(DiagnosticArray(status=told))
    node._join()
    (row,) = rows
    assert (row.verdict, row.product) == ("nominal", "A")
    assert (row.latency_ms, row.event_ms) == (pytest.approx(200), pytest.approx(250))
    assert row.stages_ms == {n: {"heads": 7.0} for n in NODES}


def test_diagnostics_of_others_that_name_a_bundle_are_no_models(heard):
    node, _ = heard
    node._take_diagnostics(DiagnosticArray(status=[status("/gripper", bundle="of cables")]))
    assert (node.bundle, node.trained) == ("unknown", None)
    other = status("/cell2/robollm/defect_node", state="active", bundle="y 2", bundle_status="x")
    node._take_diagnostics(DiagnosticArray(status=[other]))
    assert (node.bundle, node.trained, node._active) == ("unknown", None, set())
    models = status("/robollm/defect_node", bundle="x 1", bundle_status="untrained")
    node._take_diagnostics(DiagnosticArray(status=[models]))
    assert (node.bundle, node.trained) == ("x 1 (abc)", False)


def test_the_stages_of_tote_images_are_what_their_node_told_last(heard):
    node, _ = heard
    early = {"total_ms_p50": "not measured", "total_ms_p95": "not measured"}  # before any image
    node._take_diagnostics(DiagnosticArray(status=[status("/robollm/segmentation_node", **early)]))
    assert node.tote_ms == {}
    for p50 in ("1", "2.5"):
        told = {"stage_rois_ms_p50": p50, "stage_rois_ms_p95": "4", "age_ms_p50": "77"}
        total = {"total_ms_p50": "8", "total_ms_p95": "9", "stage_odd": "no number"}
        node._take_diagnostics(
            DiagnosticArray(status=[status("/robollm/segmentation_node", **told, **total)])
        )
    elsewhere = status("/cell2/segmentation_node", stage_rois_ms_p50="99", stage_rois_ms_p95="99")
    node._take_diagnostics(DiagnosticArray(status=[elsewhere]))
    assert node.tote_ms == {"rois": (2.5, 4.0), "total": (8.0, 9.0)}


def test_the_table_of_stages_has_every_stage_of_every_node_and_their_sum():
    times = [{"backbone": 10.0 * k, "publish": 1.0, "brand_new": 2.0} for k in range(1, 12)]
    rows = [
        *(Row(f"p{k}", stages_ms={"defect_node": ms}) for k, ms in enumerate(times)),
        Row("mute"),
    ]
    found = monitor_report.stages(rows, NODES, {"rois": (3.0, 4.0), "total": (5.0, 6.5)})
    assert found["defect_node"]["backbone"] == pytest.approx((60, 105))
    assert found["defect_node"]["total"] == pytest.approx((63, 108))
    assert found["identification_node"] == {}
    head, rule, *lines, blank, _, _ = monitor_report.stage_table(found).splitlines()
    assert blank == ""
    assert len({len(line) for line in (head, rule, *lines)}) == 1
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in (head, *lines)]
    assert cells == [
        ["stage, ms", "tote image", "verdict", "product"],
        ["backbone", "-", "60.0 (105.0)", "-"],
        ["rois", "3.0 (4.0)", "-", "-"],
        ["brand_new", "-", "2.0 (2.0)", "-"],
        ["publish", "-", "1.0 (1.0)", "-"],
        ["total", "5.0 (6.5)", "63.0 (108.0)", "-"],
    ]


def test_a_stage_that_nobody_knew_is_in_the_table_of_picks_too():
    row = Row("p", stages_ms={"defect_node": {"brand_new": 2.0, "decode": 1.0}})
    assert "| decode 1.0, brand_new 2.0 |" in monitor_report.table([row], 2, NODES)


def test_what_the_monitor_writes_holds_the_stages(tmp_path):
    found = monitor_report.stages([], NODES, {"rois": (3.0, 4.0)})
    monitor_report.write(tmp_path, [], "the picks", found, bundle="b", trained=True, expected=2)
    card = json.loads((tmp_path / monitor_report.JSON).read_text())
    assert card["stages_ms"]["segmentation_node"]["rois"] == [3.0, 4.0]
    text = (tmp_path / monitor_report.MARKDOWN).read_text()
    assert "the picks" in text
    assert monitor_report.stage_table(card["stages_ms"]) in text
