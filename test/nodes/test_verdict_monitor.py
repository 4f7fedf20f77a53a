"""What the monitor makes of what it hears; its callbacks are called by hand, on a clock of ours."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from robollm.core.settings import PickConfig
from robollm.nodes import monitor
from robollm.nodes.monitor import KEPT, NODES, VerdictMonitor


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
