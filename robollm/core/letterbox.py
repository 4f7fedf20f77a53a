"""Fit an image into the model's canvas, and bring results back. Geometry only, no pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robollm.core import boxes as bx
from robollm.core.errors import FrameError

FITS = ("letterbox", "stretch")


@dataclass(frozen=True, slots=True)
class Letterbox:
    """The map from a source image (or a crop of it) to a model canvas, top-left aligned.

    Attributes:
        scale_xy: canvas pixels per source pixel along x and y, > 0; equal unless stretched, but
            for the rounding of the resized picture to whole pixels.
        src_hw: (height, width) of the source, px.
        canvas_hw: (height, width) of the model's input, px.
    """

    scale_xy: tuple[float, float]
    src_hw: tuple[int, int]
    canvas_hw: tuple[int, int]

    @classmethod
    def fit(
        cls, src_hw: tuple[int, int], canvas_hw: tuple[int, int], fit: str = "letterbox"
    ) -> Letterbox:
        """Choose the largest scale at which the whole source fits (or fill it: "stretch").

        Raises:
            FrameError: if the source or the canvas is empty.

        Source: ViTDet pads right and bottom, arXiv:2203.16527 section 3, so the map is a pure
            scale and has no offset. "stretch" is what the ARMBench devkit does with crops.
        """
        (h, w), (ch, cw) = src_hw, canvas_hw
        if min(h, w, ch, cw) <= 0:
            raise FrameError(f"image is {w}x{h} px, canvas {cw}x{ch} px, want all > 0")
        if fit == "stretch":
            return cls((cw / w, ch / h), src_hw, canvas_hw)
        scale = min(ch / h, cw / w)
        # Pixels are whole: what the picture is really resized by, or boxes come back a pixel off.
        inner_h, inner_w = (min(c, max(1, round(s * scale))) for s, c in ((h, ch), (w, cw)))
        return cls((inner_w / w, inner_h / h), src_hw, canvas_hw)

    @property
    def inner_hw(self) -> tuple[int, int]:
        """(height, width) of the part of the canvas that the source fills, px, each >= 1."""
        (h, w), (ch, cw) = self.src_hw, self.canvas_hw
        return (
            min(ch, max(1, round(h * self.scale_xy[1]))),
            min(cw, max(1, round(w * self.scale_xy[0]))),
        )

    def to_canvas(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (N, 4) float32 xyxy boxes from source px to canvas px."""
        return (boxes * np.array(self.scale_xy * 2, np.float32)).astype(np.float32)

    def to_source(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map boxes from the canvas back to the source image.

        Args:
            boxes: (N, 4) float32, xyxy, canvas px.

        Returns:
            (N, 4) float32, xyxy, source px, clipped to the source. A box that lies wholly in
            the padding comes back with zero area; the caller drops it.

        Raises:
            FrameError: if `boxes` is not (N, 4).
        """
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise FrameError(f"boxes are {boxes.shape}, want (N, 4) xyxy")
        scale = np.array(self.scale_xy * 2, np.float32)
        return bx.clip((boxes / scale).astype(np.float32), self.src_hw)
