"""From a picture and its masks to the detector's canvas: geometry and colours, NumPy and OpenCV."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from robollm.core.errors import ConfigError
from robollm.core.letterbox import Letterbox
from robollm.data.armbench_instances import Instance
from robollm.metrics.rle import exact_rle
from robollm.train.engine.augment import MEAN_COLOUR
from robollm.train.engine.camera import Camera

Pixels = NDArray[np.uint8]


def decoded(rle: dict[str, Any]) -> NDArray[np.uint8]:
    """(H, W) uint8, 0 or 1, of compressed run lengths."""
    with warnings.catch_warnings():
        # pycocotools 2.0 under NumPy 2
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return np.asarray(coco_mask.decode(rle), np.uint8)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a source lies on the canvas: x' = ax * x + bx, y' = ay * y + by, at pixels' edges.

    Attributes:
        a: (ax, ay); negative: flipped.
        b: (bx, by), canvas px.
        inner_hw: (height, width) of the canvas that the source fills, from the top left.
    """

    a: tuple[float, float]
    b: tuple[float, float]
    inner_hw: tuple[int, int]

    def mask(self, instance: Instance, hw: tuple[int, int]) -> NDArray[np.bool_]:
        """Draw an annotation.

        Args:
            instance: polygons are moved, then filled; run lengths are sampled at pixel centres.
            hw: of the source, px.

        Returns:
            Of `inner_hw`, bool.

        Raises:
            FrameError: see `exact_rle`.
        """
        if isinstance(instance.segmentation, list):
            moved = [
                (np.reshape(p, (-1, 2)) * self.a + self.b).ravel().tolist()
                for p in instance.segmentation
            ]
            drawn = decoded(coco_mask.merge(coco_mask.frPyObjects(moved, *self.inner_hw)))
            return np.asarray(drawn, bool)
        source = decoded(exact_rle(instance, hw))
        (ax, ay), (bx, by), (h, w) = self.a, self.b, self.inner_hw
        move = np.array([[ax, 0, (ax - 1) / 2 + bx], [0, ay, (ay - 1) / 2 + by]], np.float64)
        return np.asarray(cv2.warpAffine(source, move, (w, h), flags=cv2.INTER_NEAREST), bool)


def letterbox(rgb: Pixels, canvas_hw: tuple[int, int]) -> tuple[Pixels, Letterbox]:
    """The evaluation view; after normalisation it is what `runtime.pixels.to_canvas` gives.

    Args:
        rgb: (H, W, 3) uint8.
        canvas_hw: (height, width), px.

    Returns:
        (height, width, 3) uint8, padded at the right and below with the mean colour (.004 after
        normalisation, 0 in the runtime), and the map.
    """
    box = Letterbox.fit((rgb.shape[0], rgb.shape[1]), canvas_hw)
    return _padded(fitted(rgb, box.inner_hw), canvas_hw), box


def fitted(rgb: Pixels, hw: tuple[int, int]) -> Pixels:
    """Resize (H, W, 3) uint8 to (height, width), px, as the runtime does."""
    shrink = hw[0] < rgb.shape[0] or hw[1] < rgb.shape[1]
    way = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, (hw[1], hw[0]), interpolation=way), np.uint8)


def _padded(rgb: Pixels, hw: tuple[int, int]) -> Pixels:
    out = np.full((*hw, 3), MEAN_COLOUR, np.uint8)
    out[: rgb.shape[0], : rgb.shape[1]] = rgb
    return out


