"""What transport does to print: scuffed edges, dents, dirt, scratches."""

from __future__ import annotations

import cv2
import numpy as np

from robollm.sim.world import F32, U8

_DIRT: F32 = np.array([88, 80, 70], np.float32)
_PAPER: F32 = np.array([226, 219, 206], np.float32)


def worn(
    face: U8, rng: np.random.Generator, amount: float, *, edges: bool, creased: float = 0.0
) -> U8:
    """Return a face [H, W, 3] with wear.

    `amount` runs from 0 (new) to 1; `edges` are scuffed; `creased` (0 to 1): film in folds.
    """
    height, width = face.shape[:2]
    image: F32 = face.astype(np.float32)
    shade = cv2.resize(
        rng.standard_normal((4, 5)).astype(np.float32), (width, height),
        interpolation=cv2.INTER_CUBIC,
    )  # fmt: skip
    image *= (1 + 0.025 * shade * (0.4 + amount))[..., None]
    if creased:
        image *= _folds(width, height, rng, creased)[..., None]
    if edges:
        _scuff(image, rng, amount)
    for _ in range(int(rng.poisson(2.5 * amount))):  # scratches
        a = rng.uniform((0, 0), (width, height))
        b = a + rng.normal(0, 0.18 * width, 2)
        tone = float(rng.choice((60.0, 225.0)))
        layer = image.copy()
        cv2.line(layer, (int(a[0]), int(a[1])), (int(b[0]), int(b[1])), (tone, tone, tone), 1,
                 cv2.LINE_AA)  # fmt: skip
        image += 0.35 * (layer - image)
    for _ in range(int(rng.poisson(1.2 * amount))):  # dirt
        spot: F32 = np.zeros((height, width), np.float32)
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (1 + int(rng.integers(1 + width // 14)), 1 + int(rng.integers(1 + height // 14)))
        cv2.ellipse(spot, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
        spot = np.asarray(cv2.GaussianBlur(spot, (0, 0), 2), np.float32)[..., None]
        image += 0.3 * spot * (_DIRT - image)
    return np.clip(image, 0, 255).astype(np.uint8)


def _folds(width: int, height: int, rng: np.random.Generator, strength: float) -> F32:
    """Return the light that folded film throws back, a factor [H, W] around 1."""
    shade: F32 = np.zeros((height, width), np.float32)
    for cells, weight in (((5, 6), 1.0), ((9, 5), 0.7), ((7, 16), 0.45)):
        noise = rng.standard_normal(cells).astype(np.float32)
        lie = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        ridge = np.abs(lie) ** 0.7  # creased where the sign changes
        slope = cv2.Sobel(ridge, cv2.CV_32F, 1, 0) + 0.8 * cv2.Sobel(ridge, cv2.CV_32F, 0, 1)
        shade += weight * np.clip(slope * 0.06 * np.float32(min(width, height)) / 8, -1, 1)
    return np.asarray(1 + 0.16 * strength * cv2.GaussianBlur(shade, (0, 0), 0.8), np.float32)


def _scuff(image: F32, rng: np.random.Generator, amount: float) -> None:
    """Bare the paper along the edges, here more, there less."""
    height, width = image.shape[:2]
    y = np.minimum(np.arange(height), np.arange(height)[::-1])[:, None]
    x = np.minimum(np.arange(width), np.arange(width)[::-1])[None, :]
    rough = cv2.resize(
        rng.random((max(2, height // 6), max(2, width // 6))).astype(np.float32), (width, height)
    )
    reach = (0.6 + 2.6 * amount) * rough
    bare = np.clip(reach - np.minimum(x, y), 0, 1)[..., None] * (0.25 + 0.4 * amount)
    image += bare * (_PAPER - image)
