"""What cameras do to a picture, at random: so that a model doesn't learn one renderer's look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.train.engine.ranges import share, span

Pixels = NDArray[np.uint8]

_LIMITS = {
    "motion_px": (1.0, 31.0),
    "blur_sigma": (0.01, 20.0),
    "low_factor": (0.05, 1.0),
    "exposure_stops": (-4.0, 4.0),
    "channels_gain": (0.1, 4.0),
    "saturation_times": (0.0, 4.0),
    "hue_degrees": (-180.0, 180.0),
    "vignette_loss": (0.0, 1.0),
    "noise_sigma": (0.0, 0.5),
    "gamma_power": (0.1, 10.0),
    "jpeg_quality": (1.0, 100.0),
}
_GREY = np.array([0.299, 0.587, 0.114], np.float64)
_HALF = 127.5


def _bells() -> NDArray[np.float32]:
    """256 equally likely values of a Gaussian: random bytes are far faster than random numbers."""
    steps = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])
    return np.asarray(steps / steps.std(), np.float32)


_BELLS = _bells()


@dataclass(frozen=True, slots=True)
class Camera:
    """A random camera: optics, sensor, tone, compression, in this order; all off by default.

    Every effect has a chance, from 0 to 1, and a range that its strength is drawn from.

    Attributes:
        motion: chance of blur by motion, in any direction.
        motion_px: its length, px of the picture that comes in.
        blur: chance of a Gaussian blur.
        blur_sigma: its standard deviation, px.
        low: chance of a sensor with fewer pixels; what follows up to `gamma` is done at its size.
        low_factor: its height and width as a share.
        exposure: chance of another exposure.
        exposure_stops: by how many stops: light times 2 ** this.
        channels: chance of light of another colour.
        channels_gain: every channel times its own draw.
        saturation: chance of other saturation.
        saturation_times: distance from the pixel's grey times this.
        hue: chance of turned hues.
        hue_degrees: by how much, about the grey axis; positive: from red to green.
        vignette: chance of dark corners.
        vignette_loss: share of the light that is missing in the corners.
        noise: chance of sensor noise.
        noise_sigma: its standard deviation at mid grey, as a share of full scale; half of its
            variance grows with the signal (photons), half doesn't (reading).
        gamma: chance of another tone curve.
        gamma_power: levels from 0 to 1 to the power of this.
        jpeg: chance of JPEG artefacts.
        jpeg_quality: their quality.

    Raises:
        ConfigError: for a setting out of range.
    """

    motion: float = 0.0
    motion_px: tuple[float, float] = (1.5, 5.0)
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.3, 1.2)
    low: float = 0.0
    low_factor: tuple[float, float] = (0.4, 0.9)
    exposure: float = 0.0
    exposure_stops: tuple[float, float] = (-0.6, 0.6)
    channels: float = 0.0
    channels_gain: tuple[float, float] = (0.85, 1.15)
    saturation: float = 0.0
    saturation_times: tuple[float, float] = (0.5, 1.4)
    hue: float = 0.0
    hue_degrees: tuple[float, float] = (-12.0, 12.0)
    vignette: float = 0.0
    vignette_loss: tuple[float, float] = (0.1, 0.4)
    noise: float = 0.0
    noise_sigma: tuple[float, float] = (0.005, 0.04)
    gamma: float = 0.0
    gamma_power: tuple[float, float] = (0.7, 1.4)
    jpeg: float = 0.0
    jpeg_quality: tuple[float, float] = (35.0, 95.0)

    def __post_init__(self) -> None:
        for one in fields(self):
            name, value = one.name, getattr(self, one.name)
            good: Any = span(name, value, *_LIMITS[name]) if name in _LIMITS else share(name, value)
            object.__setattr__(self, name, good)

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> Camera:
        """Make one of a config's mapping; None: nothing is changed.

        Raises:
            ConfigError: for an unknown or bad setting.
        """
        known = [one.name for one in fields(cls)]
        unknown = sorted(set(options or {}) - set(known))
        if unknown:
            raise ConfigError(
                f"camera has no setting {', '.join(unknown)}", fix=f"use {', '.join(known)}"
            )
        return cls(**(options or {}))

    def __call__(self, rgb: Pixels, rng: np.random.Generator) -> Pixels:
        """Take the picture with a random camera.

        Args:
            rgb: (H, W, 3) uint8; not modified.
            rng: where all chance comes from; nothing is drawn for what is off.

        Returns:
            (H, W, 3) uint8.
        """
        h, w = rgb.shape[:2]
        out = rgb
        if self.motion and rng.random() < self.motion:
            out = _u8(cv2.filter2D(out, -1, _streak(rng.uniform(*self.motion_px), rng)))
        if self.blur and rng.random() < self.blur:
            out = _u8(cv2.GaussianBlur(out, (0, 0), rng.uniform(*self.blur_sigma)))
        if self.low and rng.random() < self.low:
            factor = rng.uniform(*self.low_factor)
            size = max(1, round(w * factor)), max(1, round(h * factor))
            out = _u8(cv2.resize(out, size, interpolation=cv2.INTER_AREA))
        out = self._sensor(out, rng)
        if self.gamma and rng.random() < self.gamma:
            levels = (np.arange(256) / 255) ** rng.uniform(*self.gamma_power) * 255
            out = _u8(cv2.LUT(out, np.rint(levels).astype(np.uint8)))
        if out.shape[:2] != (h, w):
            out = _u8(cv2.resize(out, (w, h), interpolation=cv2.INTER_LINEAR))
        if self.jpeg and rng.random() < self.jpeg:
            quality = int(rng.integers(int(self.jpeg_quality[0]), int(self.jpeg_quality[1]) + 1))
            out = compressed(out, quality)
        return out

    def _sensor(self, rgb: Pixels, rng: np.random.Generator) -> Pixels:
        mix = self._colours(rng)
        dark = noise = 0.0
        if self.vignette and rng.random() < self.vignette:
            dark = rng.uniform(*self.vignette_loss)
        if self.noise and rng.random() < self.noise:
            noise = rng.uniform(*self.noise_sigma) * 255
        if mix is None and not dark and not noise:
            return rgb
        x = rgb.astype(np.float32)
        if mix is not None:
            x = np.asarray(cv2.transform(x, mix), np.float32)
        if dark:
            h, w = rgb.shape[:2]
            y2, x2 = (np.linspace(-1, 1, n, dtype=np.float32) ** 2 / 2 for n in (h, w))
            x *= (1 - np.float32(dark) * (y2[:, None] + x2))[..., None]
        if noise:
            raw = np.frombuffer(rng.bytes(x.size), np.uint8).reshape(x.shape)
            variance = np.maximum(x, 0) * np.float32(noise**2 / 2 / _HALF)
            variance += np.float32(noise**2 / 2)
            x += np.asarray(cv2.LUT(raw, _BELLS)) * np.sqrt(variance)
        return np.asarray(np.clip(np.rint(x, out=x), 0, 255, out=x), np.uint8)

    def _colours(self, rng: np.random.Generator) -> NDArray[np.float32] | None:
        """Exposure, light, saturation and hue as one 3x3 matrix; None: nothing changes."""
        mix = np.eye(3)
        if self.exposure and rng.random() < self.exposure:
            # Levels are about light ** (1 / 2.2).
            mix *= 2 ** (rng.uniform(*self.exposure_stops) / 2.2)
        if self.channels and rng.random() < self.channels:
            mix *= rng.uniform(*self.channels_gain, 3)
        if self.saturation and rng.random() < self.saturation:
            times = rng.uniform(*self.saturation_times)
            mix = (times * np.eye(3) + (1 - times) * _GREY) @ mix
        if self.hue and rng.random() < self.hue:
            mix = _turn(np.deg2rad(rng.uniform(*self.hue_degrees))) @ mix
        return None if np.array_equal(mix, np.eye(3)) else mix.astype(np.float32)


def compressed(rgb: Pixels, quality: int) -> Pixels:
    """A picture after JPEG; (H, W, 3) uint8, `quality` 1 to 100."""
    packed = cv2.imencode(
        ".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )[1]
    return _u8(cv2.cvtColor(_u8(cv2.imdecode(packed, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB))


def _u8(found: Any) -> Pixels:
    return np.asarray(found, np.uint8)


def _turn(angle: float) -> NDArray[np.float64]:
    """Rotation about the axis of the greys, by `angle` in radians (Rodrigues' formula)."""
    axis = np.full(3, 3**-0.5)
    cross = np.cross(np.eye(3), axis)
    whole = np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) * np.outer(axis, axis)
    return np.asarray(whole + np.sin(angle) * cross, np.float64)


def _streak(length: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A line through the middle of a kernel, px, in any direction; it sums to 1."""
    angle, half = rng.uniform(0, np.pi), int(np.ceil(length / 2))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    along = np.abs(np.cos(angle) * x + np.sin(angle) * y)
    across = np.abs(np.cos(angle) * y - np.sin(angle) * x)
    line = np.clip(1 - across, 0, 1) * np.clip((length + 1) / 2 - along, 0, 1)
    return np.asarray(line / line.sum(), np.float32)
