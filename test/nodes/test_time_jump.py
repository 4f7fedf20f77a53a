"""A recording that starts again: the same picks are new picks."""

from __future__ import annotations

import pytest
from builtin_interfaces.msg import Time
from cell import RELIABLE, image, pick, picture
from one_node import OneNode
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray

from robollm.nodes.defects import DefectNode

START_S = 100


@pytest.fixture
def one(demo_station):
    made = OneNode(DefectNode, demo_station, "-r", "/clock:=clock", use_sim_time=True)
    yield made
    made.close()


def test_a_recording_of_one_pick_that_is_looped_gets_the_same_verdict_every_time(one):
    verdicts = one.listen(Detection2DArray, "defects", RELIABLE)
    clock = one.world.create_publisher(Clock, "clock", RELIABLE)
    picks = one.world.create_publisher(Detection2D, "pick", RELIABLE)
    view = one.world.create_publisher(Image, "views/low/image", RELIABLE)
    assert one.start()
    assert one.until(lambda: picks.get_subscription_count() and view.get_subscription_count())

    def at(second):
        clock.publish(Clock(clock=Time(sec=second)))
        assert one.until(lambda: one.node.get_clock().now().nanoseconds == second * 10**9)

    for loop in range(3):
        at(START_S)
        picks.publish(pick("only", START_S * 10**9))
        assert one.until(lambda n=loop + 1: one.node.stats.counts().get("picks") == n)
        at(START_S + 1)
        view.publish(image(picture(1), (START_S + 1) * 10**9, "low"))
        assert one.until(lambda n=loop + 1: len(verdicts) == n)
    counts = one.node.stats.counts()
    assert (counts["time_jumps"], counts.get("repeated_stamp", 0)) == (2, 0)
    found = [m.detections[0].results[0].hypothesis for m in verdicts]
    assert len({(h.class_id, h.score) for h in found}) == 1
    assert found[0].class_id != "uninspected"
