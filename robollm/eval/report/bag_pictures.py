"""Single pictures out of a bag, by the camera's stamp."""

from __future__ import annotations

import struct
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import RobollmError
from robollm.core.frame import NS
from robollm.data.bag import Message
from robollm.data.bag_recovery import RecoveredBag
from robollm.data.bag_types import COMPRESSED, IMAGE
from robollm.data.problems import Problems
from robollm.data.ros_fields import decode_compressed, to_frame
from robollm.runtime.overlay import to_bgr

Wanted = tuple[str, int]
"""View, or `TOTE`; stamp, ns."""
TOTE = ""


def bag_pictures(
    bag: Path, wanted: Collection[Wanted], problems: Problems
) -> dict[Wanted, NDArray[np.uint8]]:
    """Read the pictures with these stamps, in one pass that ends when all are found.

    Args:
        bag: folder or file; what is damaged is passed by.
        wanted: a picture's topic has the view in its name, a tote image's has no `views`; of two
            pictures with one stamp the first one is taken.
        problems: gets `missing_picture` for what is not found or can't be decoded.

    Returns:
        What was found, (H, W, 3) uint8, RGB.
    """
    found: dict[Wanted, NDArray[np.uint8]] = {}
    left = set(wanted)
    try:
        with RecoveredBag(bag) as opened:
            topics = [t.name for t in opened.topics if t.type in (IMAGE, COMPRESSED)]
            for message in opened.messages(topics):
                stamp = _stamp(message)
                for one in [w for w in left if w[1] == stamp and _is_of(message.topic, w[0])]:
                    left.discard(one)
                    fields = opened.decode(message.type, message.raw)
                    read = to_frame if message.type == IMAGE else decode_compressed
                    bgr = to_bgr(read(fields, one[0] or "image"))
                    found[one] = np.ascontiguousarray(bgr[:, :, ::-1])
                if not left:
                    break
    except RobollmError as e:
        problems.note("missing_picture", str(bag), e.what.splitlines()[0])
    for view, stamp in sorted(left):
        problems.note("missing_picture", str(bag), f"no {view or 'tote'} image at {stamp} ns")
    return found


def _is_of(topic: str, view: str) -> bool:
    return view in topic if view else "views" not in topic


def _stamp(message: Message) -> int:
    """`header.stamp` in ns: both kinds of image begin with it, so nothing need be decoded."""
    order = "<" if message.raw[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(f"{order}iI", message.raw, 4)
    return int(seconds) * NS + int(nanoseconds)
