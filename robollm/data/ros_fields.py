"""Fields of ROS messages as our records, whoever decoded them: rclpy, or `rosbags` without ROS.

The nodes and the evaluation of bags read messages with these same functions, so both see the same
pixels, boxes and stamps, and refuse the same input with the same words.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from robollm.core.errors import FrameError, MessageError
from robollm.core.frame import CHANNELS, NS, Frame
from robollm.core.picks import Pick

ENCODINGS = {"rgb8": "rgb", "bgr8": "bgr", "mono8": "mono", "rgba8": "rgba", "bgra8": "bgra"}

Box = tuple[float, float, float, float]


def stamp_ns(stamp: Any) -> int:
    """A builtin_interfaces/Time in nanoseconds.

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


def to_frame(msg: Any, stream: str) -> Frame:
    """A sensor_msgs/Image as a frame, without copying a pixel; `step` may pad the rows.

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


def decode_compressed(msg: Any, stream: str) -> Frame:
    """Decode a CompressedImage (JPEG, PNG, anything OpenCV reads) as bgr.

    Raises:
        FrameError: if it does not decode or has a bad stamp.
    """
    ns = stamp_ns(msg.header.stamp)
    return unpack(msg.data, msg.format, ns, msg.header.frame_id, stream)


def unpack(packed: Any, kind: str, ns: int, frame_id: str, stream: str) -> Frame:
    """Decode an image file as `decode_compressed` does.

    Args:
        packed: a buffer of bytes.
        kind: what its sender calls it, for messages.
        ns: capture time, ns.
        frame_id: the camera's frame.
        stream: name that the frame carries.

    Raises:
        FrameError: if it does not decode.
    """
    raw = np.frombuffer(packed, np.uint8)
    try:
        pixels = cv2.imdecode(raw, cv2.IMREAD_COLOR) if len(raw) else None
    except cv2.error:  # a header that promises more pixels than OpenCV takes
        pixels = None
    if pixels is None:
        raise FrameError(
            f"{len(raw)} bytes of {kind!r} don't decode as an image",
            kind="bad_compressed",
            fix="check the link to the camera; publish jpeg or png",
        )
    return Frame(np.asarray(pixels, np.uint8), "bgr", ns, frame_id, stream)


def to_box(bbox: Any) -> Box:
    """Corners (x1, y1, x2, y2), px, of a vision_msgs/BoundingBox2D.

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


def to_pick(msg: Any, container: str | None) -> Pick:
    """A controller's pick, from a vision_msgs/Detection2D.

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


def to_container(text: str) -> str:
    """The container's id that a message on `container` announces.

    Raises:
        MessageError: if it is empty.
    """
    if not text.strip():
        raise MessageError(
            "container id is empty", kind="bad_container", fix="publish the container's id"
        )
    return text.strip()
