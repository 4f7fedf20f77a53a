"""Axis-aligned boxes as (N, 4) float32 arrays, xyxy, pixel edges (a 1 px box has x2 = x1 + 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


def area(boxes: Boxes) -> NDArray[np.float32]:
    """Area of each box, (N,) float32, px^2; inverted boxes count as 0."""
    side = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    return np.asarray(side[:, 0] * side[:, 1], np.float32)


def iou(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Intersection over union of every pair.

    Args:
        a: (N, 4) float32 xyxy, px.
        b: (M, 4) float32 xyxy, same frame as `a`.

    Returns:
        (N, M) float32 in [0, 1]; 0 where both boxes are empty.
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    side = np.clip(high - low, 0, None)
    both = side[..., 0] * side[..., 1]
    union = area(a)[:, None] + area(b)[None] - both
    return np.asarray(both / np.where(union > 0, union, 1), np.float32)


def clip(boxes: Boxes, hw: tuple[int, int]) -> Boxes:
    """Clip boxes to an image of (height, width) px."""
    h, w = hw
    return np.clip(boxes, 0, np.array([w, h, w, h], np.float32)).astype(np.float32)


def pixel_bounds(box: NDArray[np.floating[Any]], hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Smallest whole-pixel window (x1, y1, x2, y2) that covers `box` inside an (H, W) image.

    At least one pixel wide and high, so that a crop of it is never empty.
    """
    h, w = hw
    x1 = int(np.clip(np.floor(box[0]), 0, w - 1))
    y1 = int(np.clip(np.floor(box[1]), 0, h - 1))
    x2 = int(np.clip(np.ceil(box[2]), x1 + 1, w))
    y2 = int(np.clip(np.ceil(box[3]), y1 + 1, h))
    return x1, y1, x2, y2
