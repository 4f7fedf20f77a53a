"""Predictions drawn for people: a tote beside a list of its instances; a view under its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.boxes import pixel_bounds
from robollm.core.decide import AMBIGUOUS, IDENTIFIED, NOT_IN_MANIFEST, UNKNOWN
from robollm.core.defects import NOMINAL, UNINSPECTED
from robollm.core.detections import Detections
from robollm.core.frame import Frame
from robollm.runtime import overlay
from robollm.runtime.lettering import Colour, Image, drawable, put, shorten, width_of, wrap

_LEAST_SIDE = 480  # px; a smaller picture is enlarged, so that letters find room
_SIDE = 380  # px, width of the list
_ROW, _HEAD, _EDGE = 46, 64, 14  # px
_PAPER, _INK, _QUIET = (246, 244, 243), (40, 34, 30), (124, 114, 108)  # BGR
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_GREEN, _ORANGE, _RED, _GREY = (78, 140, 34), (0, 118, 205), (60, 60, 190), (105, 96, 90)
_TINTS = {
    IDENTIFIED: _GREEN, AMBIGUOUS: _ORANGE, UNKNOWN: _GREY, NOT_IN_MANIFEST: _RED,
    NOMINAL: _GREEN, UNINSPECTED: _ORANGE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """What is written of one instance or object.

    Attributes:
        decision: its colour: a decision on a product, a verdict, or anything else, which is red for
            a verdict and grey for a product.
        text: the answer.
        detail: numbers.
    """

    decision: str
    text: str
    detail: str


def draw_tote(
    frame: Frame, found: Detections, lines: Sequence[Line], *, title: str, trained: bool
) -> Image:
    """Draw a tote with its instances numbered, and their list on the right.

    Args:
        frame: the picture.
        found: its instances.
        lines: one for each.
        title: above the list.
        trained: False puts a loud mark on it, and takes the colours of decisions away.

    Returns:
        (H, W, 3) uint8 BGR; the picture is on the left, enlarged if it is small.
    """
    image = _instances(frame, found)
    height = max(image.shape[0], _HEAD + _ROW * len(lines) + _EDGE)
    page = np.full((height, image.shape[1] + _SIDE, 3), _PAPER, np.uint8)
    page[: image.shape[0], : image.shape[1]] = image
    left, room = image.shape[1] + _EDGE, _SIDE - 2 * _EDGE
    put(page, shorten(drawable(title), room, 12, bold=True), (left, 28), _INK, 12, bold=True)
    count = {0: "no instance found", 1: "1 instance"}.get(len(lines), f"{len(lines)} instances")
    put(page, count, (left, 50), _QUIET, 10)
    for i, line in enumerate(lines):
        y = _HEAD + _ROW * i
        tint = _TINTS.get(line.decision, _GREY) if trained else _GREY
        _badge(page, i, (left, y + 4))
        x, rest = left + 38, room - 38
        text = shorten(drawable(line.text), rest, 11, bold=True)
        put(page, text, (x, y + 18), tint, 11, bold=True)
        put(page, shorten(drawable(line.detail), rest, 9), (x, y + 35), _QUIET, 9)
    return page if trained else overlay.untrained_mark(page)


def draw_view(
    frame: Frame,
    window: tuple[int, int, int, int],
    verdict: Line,
    product: Line,
    *,
    trained: bool,
) -> Image:
    """Draw a picture of one object under its verdict and its product.

    Args:
        frame: the picture.
        window: (x1, y1, x2, y2) that was looked at, px.
        verdict: the defects.
        product: the product.
        trained: False puts a loud mark on it, and takes the colours of decisions away.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    image, scale = _enlarged(overlay.to_bgr(frame))
    if window != (0, 0, frame.hw[1], frame.hw[0]):
        x1, y1, x2, y2 = (round(v * scale) for v in window)
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), _BLACK, 5)
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), _WHITE, 2)
    bad = _TINTS.get(verdict.decision, _RED) if trained else _GREY
    who = _TINTS.get(product.decision, _GREY) if trained else _GREY
    narrow = max(0, _LEAST_SIDE - image.shape[1])  # the bars need room for their letters
    image = np.pad(image, ((0, 0), (narrow // 2, narrow - narrow // 2), (0, 0)))
    width = image.shape[1]
    page = np.vstack([_bar(width, verdict, bad), _bar(width, product, who), image])
    return page if trained else overlay.untrained_mark(page)


def _bar(width: int, line: Line, tint: Colour) -> Image:
    room = width - 2 * _EDGE
    small = wrap(drawable(line.detail), room, 10, lines=3)
    out = np.full((40 + 20 * len(small), width, 3), tint, np.uint8)
    text = shorten(drawable(line.text), room, 15, bold=True)
    put(out, text, (_EDGE, 28), _WHITE, 15, bold=True)
    for i, part in enumerate(small):
        put(out, part, (_EDGE, 48 + 20 * i), _WHITE, 10)
    return out


def _enlarged(image: Image) -> tuple[Image, int]:
    """The image, a whole number of times larger if it is small, and that number."""
    scale = max(1, -(-_LEAST_SIDE // max(image.shape[:2])))
    if scale == 1:
        return image, 1
    big = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return np.asarray(big, np.uint8), scale


def _instances(frame: Frame, found: Detections) -> Image:
    """The picture with tinted masks, and each instance's number well inside its mask."""
    image, scale = _enlarged(overlay.to_bgr(frame))
    labels = found.label_map()
    big = np.repeat(np.repeat(labels, scale, axis=0), scale, axis=1)
    boxes = [(float(b[0]), float(b[1]), float(b[2]), float(b[3])) for b in found.boxes]
    out = overlay.draw_instances(image, big, boxes, [""] * len(boxes))
    for i in reversed(range(len(found))):  # the best one's number is on top
        x, y = _inside(labels, i, boxes[i])
        wide, high = _badge_size(i)
        x = min(max(0, x * scale - wide // 2), max(0, out.shape[1] - wide))
        y = min(max(0, y * scale - high // 2), max(0, out.shape[0] - high))
        _badge(out, i, (x, y))
    return out


def _inside(
    labels: NDArray[np.uint16], index: int, box: tuple[float, float, float, float]
) -> tuple[int, int]:
    """The point of an instance farthest from its edges, px; the box' middle if all is covered."""
    x1, y1, x2, y2 = pixel_bounds(np.array(box), (labels.shape[0], labels.shape[1]))
    part = (labels[y1:y2, x1:x2] == index + 1).astype(np.uint8)
    if not part.any():  # all of it is under better ones
        return (x1 + x2) // 2, (y1 + y2) // 2
    depth = cv2.distanceTransform(np.pad(part, 1), cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return x1 + int(x) - 1, y1 + int(y) - 1


def _badge_size(index: int) -> tuple[int, int]:
    return width_of(str(index + 1), 11, bold=True) + 12, 22


def _badge(image: Image, index: int, at: tuple[int, int]) -> None:
    """An instance's number on its colour; `at` is the upper left corner, px."""
    (wide, high), back = _badge_size(index), overlay.colour(index)
    cv2.rectangle(image, at, (at[0] + wide - 1, at[1] + high - 1), back, -1)
    cv2.rectangle(image, at, (at[0] + wide - 1, at[1] + high - 1), _INK, 1)
    ink = _BLACK if sum(back) > 330 else _WHITE
    put(image, str(index + 1), (at[0] + 6, at[1] + 16), ink, 11, bold=True)
