"""An error that nobody foresaw, inside a worker: the pick is answered, the node goes on."""

from __future__ import annotations

import time

import pytest
import rclpy
from cell import RELIABLE, pick
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from vision_msgs.msg import Detection2D, Detection2DArray

from robollm.nodes.defects import DefectNode
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.station import Station


@pytest.fixture
def graph():
    context = rclpy.Context()
    rclpy.init(context=context)
    executor = SingleThreadedExecutor(context=context)
    yield context, executor
    executor.shutdown()
    rclpy.shutdown(context=context)


def test_a_bug_in_the_inference_path_ends_in_uninspected_and_is_counted(
    graph, demo_station, monkeypatch
):
    context, executor = graph
    values = {
        "bundle": str(demo_station / "bundle"),
        "allow_untrained": True,
        "view_timeout_s": 0.05,
        "views": ["low"],
    }
    node = DefectNode(
        Station(),
        context=context,
        namespace="bug",
        parameter_overrides=[Parameter(k, value=v) for k, v in values.items()],
    )
    world = rclpy.create_node("world", context=context, namespace="bug")
    for n in (node, world):
        executor.add_node(n)
    got = []
    world.create_subscription(Detection2DArray, "defects", got.append, RELIABLE)
    pub = world.create_publisher(Detection2D, "pick", RELIABLE)

    def until(true):
        end = time.monotonic() + 20
        while not true() and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.05)
        return true()

    def broken(*args, **kwargs):
        raise ZeroDivisionError("a bug")

    try:
        node.autostart()
        assert until(
            lambda: pub.get_subscription_count() and node.count_subscribers("/bug/defects")
        )
        monkeypatch.setattr(Perceiver, "inspect_pick", broken)
        pub.publish(pick("one", time.time_ns()))
        assert until(lambda: len(got) == 1)
        first = got[0].detections[0].results[0].hypothesis
        assert (first.class_id, first.score) == ("uninspected", 1.0)
        assert node.stats.counts()["internal_error"] == 1
        monkeypatch.undo()
        pub.publish(pick("two", time.time_ns()))
        assert until(lambda: len(got) == 2)
        assert node.stats.counts()["internal_error"] == 1
    finally:
        node.destroy_node()
        world.destroy_node()
