"""Image augmentation for the tasks that look at one crop at a time: NumPy and OpenCV only.

Everything random comes from the generator that is passed in. Without one, a picture goes through
`on_canvas`, whose pixels are those that `robollm.runtime.pixels.to_canvas` gives the model later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.core.letterbox import FITS, Letterbox
from robollm.train.engine.camera import Camera, compressed
from robollm.train.engine.ranges import share, span

Pixels = NDArray[np.uint8]

MEAN_COLOUR = 128
"""Padding. The engine's normalisation makes 127.5 to 0; this is the nearest uint8 to it."""
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def resized(rgb: Pixels, size: int, fit: str) -> Pixels:
    """Resize a picture to what it fills of a square canvas.

    Args:
        rgb: (H, W, 3) uint8.
        size: side of the canvas, px.
        fit: one of `robollm.core.letterbox.FITS`.

    Returns:
        (h, w, 3) uint8, h and w <= `size`, by the resize of `robollm.runtime.pixels.to_canvas`.
    """
    h, w = Letterbox.fit((rgb.shape[0], rgb.shape[1]), (size, size), fit).inner_hw
    shrink = h < rgb.shape[0] or w < rgb.shape[1]
    way = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, (w, h), interpolation=way), np.uint8)


def padded(rgb: Pixels, size: int) -> Pixels:
    """Put a picture into the top left corner of a square canvas of the mean colour."""
    if rgb.shape[:2] == (size, size):
        return rgb
    out = np.full((size, size, 3), MEAN_COLOUR, np.uint8)
    out[: rgb.shape[0], : rgb.shape[1]] = rgb
    return out


def on_canvas(rgb: Pixels, size: int, fit: str = "letterbox") -> Pixels:
    """The evaluation transform.

    Args:
        rgb: (H, W, 3) uint8.
        size: side of the canvas, px.
        fit: "letterbox" or "stretch".

    Returns:
        (size, size, 3) uint8; after normalisation equal to the runtime's input, but for the
        padding, which is .004 instead of 0.
    """
    return padded(resized(rgb, size, fit), size)


