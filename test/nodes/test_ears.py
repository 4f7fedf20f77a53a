"""Publishers whose QoS doesn't fit are told of in the log and in /diagnostics."""

from __future__ import annotations

import pytest
import rclpy
from cell import BEST_EFFORT, RELIABLE, pick
from one_node import OneNode
from rclpy.parameter import Parameter
from std_msgs.msg import String
from vision_msgs.msg import Detection2D, Detection2DArray

from robollm.nodes import qos
from robollm.nodes.defects import DefectNode
from robollm.nodes.health import WARN
from robollm.nodes.identification import IdentificationNode


@pytest.fixture
def one_of(demo_station):
    made = []

    def make(kind, **params):
        made.append(OneNode(kind, demo_station, **params))
        made[-1].node.autostart()
        return made[-1]

    yield make
    for one in made:
        one.close()


def told(one, topic):
    return [text for level, text in one.problems() if topic in text and level == WARN]


def test_a_best_effort_pick_publisher_is_told_of_until_it_has_gone(one_of, capfd):
    one = one_of(DefectNode)
    verdicts = one.listen(Detection2DArray, "defects", RELIABLE)
    good = one.world.create_publisher(Detection2D, "pick", RELIABLE)
    bad = one.world.create_publisher(Detection2D, "pick", BEST_EFFORT)
    (text,) = one.until(lambda: told(one, "/pick"))
    want = f"publishers on {one.namespace}/pick not heard: best_effort, want reliable"
    assert want in text
    assert one.until(lambda: told(one, "1 of 2 publishers"))
    log = capfd.readouterr().err
    assert want in log
    assert "fix: let it publish that way" in log
    assert one.until(good.get_subscription_count)
    good.publish(pick("heard", 10**18))
    assert one.until(lambda: verdicts), "the one that fits is heard"
    one.world.destroy_publisher(bad)
    assert one.until(lambda: not told(one, "/pick"))


@pytest.mark.parametrize(
    ("topic", "kind"),
    [("container", String), ("detections", Detection2DArray), ("manifest", String)],
)
def test_every_subscription_of_the_pick_protocol_tells(one_of, topic, kind):
    one = one_of(IdentificationNode)
    one.world.create_publisher(kind, topic, BEST_EFFORT)
    (text,) = one.until(lambda: told(one, f"/{topic}"))
    assert "best_effort" in text
    subscribed = one.node.get_subscriptions_info_by_topic(f"{one.namespace}/{topic}")
    assert len(subscribed) == 1


def test_a_volatile_container_is_heard_and_no_problem(one_of):
    one = one_of(IdentificationNode)
    pub = one.world.create_publisher(String, "container", RELIABLE)
    assert one.until(pub.get_subscription_count)
    assert told(one, "/container") == []


def test_an_override_of_one_topic_leaves_the_others_as_they_are():
    """rclpy writes overrides into the profile that it is given."""
    context = rclpy.Context()
    rclpy.init(context=context)
    override = Parameter("qos_overrides./x.publisher.depth", value=5)
    node = rclpy.lifecycle.LifecycleNode("x", context=context, parameter_overrides=[override])
    before = qos.RESULTS.depth
    pubs = [qos.publisher(node, String, topic, qos.RESULTS) for topic in ("x", "y")]
    assert node.get_parameter("qos_overrides./x.publisher.depth").value == 5
    assert node.get_parameter("qos_overrides./y.publisher.depth").value == before
    assert qos.RESULTS.depth == before
    assert len(pubs) == 2
    node.destroy_node()
    rclpy.shutdown(context=context)
