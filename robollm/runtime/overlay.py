"""Draw results onto pictures, for people."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.frame import Frame

Image = NDArray[np.uint8]

_TO_BGR = {
    "rgb": cv2.COLOR_RGB2BGR,
    "mono": cv2.COLOR_GRAY2BGR,
    "rgba": cv2.COLOR_RGBA2BGR,
    "bgra": cv2.COLOR_BGRA2BGR,
}
_FONT = cv2.FONT_HERSHEY_SIMPLEX
GOOD, BAD, DOUBT, GREY = (96, 174, 39), (60, 60, 220), (0, 165, 240), (120, 120, 120)  # BGR


def to_bgr(frame: Frame) -> Image:
    """A (H, W, 3) uint8 BGR copy of a frame, to draw on."""
    if frame.order == "bgr":
        return np.ascontiguousarray(frame.pixels).copy()
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame.pixels), _TO_BGR[frame.order]))


def colour(index: int) -> tuple[int, int, int]:
    """A BGR colour for instance `index`; neighbours differ (golden-ratio hues)."""
    hue = int(180 * ((index * 0.618034) % 1.0))
    b, g, r = cv2.cvtColor(np.array([[[hue, 200, 235]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return int(b), int(g), int(r)


def draw_instances(
    image: Image,
    labels: NDArray[np.uint16],
    boxes: Sequence[tuple[float, float, float, float]],
    texts: Sequence[str],
) -> Image:
    """Tint masks, outline them and write one text at each box.

    Args:
        image: (H, W, 3) uint8 BGR; not changed.
        labels: (H, W) uint16 label map, pixel = instance index + 1.
        boxes: (x1, y1, x2, y2) per instance, px.
        texts: one per instance; an empty one is not written.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    n = len(boxes)
    table = np.zeros((max(int(labels.max(initial=0)), n) + 1, 3), np.uint8)
    for i in range(n):
        table[i + 1] = colour(i)
    tint = table[labels]
    inside = labels > 0
    out = image.copy()
    out[inside] = (0.6 * out[inside] + 0.4 * tint[inside]).astype(np.uint8)
    edge = np.zeros_like(inside)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    thick = cv2.dilate(edge.astype(np.uint8), np.ones((2, 2), np.uint8)) > 0
    out[thick] = np.where(tint[thick].any(axis=1, keepdims=True), tint[thick], 255)
    scale = text_scale(out)
    for i, (x1, y1, _, _) in enumerate(boxes):
        if texts[i]:
            write(out, texts[i], (int(x1), int(y1)), colour(i), scale)
    return out


def text_scale(image: Image) -> float:
    """A readable font scale for an image of this size."""
    return max(0.4, min(image.shape[:2]) / 1500)


def write(
    image: Image, text: str, at: tuple[int, int], back: tuple[int, int, int], scale: float
) -> None:
    """Write text on a filled box whose lower left corner is near `at`, inside the image."""
    thick = max(1, round(2 * scale))
    (w, h), base = cv2.getTextSize(text, _FONT, scale, thick)
    x = min(max(0, at[0]), max(0, image.shape[1] - w - 4))
    y = min(max(h + base + 4, at[1]), image.shape[0])
    cv2.rectangle(image, (x, y - h - base - 4), (x + w + 4, y), back, -1)
    ink = (0, 0, 0) if sum(back) > 330 else (255, 255, 255)
    cv2.putText(image, text, (x + 2, y - base - 1), _FONT, scale, ink, thick, cv2.LINE_AA)


def banner(image: Image, text: str, back: tuple[int, int, int]) -> Image:
    """The image with a filled line of text above it."""
    scale = 1.3 * text_scale(image)
    thick = max(1, round(2 * scale))
    (w, h), base = cv2.getTextSize(text, _FONT, scale, thick)
    if w > image.shape[1] - 12:  # rather small than cut off
        scale *= (image.shape[1] - 12) / w
        (w, h), base = cv2.getTextSize(text, _FONT, scale, thick)
    bar = np.empty((h + base + 14, image.shape[1], 3), np.uint8)
    bar[:] = back
    ink = (0, 0, 0) if sum(back) > 330 else (255, 255, 255)
    cv2.putText(bar, text, (6, h + 7), _FONT, scale, ink, thick, cv2.LINE_AA)
    return np.vstack([bar, image])


def untrained_mark(image: Image) -> Image:
    """The image under a loud note that random weights made what is drawn on it."""
    return banner(image, "UNTRAINED: random weights, results mean nothing", BAD)
