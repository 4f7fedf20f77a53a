"""Our records as ROS messages; the way back is `data.ros_fields`, which needs no ROS."""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesisWithPose,
    VisionClass,
)

from robollm.core.decide import Identification
from robollm.core.defects import Verdict, ViewEvidence
from robollm.core.detections import Detections
from robollm.core.frame import NS
from robollm.core.picks import Pick
from robollm.data.ros_fields import ENCODINGS as ENCODINGS
from robollm.data.ros_fields import Box as Box
from robollm.data.ros_fields import decode_compressed as decode_compressed
from robollm.data.ros_fields import stamp_ns as stamp_ns
from robollm.data.ros_fields import to_box as to_box
from robollm.data.ros_fields import to_frame as to_frame
from robollm.data.ros_fields import to_pick as to_pick


def header(stamp: int, frame_id: str) -> Header:
    """A header from nanoseconds and a frame."""
    return Header(stamp=Time(sec=stamp // NS, nanosec=stamp % NS), frame_id=frame_id)


def from_box(box: Sequence[float]) -> BoundingBox2D:
    """A BoundingBox2D from corners (x1, y1, x2, y2), px."""
    x1, y1, x2, y2 = (float(v) for v in box)
    out = BoundingBox2D(size_x=x2 - x1, size_y=y2 - y1)
    out.center.position.x = (x1 + x2) / 2
    out.center.position.y = (y1 + y2) / 2
    return out


def hypothesis(class_id: str, score: float) -> ObjectHypothesisWithPose:
    """One scored class."""
    out = ObjectHypothesisWithPose()
    out.hypothesis.class_id = class_id
    out.hypothesis.score = float(score)
    return out


def detection(
    head: Header, box: Sequence[float], ident: str, ranked: Sequence[tuple[str, float]]
) -> Detection2D:
    """One Detection2D."""
    results = [hypothesis(c, s) for c, s in ranked]
    return Detection2D(header=head, results=results, bbox=from_box(box), id=ident)


def detections(head: Header, found: Detections, names: Sequence[str]) -> Detection2DArray:
    """Instances of one tote image; `id` is the pixel value in the label map."""
    return Detection2DArray(
        header=head,
        detections=[
            detection(head, found.boxes[i], str(i + 1), [(names[found.labels[i]], found.scores[i])])
            for i in range(len(found))
        ],
    )


def mask_image(head: Header, labels: NDArray[np.uint16]) -> Image:
    """A label map as mono16, (H, W) uint16, 0 = background."""
    data = array.array("B")  # any other type costs 200 ms at 1080p in rclpy's field checks
    data.frombytes(np.ascontiguousarray(labels).data.cast("B"))
    h, w = labels.shape
    return Image(
        header=head,
        height=h,
        width=w,
        encoding="mono16",
        is_bigendian=int(sys.byteorder == "big"),
        step=2 * w,
        data=data,
    )


def jpeg(head: Header, bgr: NDArray[np.uint8]) -> CompressedImage:
    """A picture as a JPEG CompressedImage."""
    ok, raw = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert ok, "OpenCV can't encode JPEG"
    data = array.array("B")
    data.frombytes(raw.tobytes())
    return CompressedImage(header=head, format="bgr8; jpeg compressed bgr8", data=data)


def label_info(head: Header, names: Sequence[str], threshold: float) -> LabelInfo:
    """Class names of `detections`."""
    classes = [VisionClass(class_id=i, class_name=n) for i, n in enumerate(names)]
    return LabelInfo(header=head, class_map=classes, threshold=float(threshold))


def identifications(
    instances: Detection2DArray, found: Sequence[Identification]
) -> Detection2DArray:
    """Product hypotheses of every instance of one tote image, with its own id and box."""
    head = instances.header
    rows = [
        Detection2D(header=head, results=[hypothesis(*r) for r in f.ranked], bbox=d.bbox, id=d.id)
        for d, f in zip(instances.detections, found, strict=True)
    ]
    return Detection2DArray(header=head, detections=rows)


def pick_answer(pick: Pick, ranked: Sequence[tuple[str, float]]) -> Detection2DArray:
    """The one answer to a pick: its id, its box, its header."""
    head = header(pick.stamp_ns, pick.frame_id)
    return Detection2DArray(
        header=head, detections=[detection(head, pick.box, pick.pick_id, ranked)]
    )


def verdict(pick: Pick, found: Verdict) -> Detection2DArray:
    """The verdict on a pick; the first result is the decision."""
    return pick_answer(pick, found.ranked)


def evidence(pick: Pick, views: Sequence[ViewEvidence]) -> Detection2DArray:
    """One Detection2D per judged view: its own header, the judged window, `<pick id>/<view>`."""
    rows = [
        detection(
            header(v.stamp_ns, v.frame_id),
            v.box,
            f"{pick.pick_id}/{v.view}",
            sorted(v.probabilities.items(), key=lambda item: -item[1]),
        )
        for v in views
        if v.probabilities is not None
    ]
    return Detection2DArray(header=header(pick.stamp_ns, pick.frame_id), detections=rows)
