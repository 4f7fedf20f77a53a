"""Where a catalogue picture shows its product: what differs from the backdrop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WAYS = ("whole", "content")
"""How a reference picture is cropped: not at all, or to `content_box`."""

_STRIP = 0.02  # of the width: what is taken for backdrop at the left and the right
_DIFFERS = 22  # of 255, in any channel
_UNEVEN = 0.25  # share of the outermost pixels that may differ from the backdrop
_LEAST = 0.01  # of a side: fewer pixels in a row or column are specks
_MARGIN = 0.04  # of the box's side, on every side
_BAND = 256  # rows that are compared at a time: a large picture is not held three times over


def content_box(rgb: NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """Find the product in a picture with a plain backdrop.

    The backdrop of a row is what lies at its left and its right end, so that it may grow darker
    from top to bottom, but not at once: where both ends do, a product reaches from side to side,
    and what differs from it would be the print on it.

    Args:
        rgb: (H, W, 3) uint8, any order of channels.

    Returns:
        (x1, y1, x2, y2), px, with a small margin; None if the backdrop isn't plain, or nothing
        differs from it.
    """
    h, w = rgb.shape[:2]
    strip = max(1, round(w * _STRIP))
    left, right = rgb[:, :strip], rgb[:, w - strip :]
    if _steps(left) and _steps(right):
        return None
    backdrop = np.median(np.concatenate([left, right], axis=1), axis=1)
    differs = _differs(rgb, backdrop)
    outermost = np.concatenate([differs[0], differs[-1], differs[:, 0], differs[:, -1]])
    if outermost.mean() > _UNEVEN:
        return None
    rows = np.flatnonzero(differs.sum(axis=1) > max(1, _LEAST * w))
    columns = np.flatnonzero(differs.sum(axis=0) > max(1, _LEAST * h))
    if not len(rows) or not len(columns):
        return None
    x1, y1, x2, y2 = (int(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    dx, dy = round(_MARGIN * (x2 - x1)), round(_MARGIN * (y2 - y1))
    return max(0, x1 - dx), max(0, y1 - dy), min(w, x2 + dx), min(h, y2 + dy)


def _steps(strip: NDArray[np.uint8]) -> bool:
    """Whether the colour of a strip, (H, n, 3), jumps from one row to the next."""
    colour = np.median(strip, axis=1)
    return bool((np.abs(np.diff(colour, axis=0)) > _DIFFERS).any())


def _differs(rgb: NDArray[np.uint8], backdrop: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(H, W) bool: pixels that are not of their row's backdrop, (H, 3)."""
    twice = np.round(2 * backdrop).astype(np.int16)[:, None]  # medians are whole or half numbers
    out = np.empty(rgb.shape[:2], np.bool_)
    for y in range(0, len(rgb), _BAND):
        apart = np.abs(2 * rgb[y : y + _BAND].astype(np.int16) - twice[y : y + _BAND])
        far = apart > 2 * _DIFFERS
        out[y : y + _BAND] = far[..., 0] | far[..., 1] | far[..., 2]
    return out


def product_of(rgb: NDArray[np.uint8], way: str) -> NDArray[np.uint8]:
    """What is looked at of a reference picture: all of it, or its content; (h, w, 3), a view."""
    box = content_box(rgb) if way == "content" else None
    return rgb if box is None else rgb[box[1] : box[3], box[0] : box[2]]
