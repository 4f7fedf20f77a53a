"""ROS messages to our records and back. The only file that knows the messages' fields."""

from __future__ import annotations

import array
import math
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
from robollm.core.errors import FrameError, MessageError
from robollm.core.frame import CHANNELS, NS, Frame
from robollm.core.picks import Pick

ENCODINGS = {"rgb8": "rgb", "bgr8": "bgr", "mono8": "mono", "rgba8": "rgba", "bgra8": "bgra"}

Box = tuple[float, float, float, float]


def stamp_ns(stamp: Time) -> int:
    """A stamp in nanoseconds.

    Raises:
        FrameError: for a stamp that is zero, negative or has a fraction of a second or more.
    """
    if not (0 <= stamp.nanosec < NS) or stamp.sec < 0 or (stamp.sec == 0 and stamp.nanosec == 0):
        raise FrameError(
            f"stamp is sec {stamp.sec} nanosec {stamp.nanosec}, want a time > 0 with nanosec < 1e9",
            kind="bad_stamp",
            fix="let the camera driver set header.stamp to the capture time",
        )
    return int(stamp.sec) * NS + int(stamp.nanosec)


def header(stamp: int, frame_id: str) -> Header:
    """A header from nanoseconds and a frame."""
    return Header(stamp=Time(sec=stamp // NS, nanosec=stamp % NS), frame_id=frame_id)


def to_frame(msg: Image, stream: str) -> Frame:
    """An Image as a frame, without copying a pixel; `step` may pad the rows.

    Raises:
        FrameError: for another encoding, an empty image, a `step` or a data length that
            contradicts the size, or a bad stamp.
    """
    if msg.encoding not in ENCODINGS:
        raise FrameError(
            f"encoding {msg.encoding!r}, want one of {', '.join(ENCODINGS)}",
            kind="bad_encoding",
            fix="set the camera to rgb8 or bgr8, or put image_proc in front",
        )
    order = ENCODINGS[msg.encoding]
    h, w, c = msg.height, msg.width, CHANNELS[order]
    if h == 0 or w == 0:
        raise FrameError(
            f"image is {w}x{h} px, want both > 0", kind="empty_image", fix="check the camera"
        )
    if msg.step < w * c:
        raise FrameError(
            f"step is {msg.step} bytes, want at least {w * c} for {w} px of {msg.encoding}",
            kind="bad_step",
            fix="let the camera driver set step to the bytes of one row",
        )
    if len(msg.data) != h * msg.step:
        raise FrameError(
            f"data has {len(msg.data)} bytes, want {h * msg.step} ({h} rows of {msg.step})",
            kind="bad_data_length",
            fix="check the link to the camera; the image was cut or its header is wrong",
        )
    rows = np.frombuffer(msg.data, np.uint8).reshape(h, msg.step)
    pixels = rows[:, : w * c].reshape(h, w, c)
    return Frame(pixels, order, stamp_ns(msg.header.stamp), msg.header.frame_id, stream)


def decode_compressed(msg: CompressedImage, stream: str) -> Frame:
    """Decode a CompressedImage (JPEG, PNG, anything OpenCV reads) as bgr.

    Raises:
        FrameError: if it does not decode or has a bad stamp.
    """
    ns = stamp_ns(msg.header.stamp)
    raw = np.frombuffer(msg.data, np.uint8)
    try:
        pixels = cv2.imdecode(raw, cv2.IMREAD_COLOR) if len(raw) else None
    except cv2.error:  # a header that promises more pixels than OpenCV takes
        pixels = None
    if pixels is None:
        raise FrameError(
            f"{len(raw)} bytes of {msg.format!r} don't decode as an image",
            kind="bad_compressed",
            fix="check the link to the camera; publish jpeg or png",
        )
    return Frame(np.asarray(pixels, np.uint8), "bgr", ns, msg.header.frame_id, stream)


def to_box(bbox: BoundingBox2D) -> Box:
    """Corners (x1, y1, x2, y2), px.

    Raises:
        MessageError: if a number is not finite or a side is not > 0.
    """
    x, y = bbox.center.position.x, bbox.center.position.y
    w, h = bbox.size_x, bbox.size_y
    if not all(math.isfinite(v) for v in (x, y, w, h)) or w <= 0 or h <= 0:
        raise MessageError(
            f"bbox has centre ({x}, {y}) and size ({w}, {h}), want finite numbers and size > 0",
            kind="bad_box",
            fix="fill in bbox in px of the tote image",
        )
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def from_box(box: Sequence[float]) -> BoundingBox2D:
    """A BoundingBox2D from corners (x1, y1, x2, y2), px."""
    x1, y1, x2, y2 = (float(v) for v in box)
    out = BoundingBox2D(size_x=x2 - x1, size_y=y2 - y1)
    out.center.position.x = (x1 + x2) / 2
    out.center.position.y = (y1 + y2) / 2
    return out


def to_pick(msg: Detection2D, container: str | None) -> Pick:
    """A controller's pick.

    Raises:
        MessageError: without an id, with a bad stamp or a bad box.
    """
    if not msg.id:
        raise MessageError("pick has no id", kind="bad_pick", fix="set Detection2D.id")
    try:
        ns = stamp_ns(msg.header.stamp)
    except FrameError as e:
        raise MessageError(
            f"pick {msg.id!r}: {e.what}",
            kind="bad_stamp",
            fix="set header.stamp to the stamp of the tote image that it was planned on",
        ) from e
    return Pick(msg.id, ns, msg.header.frame_id, to_box(msg.bbox), container)


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
    head: Header, boxes: Sequence[Box], ids: Sequence[str], found: Sequence[Identification]
) -> Detection2DArray:
    """Product hypotheses of every instance of one tote image."""
    rows = [detection(head, b, i, f.ranked) for b, i, f in zip(boxes, ids, found, strict=True)]
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
