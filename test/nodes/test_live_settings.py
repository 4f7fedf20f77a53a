"""What others go by follows a setting that is changed while the node runs."""

from __future__ import annotations

import pytest
from cell import LATCHED
from one_node import OneNode
from rclpy.parameter import Parameter
from vision_msgs.msg import LabelInfo

from robollm.nodes.segmentation import SegmentationNode


@pytest.fixture
def one(demo_station):
    made = OneNode(SegmentationNode, demo_station, score_min=0.5)
    yield made
    made.close()


def test_label_info_follows_a_live_score_min(one):
    infos = one.listen(LabelInfo, "label_info", LATCHED)
    assert one.start()
    assert one.until(lambda: infos)

    def change(name, value):
        assert one.node.set_parameters([Parameter(name, value=value)])[0].successful

    change("score_min", 0.99)
    assert one.until(lambda: len(infos) == 2)
    assert [i.threshold for i in infos] == pytest.approx([0.5, 0.99])
    assert infos[1].class_map == infos[0].class_map
    change("max_instances", 7)  # nothing that others go by
    change("score_min", -1.0)
    assert one.until(lambda: len(infos) == 3)
    assert infos[2].threshold == pytest.approx(one.node.perceiver.bundle.thresholds.score_min)
    one.node.trigger_deactivate()
    change("score_min", 0.7)
    one.node.trigger_activate()
    assert one.until(lambda: len(infos) == 4)
    assert infos[3].threshold == pytest.approx(0.7)
