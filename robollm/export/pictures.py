"""Seeded synthetic pictures in plain NumPy, against which a sketch bundle centres its biases.

They are not training data and don't look like a real cell; they only show the random filters
the spread of colours, edges and textures that a camera would. `robollm.sim` makes real scenes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.float32]


def plain(hw: tuple[int, int], level: float) -> Rgb:
    """A constant grey picture: (H, W, 3) float32, RGB in [0, 1]."""
    return np.full((*hw, 3), level, np.float32)


def texture(rng: np.random.Generator, hw: tuple[int, int]) -> Rgb:
    """One surface close to the camera: waves, blocks and a little noise.

    Args:
        rng: where the randomness comes from.
        hw: height and width, px.

    Returns:
        (H, W, 3) float32, RGB in [0, 1].
    """
    y, x = np.mgrid[: hw[0], : hw[1]].astype(np.float32)
    picture = np.zeros((*hw, 3), np.float32) + rng.uniform(0.15, 0.85, 3).astype(np.float32)
    for _ in range(rng.integers(2, 5)):
        length, angle, phase = rng.uniform(6, 120), rng.uniform(0, np.pi), rng.uniform(0, 6.3)
        along = (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / length) + phase
        picture += np.sin(along)[..., None] * rng.normal(0, 0.12, 3)
    for _ in range(rng.integers(3, 9)):
        top, left = rng.integers(0, hw[0]), rng.integers(0, hw[1])
        height, width = rng.integers(8, 8 + hw[0] // 3), rng.integers(8, 8 + hw[1] // 3)
        picture[top : top + height, left : left + width] = rng.uniform(0, 1, 3)
    return _finish(rng, picture)


def tote(rng: np.random.Generator, hw: tuple[int, int]) -> Rgb:
    """A bin from above: a plain floor under shading, and 4 to 14 turned, striped boxes.

    Args:
        rng: where the randomness comes from.
        hw: height and width, px.

    Returns:
        (H, W, 3) float32, RGB in [0, 1].
    """
    y, x = np.mgrid[: hw[0], : hw[1]].astype(np.float32)
    picture = np.zeros((*hw, 3), np.float32) + rng.uniform(0.2, 0.6, 3).astype(np.float32)
    for _ in range(rng.integers(4, 15)):
        angle = rng.uniform(0, np.pi)
        across, along = x - rng.uniform(0, hw[1]), y - rng.uniform(0, hw[0])
        u = across * np.cos(angle) + along * np.sin(angle)
        v = along * np.cos(angle) - across * np.sin(angle)
        inside = (np.abs(u) < hw[1] * rng.uniform(0.05, 0.16)) & (
            np.abs(v) < hw[0] * rng.uniform(0.05, 0.16)
        )
        stripes = np.sign(np.sin(u * (2 * np.pi / rng.uniform(8, 60))))[..., None]
        colour = rng.uniform(0.1, 0.9, 3) + stripes * rng.normal(0, 0.1, 3)
        picture = np.where(inside[..., None], colour, picture).astype(np.float32)
    shade = (
        1 + rng.uniform(-0.2, 0.2) * (x / hw[1] - 0.5) + rng.uniform(-0.2, 0.2) * (y / hw[0] - 0.5)
    )
    return _finish(rng, picture * shade[..., None])


def to_input(pictures: list[Rgb]) -> NDArray[np.float32]:
    """Stack (H, W, 3) pictures in [0, 1] as the backbone's input, (N, 3, H, W), mean = std = .5."""
    stack = np.stack(pictures).transpose(0, 3, 1, 2)
    return np.ascontiguousarray((stack - np.float32(0.5)) / np.float32(0.5))


def _finish(rng: np.random.Generator, picture: Rgb) -> Rgb:
    """Add sensor noise of two grey levels and clip."""
    noisy = picture + rng.normal(0, 2 / 255, picture.shape)
    return np.clip(noisy, 0, 1).astype(np.float32)
