"""Instance masks as windows, label maps and COCO run-length codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class MaskWindow:
    """One instance's mask, stored only where it can be true.

    Forty full-size masks of a 1080p image are 80 MB; forty windows are well under 5 MB.

    Attributes:
        x: left edge of the window in the image, px.
        y: top edge of the window in the image, px.
        bits: (h, w) bool, the mask inside the window.
    """

    x: int
    y: int
    bits: NDArray[np.bool_]

    def full(self, hw: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask at image size, (H, W) bool."""
        out = np.zeros(hw, np.bool_)
        h, w = self.bits.shape
        out[self.y : self.y + h, self.x : self.x + w] = self.bits
        return out


def label_map(masks: Sequence[MaskWindow], hw: tuple[int, int]) -> NDArray[np.uint16]:
    """Draw instances into one image: pixel = index + 1, 0 = background.

    Where two instances claim a pixel the earlier (better scored) one keeps it.

    Args:
        masks: best first, at most 65,535.
        hw: (height, width) of the image, px.

    Returns:
        (H, W) uint16.
    """
    out = np.zeros(hw, np.uint16)
    for value in range(len(masks), 0, -1):  # worst first, so that the best is drawn last
        m = masks[value - 1]
        h, w = m.bits.shape
        out[m.y : m.y + h, m.x : m.x + w][m.bits] = value
    return out


def encode_rle(mask: NDArray[np.bool_]) -> list[int]:
    """Uncompressed COCO run lengths of a mask: column-major, starting with a run of zeros.

    Args:
        mask: (H, W) bool.

    Returns:
        Run lengths that alternate background, foreground, ... and sum to H * W.

    Source: pycocotools maskApi.c, rleEncode.
    """
    flat = np.concatenate(([False], mask.ravel(order="F")))
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate(([0], edges, [mask.size])))
    return [int(n) for n in runs]


def decode_rle(counts: Sequence[int], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Invert `encode_rle`.

    Raises:
        ValueError: if the runs don't sum to H * W or one is negative.
    """
    if sum(counts) != hw[0] * hw[1] or min(counts, default=0) < 0:
        raise ValueError(f"runs sum to {sum(counts)}, want {hw[0]} * {hw[1]}")
    bits = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return bits.reshape(hw, order="F")
