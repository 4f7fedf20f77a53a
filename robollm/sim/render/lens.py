"""What a camera and a cable do to a picture. Nothing here moves a pixel: labels stay true."""

from __future__ import annotations

import cv2
import numpy as np

from robollm.core.errors import ConfigError
from robollm.sim.world import F32, U8, Lens

_GAMMA = 2.2
_MID = 0.5**_GAMMA  # linear light of mid grey
_READ = 0.12  # read noise as a share of the variance at mid grey; the rest is shot noise
_DECODE = ((np.arange(256) / 255.0) ** _GAMMA).astype(np.float32)


def develop(rgb: U8, lens: Lens, seed: int) -> U8:
    """Take a rendered picture through a lens, a sensor and JPEG.

    In the order of the light: exposure, white balance and vignetting, motion and focus blur, shot
    and read noise (all in linear light), gamma, JPEG with 4:2:0 chroma.

    Args:
        rgb: uint8 [H, W, 3].
        lens: what to do; `Lens()` does nothing but JPEG at quality 95.
        seed: of the noise; the same arguments give the same bytes.

    Returns:
        uint8 [H, W, 3] RGB, as a reader of the JPEG would see it.

    Raises:
        ConfigError: if the picture has another shape or type, or the quality is not 1 to 100.
    """
    return decode(encode(rgb, lens, seed))


def encode(rgb: U8, lens: Lens, seed: int) -> bytes:
    """Do the same as `develop`, and return the JPEG file."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ConfigError(f"a picture is {rgb.dtype} {rgb.shape}, want uint8 (H, W, 3)")
    if not 1 <= lens.jpeg_quality <= 100:
        raise ConfigError(f"jpeg_quality is {lens.jpeg_quality}, want 1 to 100")
    out = rgb if _neutral(lens) else _expose(rgb, lens, seed)
    ok, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(out[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, lens.jpeg_quality]
    )
    assert ok  # every uint8 picture can be encoded
    return data.tobytes()


def decode(jpeg: bytes) -> U8:
    """Return the picture in a JPEG file, uint8 [H, W, 3] RGB."""
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ConfigError(f"{len(jpeg)} bytes are not a JPEG picture")
    return np.ascontiguousarray(np.asarray(bgr, np.uint8)[..., ::-1])


def random_lens(rng: np.random.Generator, strength: float = 1.0) -> Lens:
    """Draw a lens. `strength` 0 is a very good camera, 1 a tired one on a shaking frame."""
    s = float(strength)
    blurred = rng.random() < 0.35 * s
    moving = rng.random() < 0.25 * s
    gains = np.exp(rng.normal(0, 0.055, 2) * s)
    return Lens(
        exposure_ev=float(np.clip(rng.normal(0, 0.28 * s), -0.7, 0.6)),
        white_balance=(float(gains[0]), 1.0, float(gains[1])),
        vignetting=float(rng.uniform(0, 0.28) * s),
        motion_px=float(rng.uniform(1.0, 3.5)) if moving else 0.0,
        motion_deg=float(rng.uniform(0, 180)),
        focus_px=float(rng.uniform(0.5, 1.1)) if blurred else float(rng.uniform(0.25, 0.5)),
        noise=float(rng.uniform(0.6, 1.0 + 3.0 * s)),
        jpeg_quality=int(rng.integers(round(92 - 20 * s), 97)),
    )


def _neutral(lens: Lens) -> bool:
    return lens == Lens(jpeg_quality=lens.jpeg_quality, motion_deg=lens.motion_deg)


def _expose(rgb: U8, lens: Lens, seed: int) -> U8:
    light = np.take(_DECODE, rgb)
    gain = np.asarray(lens.white_balance, np.float32) * np.float32(2.0**lens.exposure_ev)
    light *= gain
    if lens.vignetting:
        light *= _falloff(light.shape[:2], lens.vignetting)[..., None]
    if lens.motion_px:
        light = np.asarray(cv2.filter2D(light, -1, streak(lens.motion_px, lens.motion_deg),
                                        borderType=cv2.BORDER_REPLICATE), np.float32)  # fmt: skip
    if lens.focus_px:
        light = np.asarray(
            cv2.GaussianBlur(light, (0, 0), lens.focus_px, borderType=cv2.BORDER_REPLICATE),
            np.float32,
        )
    if lens.noise:
        light = _noisy(light, lens.noise, seed)
    encoded = np.power(np.clip(light, 0, 1), np.float32(1 / _GAMMA)) * np.float32(255)
    out: U8 = (encoded + np.float32(0.5)).astype(np.uint8)
    return out


def _falloff(hw: tuple[int, ...], loss: float) -> F32:
    """1 in the middle, 1 - `loss` in the corners [H, W]."""
    y = np.linspace(-1, 1, hw[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, hw[1], dtype=np.float32)[None]
    square = (x * x + y * y) / 2
    kept = 1 - np.float32(loss) * square * (np.float32(0.4) + np.float32(0.6) * square)
    return np.asarray(kept, np.float32)


def streak(length: float, degrees: float) -> F32:
    """Return a motion blur's kernel, symmetric about its centre, sum 1."""
    radius = int(np.ceil(length / 2)) + 1
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    a = np.radians(degrees)
    along, across = x * np.cos(a) + y * np.sin(a), -x * np.sin(a) + y * np.cos(a)
    kernel = np.clip(length / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    out: F32 = (kernel / kernel.sum()).astype(np.float32)
    return out


def _noisy(light: F32, sigma: float, seed: int) -> F32:
    """Photon and read noise whose sigma at mid grey is `sigma` 8-bit steps after gamma."""
    rng = np.random.default_rng([seed, 8191])
    # Two thirds of the variance is common to the three colours: demosaicing mixes them.
    grain = rng.standard_normal((*light.shape[:2], 1), np.float32) * np.float32(0.82)
    grain = grain + rng.standard_normal(light.shape, np.float32) * np.float32(0.57)
    linear = sigma / 255 * _GAMMA * 0.5 ** (_GAMMA - 1)
    variance = _READ + (1 - _READ) * np.clip(light, 0, 2) / np.float32(_MID)
    return np.asarray(light + grain * np.sqrt(variance) * np.float32(linear), np.float32)
