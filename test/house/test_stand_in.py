"""The field lists of vision_msgs, and what is built from them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from robollm.data import vision_msgs

rclpy = pytest.importorskip("rclpy")


def test_the_field_lists_give_the_hashes_of_the_real_package() -> None:
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = {}
    for name, text in vision_msgs.MESSAGES.items():
        types |= get_types_from_msg(text, name)
    store.register(types)
    hashes = {name: store.hash_rihs01(name) for name in vision_msgs.TYPE_HASHES}
    assert hashes == vision_msgs.TYPE_HASHES


def test_a_message_comes_after_the_ones_it_uses() -> None:
    seen: set[str] = set()
    for name, text in vision_msgs.MESSAGES.items():
        own = {line.split()[0].removesuffix("[]") for line in text.splitlines()}
        used = {u for u in own if u.startswith("vision_msgs/")}
        assert used <= seen, name
        seen.add(name.replace("/msg/", "/"))


def test_the_other_packages_that_the_messages_need_are_named() -> None:
    assert vision_msgs.dependencies() == ["geometry_msgs", "std_msgs"]


@pytest.fixture
def node() -> Iterator[object]:
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        node = rclpy.create_node("house", context=context)
        yield node
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


@pytest.mark.parametrize("name", vision_msgs.TYPE_HASHES)
def test_a_publisher_announces_the_hash_of_the_real_package(name: str, node: object) -> None:
    import vision_msgs.msg as built

    node.create_publisher(getattr(built, name.rsplit("/", 1)[1]), "house", 1)
    [info] = node.get_publishers_info_by_topic("/house")
    if not hasattr(info, "topic_type_hash"):
        pytest.skip("this ROS 2 doesn't announce type hashes")
    assert (info.topic_type, str(info.topic_type_hash)) == (name, vision_msgs.TYPE_HASHES[name])


def test_a_detection_arrives_over_dds_as_it_was_sent(node: object) -> None:
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = "a product"
    result.hypothesis.score = 0.75
    sent = Detection2DArray(detections=[Detection2D(id="7", results=[result])])
    sent.header.frame_id = "tote"
    sent.detections[0].bbox.center.position.x = 12.5
    got: list[Detection2DArray] = []
    publisher = node.create_publisher(Detection2DArray, "house", 1)
    node.create_subscription(Detection2DArray, "house", got.append, 1)
    executor = rclpy.executors.SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    deadline = time.monotonic() + 10.0
    while not got and time.monotonic() < deadline:
        publisher.publish(sent)
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    assert got[0] == sent
