"""Instances of somebody else's segmentation: one bad box costs one instance, not the frame."""

from __future__ import annotations

import json
import time

import pytest
from cell import LATCHED, RELIABLE, header, image, pick, picture
from one_node import OneNode
from sensor_msgs.msg import Image
from std_msgs.msg import String
from vision_msgs.msg import Detection2DArray

from robollm.nodes.identification import IdentificationNode


@pytest.fixture
def one(demo_station):
    made = OneNode(IdentificationNode, demo_station)
    yield made
    made.close()


def test_an_instance_whose_box_can_not_be_used_is_unknown_and_the_others_have_names(one, demo):
    found = one.listen(Detection2DArray, "identifications", RELIABLE)
    assert one.start()
    camera = one.world.create_publisher(Image, "image", RELIABLE)
    instances = one.world.create_publisher(Detection2DArray, "detections", RELIABLE)
    container = one.world.create_publisher(String, "container", LATCHED)
    name, products = next(iter(json.loads(demo.manifest.read_text())["containers"].items()))
    container.publish(String(data=name))
    assert one.until(lambda: camera.get_subscription_count() and instances.get_subscription_count())
    assert one.until(lambda: one.node._desk.container == name)

    ns = time.time_ns()
    camera.publish(image(picture(1), ns, "tote_cam"))
    assert one.until(lambda: one.node.station.frames.get(ns))
    rows = [pick(str(i), ns) for i in range(1, 5)]
    rows[1].bbox.size_x = float("nan")
    rows[2].bbox.center.position.x = 5000.0  # outside the image
    instances.publish(Detection2DArray(header=header(ns, "tote_cam"), detections=rows))
    assert one.until(lambda: found)
    (msg,) = found
    assert [d.id for d in msg.detections] == ["1", "2", "3", "4"]
    best = [
        [(r.hypothesis.class_id, r.hypothesis.score) for r in d.results] for d in msg.detections
    ]
    assert best[1] == best[2] == [("unknown", 1.0)]
    assert {c for c, _ in best[0]} & set(products)
    assert best[0] == best[3]
    assert msg.detections[2].bbox.center.position.x == 5000.0
    assert one.node.stats.counts()["bad_box"] == 2
