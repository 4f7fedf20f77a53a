"""From camera pixels to model input, and from mask probabilities back to source pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core import boxes as bx
from robollm.core.errors import FrameError
from robollm.core.frame import Frame
from robollm.core.letterbox import Letterbox
from robollm.core.masks import MaskWindow
from robollm.runtime.bundle import Bundle, Canvas

_RGB_AT = {
    "rgb": (0, 1, 2),
    "bgr": (2, 1, 0),
    "mono": (0, 0, 0),
    "rgba": (0, 1, 2),
    "bgra": (2, 1, 0),
}
"""Channel order -> where red, green and blue are."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A window of a frame that a crop model looks at.

    Attributes:
        frame: the image.
        box: (x1, y1, x2, y2), source px; None: the whole image.
    """

    frame: Frame
    box: tuple[float, float, float, float] | None = None

    @property
    def window(self) -> tuple[int, int, int, int]:
        """The whole-pixel window (x1, y1, x2, y2) inside the image, never empty.

        Raises:
            FrameError: for a box that is not finite or lies outside the image.
        """
        h, w = self.frame.hw
        if self.box is None:
            return 0, 0, w, h
        box = np.array(self.box, np.float64)
        outside = not np.isfinite(box).all() or bool(
            box[2] <= box[0]
            or box[3] <= box[1]
            or box[0] >= w
            or box[1] >= h
            or box[2] <= 0
            or box[3] <= 0
        )
        if outside:
            raise FrameError(
                f"box {tuple(round(float(v), 1) for v in self.box)} has no area inside the "
                f"{w}x{h} px image",
                kind="bad_box",
                fix="give x1 < x2, y1 < y2 in px of the image that the stamp names",
            )
        return bx.pixel_bounds(box, self.frame.hw)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The window's pixels, (h, w, C) uint8: a view, not a copy.

        Raises:
            FrameError: see `window`.
        """
        x1, y1, x2, y2 = self.window
        return self.frame.pixels[y1:y2, x1:x2]

    def key(self) -> tuple[object, ...]:
        """Identity of the content, for a cache: stream, stamp, window and a digest of the pixels.

        Of every pixel: cameras that are triggered at once share their stamps, one that hangs
        repeats its own, and what tells two such pictures apart may be a single scratch.
        """
        digest = hashlib.sha256(np.ascontiguousarray(self.pixels).data).digest()
        return (self.frame.stream, self.frame.stamp_ns, self.window, self.frame.order, digest)


def refuse_huge(frame: Frame, max_side: int) -> None:
    """Raise `FrameError` for an image with a side longer than `max_side` px."""
    h, w = frame.hw
    if max(h, w) > max_side:
        raise FrameError(
            f"image is {w}x{h} px, want sides of at most {max_side} px",
            kind="image_too_large",
            fix="let the camera send smaller images, or raise max_image_side",
        )


def to_canvas(
    pixels: NDArray[np.uint8],
    order: str,
    canvas: Canvas,
    bundle: Bundle,
    out: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], Letterbox]:
    """Resize and normalise one picture into the model's input.

    One resize on the source (no full-size copy: rows may be padded). Everything else happens in
    one pass over the small picture: a table says for each of the 256 grey levels of a channel
    what it becomes. Padding is 0 after normalisation, that is the mean colour.

    Args:
        pixels: (H, W, C) uint8.
        order: channel order, a key of `robollm.core.frame.CHANNELS`.
        canvas: input geometry.
        bundle: for mean and std, per RGB channel.
        out: (3, h, w) float32 to write into, such as a row of a batch; None: a new array.

    Returns:
        (3, h, w) float32, `out` if it was given, and the map between source and canvas.

    Raises:
        ValueError: `out` has another shape or type.
    """
    box = Letterbox.fit((pixels.shape[0], pixels.shape[1]), canvas.hw, canvas.fit)
    h, w = box.inner_hw
    if out is None:
        out = np.empty((3, *canvas.hw), np.float32)
    elif out.shape != (3, *canvas.hw) or out.dtype != np.float32:
        raise ValueError(f"out is {out.shape} {out.dtype}, want {(3, *canvas.hw)} float32")
    shrink = h < pixels.shape[0] or w < pixels.shape[1]
    small = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    planes = cv2.split(small)
    for table, at, plane in zip(_tables(bundle.mean, bundle.std), _RGB_AT[order], out, strict=True):
        cv2.LUT(planes[at], table, dst=plane[:h, :w])
        plane[h:] = 0
        plane[:h, w:] = 0
    return out, box


@lru_cache(maxsize=8)
def _tables(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> tuple[NDArray[np.float32], ...]:
    """What each grey level becomes, of each RGB channel: (1, 256) float32."""
    levels = np.arange(256, dtype=np.float32)[None]
    scale = np.float32(1 / 255) / np.array(std, np.float32)
    shift = np.array(mean, np.float32) / np.array(std, np.float32)
    return tuple(levels * scale[c] - shift[c] for c in range(3))


def paste_mask(
    probability: NDArray[np.float32],
    box: NDArray[np.float32],
    hw: tuple[int, int],
    threshold: float,
) -> MaskWindow:
    """Put one RoI mask back into the image.

    Args:
        probability: (M, M) float32 in [0, 1], spread over `box`.
        box: (4,) float32 xyxy, source px.
        hw: (height, width) of the source image, px.
        threshold: probability from which a pixel belongs to the instance.

    Source: detectron2 paste_masks_in_image: sampled bilinearly at pixel centres, 0 outside.
    """
    x1, y1, x2, y2 = bx.pixel_bounds(box, hw)
    m = probability.shape[0]
    sx = m / max(float(box[2] - box[0]), 1e-3)
    sy = m / max(float(box[3] - box[1]), 1e-3)
    # window pixel (u, v) -> mask cell: ((u + x1 + .5) - box.x1) * sx - .5
    inverse = np.array(
        [
            [sx, 0, (x1 + 0.5 - float(box[0])) * sx - 0.5],
            [0, sy, (y1 + 0.5 - float(box[1])) * sy - 0.5],
        ],
        np.float64,
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    spread = cv2.warpAffine(
        probability, inverse, (x2 - x1, y2 - y1), flags=flags, borderMode=cv2.BORDER_CONSTANT
    )
    return MaskWindow(x1, y1, spread >= threshold)