class Jitter:
    """Large-scale jitter, flips and colours (arXiv:2012.07177; ViTDet trains with .1 to 2).

    The source is letterboxed into the canvas, scaled by a random factor, and then cropped at a
    random place, or padded at the right and below.

    Args:
        canvas_hw: (height, width), px.
        scale: the factor's range.
        flip: chance of a left-right flip.
        vertical_flip: chance of an upside-down flip; a tote seen from above has no up.
        brightness: all channels times 1 +- this.
        contrast: distance from the mean colour times 1 +- this.
        channels: each channel times its own 1 +- this.
        camera: settings of `Camera`, which follows.

    Raises:
        ConfigError: for a setting out of range.
    """

    def __init__(
        self,
        canvas_hw: Sequence[int],
        *,
        scale: Sequence[float] = (0.1, 2.0),
        flip: float = 0.5,
        vertical_flip: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        channels: float = 0.0,
        camera: Mapping[str, Any] | None = None,
    ) -> None:
        shares = (flip, vertical_flip, brightness, contrast, channels)
        fits = len(scale) == 2 and 0 < scale[0] <= scale[1] <= 10
        if not fits or not all(0 <= s <= 1 for s in shares):
            raise ConfigError(
                f"scale {tuple(scale)}, flip, vertical_flip, brightness, contrast, channels "
                f"{shares}; want 0 < low <= high <= 10, and shares from 0 to 1",
                fix="correct the dataset's jitter",
            )
        self.canvas_hw = (int(canvas_hw[0]), int(canvas_hw[1]))
        self.scale = (float(scale[0]), float(scale[1]))
        self.flips = (flip, vertical_flip)
        self.brightness, self.contrast, self.channels = brightness, contrast, channels
        self.camera = Camera.of(camera)

    def __call__(self, rgb: Pixels, rng: np.random.Generator) -> tuple[Pixels, Placed]:
        """Change one picture.

        Args:
            rgb: (H, W, 3) uint8; not modified.
            rng: where all chance comes from.

        Returns:
            (canvas height, canvas width, 3) uint8, and where the source went.
        """
        out, place = self.place(rgb, rng)
        return self.finish(out, rng), place

    def place(self, rgb: Pixels, rng: np.random.Generator) -> tuple[Pixels, Placed]:
        """The geometry alone.

        Args:
            rgb: (H, W, 3) uint8; not modified.
            rng: where all chance comes from.

        Returns:
            (h, w, 3) uint8, what the source fills of the canvas, a copy; and where it went.
        """
        h, w = rgb.shape[:2]
        fit = Letterbox.fit((h, w), self.canvas_hw).scale_xy[0]
        factor = fit * rng.uniform(*self.scale)
        size = max(1, round(h * factor)), max(1, round(w * factor))
        over = [max(0, s - c) for s, c in zip(size, self.canvas_hw, strict=True)]
        y, x = (int(rng.integers(o + 1)) for o in over)
        left, up = (rng.random() < f for f in self.flips)
        inner = min(size[0] - y, self.canvas_hw[0]), min(size[1] - x, self.canvas_hw[1])
        out = fitted(rgb, size)
        out = out[:: -1 if up else 1, :: -1 if left else 1][y : y + inner[0], x : x + inner[1]]
        sx, sy = size[1] / w, size[0] / h
        place = Placed(
            (-sx if left else sx, -sy if up else sy),
            ((size[1] if left else 0) - x, (size[0] if up else 0) - y),
            inner,
        )
        # A picture that is as large as it should be comes back from OpenCV as a new one, too.
        return np.ascontiguousarray(out), place

    def finish(self, rgb: Pixels, rng: np.random.Generator) -> Pixels:
        """Colours, camera and padding.

        Args:
            rgb: (h, w, 3) uint8, no larger than the canvas; not modified.
            rng: where all chance comes from.

        Returns:
            (canvas height, canvas width, 3) uint8.
        """
        return _padded(self.camera(self._colour(rgb, rng), rng), self.canvas_hw)

    def _colour(self, rgb: Pixels, rng: np.random.Generator) -> Pixels:
        if not (self.brightness or self.contrast or self.channels):
            return rgb
        light = rng.uniform(1 - self.brightness, 1 + self.brightness)
        contrast = rng.uniform(1 - self.contrast, 1 + self.contrast)
        gains = rng.uniform(1 - self.channels, 1 + self.channels, 3)
        levels = np.arange(256)[:, None] * light * gains
        table = np.clip(np.rint((levels - 127.5) * contrast + 127.5), 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(rgb, table[None]), np.uint8)
