"""Single pictures out of a bag, by the camera's stamp, and what its picks are aimed at."""

from __future__ import annotations

import struct
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import MessageError, RobollmError
from robollm.core.frame import NS
from robollm.core.picks import Pick
from robollm.data.bag import Message
from robollm.data.bag_recovery import RecoveredBag
from robollm.data.bag_types import COMPRESSED, IMAGE, PICK
from robollm.data.problems import Problems
from robollm.data.ros_fields import decode_compressed, to_frame, to_pick
from robollm.runtime.overlay import to_bgr

Wanted = tuple[str, int]
"""View, or `TOTE`; stamp, ns."""
TOTE = ""


class Shot(NamedTuple):
    """A picture, shrunk: twenty cameras' pictures of full size are too much to keep.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        scale: factor that it was shrunk by.
    """

    image: NDArray[np.uint8]
    scale: float


def shrunk(image: NDArray[np.uint8], side: int) -> Shot:
    """Shrink a picture until its longer side is at most `side` px."""
    h, w = image.shape[:2]
    scale = min(1.0, side / max(h, w, 1))
    if scale == 1:
        return Shot(image, 1.0)
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    return Shot(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale)


def bag_picks(bag: Path, ids: Collection[str], problems: Problems) -> list[Pick]:
    """Read the picks with these ids, as they were announced.

    Args:
        bag: folder or file; what is damaged is passed by.
        ids: of the picks.
        problems: gets `missing_picture` if the bag can't be read.
    """
    found = []
    try:
        with RecoveredBag(bag) as opened:
            topics = [t.name for t in opened.topics if t.type == PICK]
            for message in opened.messages(topics) if ids and topics else ():
                try:
                    pick = to_pick(opened.decode(message.type, message.raw), None)
                except MessageError:  # nobody answered it
                    continue
                if pick.pick_id in ids:
                    found.append(pick)
    except RobollmError as e:
        problems.note("missing_picture", str(bag), e.what.splitlines()[0])
    return found


def bag_pictures(
    bag: Path, wanted: Collection[Wanted], problems: Problems, *, side: int
) -> dict[Wanted, Shot]:
    """Read the pictures with these stamps, in one pass that ends when all are found.

    Args:
        bag: folder or file; what is damaged is passed by.
        wanted: a picture's topic has the view in its name, a tote image's has no `views`; of two
            pictures with one stamp the first one is taken.
        problems: gets `missing_picture` for what is not found or can't be decoded.
        side: of the longer side at most, px.
    """
    found: dict[Wanted, Shot] = {}
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
                    found[one] = shrunk(np.ascontiguousarray(bgr[:, :, ::-1]), side)
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
