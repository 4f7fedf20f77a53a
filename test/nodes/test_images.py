"""Images in, results out: encodings, bad data, QoS, compressed, overlay."""

from __future__ import annotations

import array
import itertools

import cv2
import numpy as np
import pytest
from cell import BEST_EFFORT, LATCHED, NODES, RELIABLE, image, jpeg, pick, picture, stamp
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2DArray, LabelInfo

WITH_PADDING = [(e, pad) for e in ("rgb8", "bgr8", "mono8", "rgba8", "bgra8") for pad in (0, 13)]


def boxes(msg):
    return [
        (d.bbox.center.position.x, d.bbox.center.position.y, d.bbox.size_x, d.bbox.size_y)
        for d in msg.detections
    ]


def masks(cell, ns):
    assert cell.until(lambda: [m for m in cell.got["masks"] if stamp(m) == ns])
    return next(m for m in cell.got["masks"] if stamp(m) == ns)


def test_results_carry_the_header_of_their_image_and_ids_are_pixel_values(cell):
    t = cell.tote()
    found, mask = cell.detections(t), masks(cell, t)
    assert (found.header, mask.header) == (found.header, found.header)
    assert found.header.frame_id == "tote_cam"
    assert (mask.height, mask.width, mask.encoding) == (240, 320, "mono16")
    order = ">u2" if mask.is_bigendian else "<u2"
    labels = np.frombuffer(mask.data, order).reshape(mask.height, mask.step // 2)
    ids = [int(d.id) for d in found.detections]
    assert ids == list(range(1, len(ids) + 1))
    assert set(np.unique(labels)) - {0} <= set(ids)
    assert ids, "the sketch bundle finds something in this picture"
    scores = [d.results[0].hypothesis.score for d in found.detections]
    assert scores == sorted(scores, reverse=True)
    for d in found.detections:
        assert d.header == found.header
        ys, xs = np.nonzero(labels == int(d.id))
        cx, cy = d.bbox.center.position.x, d.bbox.center.position.y
        assert np.all(np.abs(xs + 0.5 - cx) <= d.bbox.size_x / 2 + 1)
        assert np.all(np.abs(ys + 0.5 - cy) <= d.bbox.size_y / 2 + 1)


def test_every_instance_gets_an_identification_with_its_id(cell):
    t = cell.tote()
    found = cell.detections(t)
    assert cell.until(lambda: [m for m in cell.got["identifications"] if stamp(m) == t]), cell.log
    (named,) = [m for m in cell.got["identifications"] if stamp(m) == t]
    assert named.header == found.header
    assert [d.id for d in named.detections] == [d.id for d in found.detections]
    assert all(d.results for d in named.detections)


@pytest.mark.parametrize(("encoding", "pad"), WITH_PADDING)
def test_every_encoding_and_row_padding_is_read(cell, encoding, pad):
    t = cell.tote(encoding=encoding, pad=pad)
    found = cell.detections(t)
    plain = cell.detections(cell.tote())
    if encoding == "mono8":
        assert found.header.frame_id == "tote_cam"
    else:  # the same picture, so the same answer, to the last bit
        assert boxes(found) == boxes(plain)


def bad_image(change):
    def make(ns):
        msg = image(picture(1), ns, "tote_cam")
        change(msg)
        return msg

    return make


def cut(msg):
    msg.data = msg.data[:-7]


def empty(msg):
    msg.width = msg.height = msg.step = 0
    msg.data = array.array("B")


def zero_stamp(msg):
    msg.header.stamp.sec = msg.header.stamp.nanosec = 0


BAD = {
    "empty_image": empty,
    "bad_step": lambda m: setattr(m, "step", 10),
    "bad_encoding": lambda m: setattr(m, "encoding", "bayer_rggb8"),
    "bad_data_length": cut,
    "bad_stamp": zero_stamp,
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_counted_and_named_and_never_becomes_a_result(cell, kind):
    before = cell.count("segmentation_node", kind)
    bad = bad_image(BAD[kind])(cell.now())
    cell.tote_pub.publish(bad)
    assert cell.until(lambda: cell.count("segmentation_node", kind) == before + 1), cell.log
    cell.settle()
    heard = (m for messages in cell.got.values() for m in messages)
    assert not [m for m in heard if stamp(m) == stamp(bad)]
    assert f"[{kind}:" in cell.log
    assert "fix: " in cell.log
    cell.detections(cell.tote())  # and the node lives on


def test_an_image_with_the_stamp_of_the_one_before_is_refused_and_counted(cell):
    before = cell.count("segmentation_node", "repeated_stamp")
    t = cell.tote()
    cell.detections(t)
    cell.tote(t, seed=2)
    assert cell.until(lambda: cell.count("segmentation_node", "repeated_stamp") == before + 1)
    cell.detections(cell.tote())


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_view_is_counted_and_its_pick_is_answered_without_it(cell, kind):
    from cell import pick

    before = cell.count("defect_node", kind)
    t = cell.tote()
    cell.pick_pub.publish(pick(f"view-{kind}", t))
    cell.view_pubs["on_arm_low"].publish(bad_image(BAD[kind])(cell.now()))
    cell.view("tote_wall")
    msg = cell.verdict(f"view-{kind}")
    assert "uninspected" in [r.hypothesis.class_id for r in msg.detections[0].results]
    assert cell.until(lambda: cell.count("defect_node", kind) == before + 1)


def test_a_compressed_image_gives_the_same_kind_of_result(make_cell):
    cell = make_cell()
    cell.node.destroy_publisher(cell.tote_pub)  # nobody publishes raw images here any more
    pub = cell.node.create_publisher(CompressedImage, "image/compressed", RELIABLE)

    def arrived():
        pub.publish(jpeg(picture(1), cell.now(), "tote_cam"))
        return cell.until(lambda: cell.got["detections"], 0.5)

    # A camera goes on: what it sends before the other side has found it, too, is lost.
    assert cell.until(arrived), cell.log
    assert cell.got["detections"][-1].header.frame_id == "tote_cam"
    broken = jpeg(picture(1), cell.now(), "tote_cam")
    broken.data = broken.data[:40]
    pub.publish(broken)
    assert cell.until(lambda: cell.count("segmentation_node", "bad_compressed") == 1), cell.log
    t = cell.now()
    pub.publish(jpeg(picture(2), t, "tote_cam"))
    cell.detections(t)


def test_a_best_effort_camera_is_heard_because_the_subscription_adapts(make_cell):
    cell = make_cell()
    cell.node.destroy_publisher(cell.tote_pub)
    pub = cell.node.create_publisher(Image, "image", BEST_EFFORT)
    assert cell.until(lambda: pub.get_subscription_count()), cell.log

    def arrived():
        pub.publish(image(picture(1), cell.now(), "tote_cam"))
        return cell.until(lambda: cell.got["detections"], 0.5)

    assert cell.until(arrived), cell.log  # best effort may lose a frame; that is its meaning
    assert "the publisher is best effort" in cell.log


def test_a_fixed_reliability_that_can_not_match_is_warned_about(make_cell):
    cell = make_cell(params={"image_qos": "reliable"})
    cell.node.create_publisher(Image, "image", BEST_EFFORT)
    assert cell.until(lambda: "incompatible QoS" in cell.log), cell.log
    assert "fix: set image_qos: auto" in cell.log


def test_two_consumers_with_different_qos_hear_the_same(cell):
    for topic in ("detections", "defects"):
        cell.listen(Detection2DArray, topic, BEST_EFFORT, f"{topic}, best effort")
    cell.listen(LabelInfo, "label_info", LATCHED, "late label_info")
    assert cell.until(lambda: cell.got["late label_info"])  # published long before
    info = cell.got["late label_info"][0]
    assert [(c.class_id, c.class_name) for c in info.class_map] == [(0, "object")]
    assert 0 < info.threshold <= 1
    assert cell.got["label_info"] == cell.got["late label_info"]
    numbers = itertools.count()

    def both():
        """Best effort may lose a message: a new tote image and a new pick until none is lost."""
        t, name = cell.tote(), f"two-{next(numbers)}"
        found = cell.detections(t)
        cell.pick_pub.publish(pick(name, t))
        for view in ("on_arm_low", "tote_wall"):
            cell.view(view)
        verdict = cell.verdict(name)

        def heard():
            there = [m for m in cell.got["detections, best effort"] if stamp(m) == t]
            return (there, cell.answers("defects, best effort", name))

        if not cell.until(lambda: all(heard()), 1):
            return False
        assert found.detections
        assert len(verdict.detections[0].results) > 1
        assert heard() == ([found], [verdict])  # every field, and once
        return True

    assert cell.until(both)


def test_silence_of_the_camera_is_reported(make_cell):
    cell = make_cell(params={"no_image_warn_s": 0.3})
    said = "no image on "

    def silent():
        status = cell.diagnostics.get("segmentation_node")
        return status and said in status.message

    assert cell.until(silent)
    assert cell.diagnostics["segmentation_node"].level == b"\x02"
    assert cell.until(lambda: said in cell.log and "fix: check the camera" in cell.log)


def test_images_of_which_none_can_be_used_are_reported_with_the_reason(make_cell):
    cell = make_cell(params={"no_image_warn_s": 2.0})
    said = "images arrive on "

    def reported():
        cell.tote_pub.publish(bad_image(BAD["bad_encoding"])(cell.now()))
        cell.until(lambda: False, 0.1)  # ten a second
        status, log = cell.diagnostics.get("segmentation_node"), cell.log
        logged = said in log and "fix: set the camera to rgb8" in log
        return status and said in status.message and logged and (status, log)

    found = cell.until(reported)
    assert found, cell.log
    status, log = found
    assert status.level == b"\x02"
    assert "last error: encoding 'bayer_rggb8'" in status.message
    assert "no image on" not in log.partition(said)[2]


def test_the_overlay_is_published_only_while_somebody_looks(cell):
    (topic,) = [
        t
        for t, _ in cell.node.get_topic_names_and_types()
        if t == f"{cell.namespace}/overlay/compressed"
    ]
    cell.detections(cell.tote())
    cell.listen(CompressedImage, topic, RELIABLE, "overlay")
    assert cell.until(lambda: cell.node.count_publishers(topic))

    def drawn():
        t = cell.tote()
        cell.detections(t)
        return cell.until(lambda: [m for m in cell.got["overlay"] if stamp(m) == t], 1)

    assert cell.until(drawn)
    msg = cell.got["overlay"][-1]
    picture = cv2.imdecode(np.frombuffer(msg.data, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 320
    assert picture.shape[0] > 240  # the mark of an untrained bundle stands above the image
    assert tuple(picture[2, 310] > 100) == (False, False, True)  # and is red


def test_disabled_nodes_answer_picks_with_uninspected_and_process_nothing(make_cell):
    from cell import pick

    cell = make_cell()
    for node in NODES:
        assert cell.call(SetBool, f"{node}/enable", SetBool.Request(data=False)).success
    t = cell.tote()
    cell.pick_pub.publish(pick("off", t))
    for v in ("on_arm_low", "tote_wall"):
        cell.view(v)
    first = cell.verdict("off").detections[0].results
    assert [(r.hypothesis.class_id, r.hypothesis.score) for r in first] == [("uninspected", 1.0)]
    assert cell.until(lambda: cell.answers("pick_identifications", "off"))
    cell.settle()
    assert cell.got["detections"] == []
    for node in NODES:
        assert cell.call(SetBool, f"{node}/enable", SetBool.Request(data=True)).success
    cell.detections(cell.tote())


def test_a_container_published_without_transient_local_is_heard(make_cell):
    from std_msgs.msg import String

    cell = make_cell()
    cell.node.destroy_publisher(cell.container_pub)
    pub = cell.node.create_publisher(String, "container", RELIABLE)  # as `ros2 topic pub` does
    assert cell.until(lambda: pub.get_subscription_count()), cell.log
    pub.publish(String(data="tote-A"))
    assert cell.until(lambda: cell.values("identification_node").get("container") == "tote-A")
