"""Messages to records and back, without a graph."""

from __future__ import annotations

import numpy as np
import pytest
from cell import CHANNELS, header, image, jpeg, picture
from hypothesis import given
from hypothesis import strategies as st
from vision_msgs.msg import Detection2D

from robollm.core.defects import Verdict, ViewEvidence
from robollm.core.detections import Detections
from robollm.core.errors import FrameError, MessageError
from robollm.core.masks import MaskWindow
from robollm.core.picks import Pick
from robollm.nodes import messages

NS = 1_700_000_000_123_456_789


@pytest.mark.parametrize("encoding", CHANNELS)
@pytest.mark.parametrize("pad", [0, 5])
def test_a_frame_shares_the_memory_of_its_message(encoding, pad):
    msg = image(picture(3), NS, "cam", encoding, pad)
    frame = messages.to_frame(msg, "image")
    assert np.shares_memory(frame.pixels, np.frombuffer(msg.data, np.uint8))
    assert frame.pixels.shape == (240, 320, CHANNELS[encoding])
    assert (frame.stamp_ns, frame.frame_id, frame.stream) == (NS, "cam", "image")


@given(
    h=st.integers(0, 9),
    w=st.integers(0, 9),
    step=st.integers(0, 40),
    size=st.integers(0, 300),
    encoding=st.sampled_from([*CHANNELS, "mono16", ""]),
)
def test_an_image_is_read_exactly_when_its_numbers_fit_together(h, w, step, size, encoding):
    import array

    from sensor_msgs.msg import Image

    msg = Image(
        header=header(NS, "cam"),
        height=h,
        width=w,
        step=step,
        encoding=encoding,
        data=array.array("B", bytes(size)),
    )
    fits = (
        encoding in CHANNELS
        and h > 0
        and w > 0
        and step >= w * CHANNELS[encoding]
        and size == h * step
    )
    if fits:
        assert messages.to_frame(msg, "image").hw == (h, w)
    else:
        with pytest.raises(FrameError) as e:
            messages.to_frame(msg, "image")
        assert e.value.fix
        assert e.value.kind in {"bad_encoding", "empty_image", "bad_step", "bad_data_length"}


def test_a_jpeg_decodes_to_nearly_the_same_picture():
    rgb = picture(4)
    frame = messages.decode_compressed(jpeg(rgb, NS, "cam"), "image")
    assert frame.order == "bgr"
    assert np.abs(frame.pixels[..., ::-1].astype(int) - rgb).mean() < 4


@given(st.tuples(*(st.floats(-1e4, 1e4),) * 2), st.tuples(*(st.floats(0.5, 1e4),) * 2))
def test_a_box_survives_the_round_trip(corner, size):
    box = (*corner, corner[0] + size[0], corner[1] + size[1])
    assert messages.to_box(messages.from_box(box)) == pytest.approx(box, abs=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_box_without_area_or_number_is_refused(value):
    msg = Detection2D()
    msg.bbox.size_x, msg.bbox.size_y = value, 3.0
    with pytest.raises(MessageError, match="bbox has centre"):
        messages.to_box(msg.bbox)


def test_the_mask_message_is_the_label_map_in_mono16():
    masks = (
        MaskWindow(1, 2, np.ones((3, 4), np.bool_)),
        MaskWindow(3, 2, np.ones((3, 4), np.bool_)),
    )
    found = Detections(
        np.array([[1, 2, 5, 5], [3, 2, 7, 5]], np.float32),
        np.array([0.9, 0.8], np.float32),
        np.zeros(2, np.int32),
        masks,
        (8, 9),
    )
    msg = messages.mask_image(header(NS, "cam"), found.label_map())
    order = ">u2" if msg.is_bigendian else "<u2"
    labels = np.frombuffer(msg.data, order).reshape(8, 9)
    assert msg.step == 18
    assert (labels[2:5, 1:5] == 1).all()  # the better one keeps the overlap
    assert (labels[2:5, 5:7] == 2).all()
    assert (labels > 0).sum() == 18


def test_only_judged_views_are_published_as_evidence():
    views = [
        ViewEvidence("a", {"nominal": 0.2, "multi_pick": 0.8}, (0, 0, 4, 4), "", NS + 5, "a_cam"),
        ViewEvidence("b", None, reason="missing"),
    ]
    msg = messages.evidence(Pick("p", NS, "tote", (0, 0, 2, 2)), views)
    (d,) = msg.detections
    assert (d.id, d.header.frame_id) == ("p/a", "a_cam")
    assert [r.hypothesis.class_id for r in d.results] == ["multi_pick", "nominal"]
    assert messages.stamp_ns(msg.header.stamp) == NS


def test_the_first_result_of_a_verdict_is_its_decision():
    found = Verdict((("package_defect", 0.7), ("nominal", 0.3)), ("a",), ())
    msg = messages.verdict(Pick("p", NS, "tote", (0, 0, 2, 2)), found)
    assert msg.detections[0].results[0].hypothesis.class_id == found.decision