class Augment:
    """Random changes of one picture, and its way onto the canvas.

    With the defaults it does what `on_canvas` does.

    Args:
        size: side of the square canvas, px.
        fit: "letterbox" or "stretch", as in evaluation.
        scale: area of the random crop as a share of the picture, (low, high).
        ratio: how much wider or taller than the picture the crop may be, (low, high), relative
            to the picture's own shape, because evaluation sees that shape.
        flip: chance of a left-right flip.
        vertical_flip: chance of an upside-down flip.
        quarter_turns: turn by 0, 90, 180 or 270 degrees, each as often.
        degrees: turn by up to as much either way; corners that come in have the mean colour.
        brightness: all channels times 1 +- this.
        contrast: distance from the picture's mean grey times 1 +- this.
        saturation: distance from the pixel's grey times 1 +- this.
        channels: each channel times its own 1 +- this (colour of the light).
        grey: chance of a picture without colour.
        blur: chance of a Gaussian blur.
        blur_sigma: its standard deviation, canvas px.
        jpeg: chance of JPEG artefacts.
        jpeg_quality: their quality, 1 to 100.
        erase: chance that a rectangle is erased.
        erase_area: its area as a share of the picture.
        camera: settings of `Camera`, which follows all of these but `erase`.

    Raises:
        ConfigError: for a setting out of range.
    """

    def __init__(
        self,
        size: int,
        *,
        fit: str = "letterbox",
        scale: tuple[float, float] = (1.0, 1.0),
        ratio: tuple[float, float] = (1.0, 1.0),
        flip: float = 0.0,
        vertical_flip: float = 0.0,
        quarter_turns: bool = False,
        degrees: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        channels: float = 0.0,
        grey: float = 0.0,
        blur: float = 0.0,
        blur_sigma: tuple[float, float] = (0.3, 1.5),
        jpeg: float = 0.0,
        jpeg_quality: tuple[float, float] = (30, 90),
        erase: float = 0.0,
        erase_area: tuple[float, float] = (0.02, 0.2),
        camera: Mapping[str, Any] | None = None,
    ) -> None:
        if size < 1 or fit not in FITS or not 0 <= degrees <= 180:
            raise ConfigError(
                f"size {size}, fit {fit!r}, degrees {degrees}; want size >= 1, "
                f"fit one of {', '.join(FITS)}, degrees in [0, 180]",
                fix="correct the augmentation's settings",
            )
        self.size, self.fit, self.degrees = size, fit, float(degrees)
        self.scale = span("scale", scale, 1e-3, 1)
        self.ratio = span("ratio", ratio, 0.1, 10)
        self.flip = share("flip", flip)
        self.vertical_flip = share("vertical_flip", vertical_flip)
        self.quarter_turns = quarter_turns
        self.brightness = share("brightness", brightness)
        self.contrast = share("contrast", contrast)
        self.saturation = share("saturation", saturation)
        self.channels = share("channels", channels)
        self.grey = share("grey", grey)
        self.blur = share("blur", blur)
        self.blur_sigma = span("blur_sigma", blur_sigma, 0.01, 100)
        self.jpeg = share("jpeg", jpeg)
        self.jpeg_quality = span("jpeg_quality", jpeg_quality, 1, 100)
        self.erase = share("erase", erase)
        self.erase_area = span("erase_area", erase_area, 1e-4, 1)
        self.camera = Camera.of(camera)

    def __call__(self, rgb: Pixels, rng: np.random.Generator | None) -> Pixels:
        """Change one picture.

        Args:
            rgb: (H, W, 3) uint8; not modified.
            rng: where all chance comes from; None: nothing random, `on_canvas`.

        Returns:
            (size, size, 3) uint8.
        """
        if rng is None:
            return on_canvas(rgb, self.size, self.fit)
        out = self._turn(self._crop(rgb, rng), rng)
        out = resized(np.ascontiguousarray(out), self.size, self.fit)
        if self.degrees:
            out = self._rotate(out, rng)
        out = self._colour(out, rng)
        if self.blur and rng.random() < self.blur:
            sigma = rng.uniform(*self.blur_sigma)
            out = np.asarray(cv2.GaussianBlur(out, (0, 0), sigma), np.uint8)
        if self.jpeg and rng.random() < self.jpeg:
            quality = int(rng.integers(int(self.jpeg_quality[0]), int(self.jpeg_quality[1]) + 1))
            out = compressed(out, quality)
        out = self.camera(out, rng)
        if self.erase and rng.random() < self.erase:
            out = self._erase(out, rng)
        return np.ascontiguousarray(padded(out, self.size))

    def _crop(self, rgb: Pixels, rng: np.random.Generator) -> Pixels:
        if self.scale[0] == 1 and self.ratio == (1.0, 1.0):
            return rgb
        (h, w), area = rgb.shape[:2], rng.uniform(*self.scale)
        ratio = np.exp(rng.uniform(*np.log(self.ratio)))
        # A ratio that the area leaves no room for is brought back to what fits.
        ratio = min(max(ratio, area), 1 / area)
        ch, cw = (max(1, round(s * np.sqrt(r))) for s, r in ((h, area / ratio), (w, area * ratio)))
        ch, cw = min(ch, h), min(cw, w)
        y, x = int(rng.integers(h - ch + 1)), int(rng.integers(w - cw + 1))
        return rgb[y : y + ch, x : x + cw]

    def _turn(self, rgb: Pixels, rng: np.random.Generator) -> Pixels:
        if self.quarter_turns:
            rgb = np.rot90(rgb, int(rng.integers(4)))
        if self.flip and rng.random() < self.flip:
            rgb = rgb[:, ::-1]
        if self.vertical_flip and rng.random() < self.vertical_flip:
            rgb = rgb[::-1]
        return rgb

    def _rotate(self, rgb: Pixels, rng: np.random.Generator) -> Pixels:
        h, w = rgb.shape[:2]
        angle = rng.uniform(-self.degrees, self.degrees)
        turn = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), angle, 1.0)
        out = cv2.warpAffine(
            rgb,
            turn,
            (w, h),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(MEAN_COLOUR,) * 3,
        )
        return np.asarray(out, np.uint8)

    def _colour(self, rgb: Pixels, rng: np.random.Generator) -> Pixels:
        spread = (self.brightness, self.contrast, self.saturation)
        without = bool(self.grey) and rng.random() < self.grey
        if not any((*spread, self.channels, without)):
            return rgb
        light, contrast, colour = (rng.uniform(1 - s, 1 + s) for s in spread)
        gains = rng.uniform(1 - self.channels, 1 + self.channels, 3).astype(np.float32)
        x = rgb * (np.float32(light) * gains)
        x = x @ _GREY.reshape(3, 1) * (1 - np.float32(colour)) + x * np.float32(colour)
        if without:
            x = np.repeat(x @ _GREY.reshape(3, 1), 3, axis=2)
        mean = np.float32((x @ _GREY).mean())
        x = (x - mean) * np.float32(contrast) + mean
        return np.asarray(np.clip(np.rint(x), 0, 255), np.uint8)

    def _erase(self, rgb: Pixels, rng: np.random.Generator) -> Pixels:
        h, w = rgb.shape[:2]
        area, ratio = rng.uniform(*self.erase_area), np.exp(rng.uniform(-1, 1))
        eh = min(h, max(1, round(h * float(np.sqrt(area * ratio)))))
        ew = min(w, max(1, round(w * float(np.sqrt(area / ratio)))))
        y, x = int(rng.integers(h - eh + 1)), int(rng.integers(w - ew + 1))
        out = rgb.copy()
        out[y : y + eh, x : x + ew] = rng.integers(0, 256, 3)
        return out
