"""What transport does to print: scuffed edges, dents, dirt, scratches."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.sim.world import F32, U8

_DIRT: F32 = np.array([88, 80, 70], np.float32)
_PAPER: F32 = np.array([226, 219, 206], np.float32)
_SCUFF_PX = 4  # scuffs reach no further in from an edge


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
        tone = np.float32(rng.choice((60.0, 225.0)))
        place = _around(image, np.minimum(a, b), np.maximum(a, b), 3)
        if place is None:
            continue
        part, (x, y) = place
        line = np.zeros(part.shape[:2], np.uint8)
        cv2.line(line, (int(a[0]) - x, int(a[1]) - y), (int(b[0]) - x, int(b[1]) - y), 1)
        part += (line * np.float32(0.35))[..., None] * (tone - part)
    for _ in range(int(rng.poisson(1.2 * amount))):  # dirt
        centre = np.array([int(rng.integers(width)), int(rng.integers(height))])
        axes = (1 + int(rng.integers(1 + width // 14)), 1 + int(rng.integers(1 + height // 14)))
        turn, reach = float(rng.uniform(0, 180)), max(axes)
        place = _around(image, centre - reach, centre + reach, 9)
        assert place is not None, "its centre is in the picture"
        part, (x, y) = place
        spot: F32 = np.zeros(part.shape[:2], np.float32)
        middle = (int(centre[0]) - x, int(centre[1]) - y)
        cv2.ellipse(spot, middle, axes, turn, 0, 360, 1.0, -1)
        soft = np.asarray(cv2.GaussianBlur(spot, (0, 0), 2), np.float32)[..., None]
        part += np.float32(0.3) * soft * (_DIRT - part)
    return np.clip(image, 0, 255).astype(np.uint8)


def _around(
    image: F32, low: NDArray[Any], high: NDArray[Any], margin: int
) -> tuple[F32, tuple[int, int]] | None:
    """Return the part of a picture around two points (x, y) and where it starts; None: outside."""
    x1, y1 = (max(0, int(v) - margin) for v in low)
    x2, y2 = (int(v) + margin + 1 for v in high)
    part = image[y1 : max(y2, 0), x1 : max(x2, 0)]
    return (part, (x1, y1)) if part.size else None


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
    rough = cv2.resize(
        rng.random((max(2, height // 6), max(2, width // 6))).astype(np.float32), (width, height)
    )
    near = _SCUFF_PX
    if min(width, height) <= 2 * near:
        bands = [(slice(None), slice(None))]
    else:  # the middle stays as it is
        inner = slice(near, -near)
        bands = [(slice(near), slice(None)), (slice(-near, None), slice(None)),
                 (inner, slice(near)), (inner, slice(-near, None))]  # fmt: skip
    y = np.minimum(np.arange(height), np.arange(height)[::-1])[:, None]
    x = np.minimum(np.arange(width), np.arange(width)[::-1])[None, :]
    for rows, columns in bands:
        reach = (0.6 + 2.6 * amount) * rough[rows, columns]
        far = np.minimum(x[:, columns], y[rows])
        bare = np.clip(reach - far, 0, 1)[..., None] * (0.25 + 0.4 * amount)
        part = image[rows, columns]
        part += bare * (_PAPER - part)
