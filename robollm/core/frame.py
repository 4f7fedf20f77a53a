"""One camera image with its header. Pixels stay as the camera sent them: nothing is copied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import FrameError

CHANNELS = {"rgb": 3, "bgr": 3, "mono": 1, "rgba": 4, "bgra": 4}
NS = 1_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image.

    Attributes:
        pixels: (H, W, C) uint8. Rows may be padded (any row stride); read-only by convention.
        order: meaning of the channels, a key of `CHANNELS`.
        stamp_ns: capture time, nanoseconds in the camera's clock, > 0.
        frame_id: the camera's optical frame, passed through to every result.
        stream: which input it came from: "image" or a post-pick view's name.
    """

    pixels: NDArray[np.uint8]
    order: str
    stamp_ns: int
    frame_id: str = ""
    stream: str = "image"

    def __post_init__(self) -> None:
        """Check the record at the door.

        Raises:
            FrameError: for an empty image, a wrong channel count, dtype or a stamp that is not > 0.
        """
        if self.order not in CHANNELS:
            raise FrameError(f"channel order {self.order!r}, want one of {', '.join(CHANNELS)}")
        want = CHANNELS[self.order]
        if self.pixels.ndim != 3 or self.pixels.shape[2] != want:
            raise FrameError(f"pixels are {self.pixels.shape}, want (H, W, {want})")
        if self.pixels.dtype != np.uint8:
            raise FrameError(f"pixels are {self.pixels.dtype}, want uint8")
        if 0 in self.pixels.shape:
            h, w = self.pixels.shape[:2]
            raise FrameError(
                f"image is {w}x{h} px, want both > 0", kind="empty_image", fix="check the camera"
            )
        if self.stamp_ns <= 0:
            raise FrameError(
                f"stamp is {self.stamp_ns / NS:.9f} s, want the capture time (> 0)",
                kind="bad_stamp",
                fix="let the camera driver set header.stamp",
            )

    @property
    def hw(self) -> tuple[int, int]:
        """(height, width), px."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])
