"""Textures of a tote: moulded plastic with wear, dirt, a floor pattern and bar code labels."""

from __future__ import annotations

import cv2
import numpy as np

from robollm.sim.geometry import F64
from robollm.sim.physics.totes_mesh import RIB_STEP, half_sides, handle
from robollm.sim.world import F32, U8, Tote


def floor(tote: Tote, rng: np.random.Generator) -> U8:
    """Return the floor's texture uint8 [H, W, 3] RGB, +x to the right and +y up."""
    hx, hy = half_sides(tote, 0.0)
    width = 512
    height = round(width * hy / hx)
    shade = _grain(rng, height, width)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    metre = width / (2 * hx)
    cell = 0.034 * metre
    u, v = (x - width / 2) / cell, (y - height / 2) / cell
    if tote.style in (1, 2):  # diamonds, else squares
        u, v = (u + v) / np.sqrt(2), (u - v) / np.sqrt(2)
    line = np.minimum(np.abs(u - np.round(u)), np.abs(v - np.round(v))) * cell
    shade *= 1 - 0.13 * np.exp(-((line / 1.1) ** 2)) + 0.06 * np.exp(-(((line - 2.2) / 1.0) ** 2))
    edge = np.minimum(np.minimum(x, width - x), np.minimum(y, height - y)) / metre
    shade *= 1 - 0.25 * np.exp(-edge / 0.012)
    _scratch(shade, rng, 90, 0.25)
    return _colour(tote, rng, shade, dirt=0.35 * np.exp(-edge / 0.05) + 0.12)


def inside(tote: Tote, rng: np.random.Generator) -> U8:
    """Return the inner walls' texture uint8 [H, W, 3]: around the tote, the rim at the top."""
    length, broad, depth = tote.inner_m
    width = 1024
    around = 2 * (length + broad)
    height = round(width * depth / around)
    shade = _grain(rng, height, width)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    z = 1 - (y + 0.5) / height
    # Shallow ribs: the light edge of each and the dark one, as moulded on the other side.
    pitch = RIB_STEP[tote.style] * width / around
    phase = (x / pitch + 0.5) % 1.0
    near = (phase - 0.5) * pitch
    shade *= 1 + 0.05 * np.exp(-((near / 1.2) ** 2)) - 0.05 * np.exp(-(((near - 2.4) / 1.2) ** 2))
    for share in (0.05, 0.93):
        row = (z - share) * height
        shade *= 1 - 0.10 * np.exp(-((row / 1.3) ** 2)) + 0.06 * np.exp(-(((row - 2.6) / 1.3) ** 2))
    shade *= 1 - 0.22 * np.exp(-z * depth / 0.012)
    _scratch(shade, rng, 130, 0.8)
    out = _colour(tote, rng, shade, dirt=0.25 * np.exp(-z * depth / 0.05) + 0.08)
    if rng.random() < 0.5:  # a label on a long wall, in sight of a camera above
        at = 0.25 if rng.random() < 0.5 else 0.75
        out = np.ascontiguousarray(out[:, ::-1])  # seen from inside, around is to the left
        _label(out, rng, (at + rng.uniform(-0.08, 0.08)) * width, 0.42 * height, 0.055 * width)
        out = np.ascontiguousarray(out[:, ::-1])
    return out


def outside(tote: Tote, rng: np.random.Generator) -> U8:
    """Return the texture uint8 [H, W, 3] of outer walls (upper 3/4) and rim (lowest fifth)."""
    length, broad, depth = tote.inner_m
    width = 1024
    wall = width * depth / (2 * (length + broad))
    height = round(wall / 0.75)
    shade = _grain(rng, height, width)
    y = np.mgrid[0:height, 0:width][0].astype(np.float32) / height
    rim = y > 0.78
    _scratch(shade, rng, 160, 1.0)
    # The rim is what everything bumps into: pale, rubbed patches along its edges.
    rub = _cloud(rng, height, width, 60) * np.exp(-(((y - 0.925) / 0.018) ** 2))
    shade = (shade * (1 + 0.5 * rub * rim)).astype(np.float32)
    out = _colour(tote, rng, shade, dirt=np.where(rim, 0.10, 0.22).astype(np.float32))
    low = handle(tote)[1] or depth * 0.7
    for half in (0, width // 2):  # in the middle of both ends, below the handles
        out = np.roll(out, half, axis=1)
        row = 0.75 * height * (1 - 0.60 * low / depth)
        _label(out, rng, width / 2, row, 0.052 * width)
        out = np.roll(out, -half, axis=1)
    if rng.random() < 0.7:
        at = rng.uniform(0.2, 0.3) + 0.5 * float(rng.random() < 0.5)
        _label(out, rng, at * width, 0.853 * height, 0.045 * width, flat=0.055 * height)
    return out


def _grain(rng: np.random.Generator, height: int, width: int) -> F32:
    """Return the shade of moulded plastic float32 [H, W], about 1."""
    fine = rng.normal(0, 0.012, (height, width))
    out: F32 = (1 + fine + 0.05 * (_cloud(rng, height, width, 8) - 0.5)).astype(np.float32)
    return out


def _cloud(rng: np.random.Generator, height: int, width: int, cells: int) -> F32:
    """Return smooth noise float32 [H, W] from 0 to 1."""
    rows = max(3, round(cells * height / width))
    small = rng.random((rows, cells)).astype(np.float32)
    out: F32 = np.asarray(
        cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32
    )
    return np.clip(out, 0, 1)


def _scratch(shade: F32, rng: np.random.Generator, count: int, upright: float) -> None:
    """Draw fine pale scratches in place; `upright` 1: most of them run down the wall."""
    height, width = shade.shape
    layer = np.zeros_like(shade)
    for _ in range(count):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        turn = rng.normal(np.pi / 2, 0.35) if rng.random() < upright else rng.uniform(0, np.pi)
        long = min(float(rng.exponential(0.05)) + 0.01, 0.3) * width
        ends = np.array([[x, y], [x + long * np.cos(turn), y + long * np.sin(turn)]])
        a, b = (tuple(int(v) for v in p * 16) for p in ends)
        cv2.line(layer, a, b, float(rng.uniform(0.02, 0.14)), 1, cv2.LINE_AA, 4)
    shade *= 1 + layer


def _colour(tote: Tote, rng: np.random.Generator, shade: F32, dirt: F64 | F32 | float) -> U8:
    """Return shade [H, W] in the tote's colour, greyed by `dirt` (0 to 1, [H, W])."""
    height, width = shade.shape
    base = np.asarray(tote.colour, np.float32)
    # What is rubbed goes pale, even on black plastic.
    lit = base * np.minimum(shade, 1.0)[..., None] + np.maximum(shade - 1.0, 0.0)[..., None] * 0.6
    patch = _cloud(rng, height, width, 14) * _cloud(rng, height, width, 40)
    amount = np.clip(dirt * (0.35 + 1.3 * patch), 0, 0.6)[..., None]
    soil = np.array([0.36, 0.32, 0.27], np.float32) * (0.4 + 0.6 * float(base.mean()))
    mixed = lit * (1 - 0.7 * amount) + soil * 0.7 * amount
    out: U8 = np.clip(mixed * 255 + 0.5, 0, 255).astype(np.uint8)
    return out


def _label(
    out: U8, rng: np.random.Generator, x: float, y: float, width: float, flat: float | None = None
) -> None:
    """Stick a bar code label on a texture, in place: centre and width in px."""
    w = round(width)
    h = round(flat or width * 0.45)
    big = np.full((h * 4, w * 4, 3), 238, np.uint8)
    bars = np.repeat(rng.random(62) < 0.5, max(1, round(w * 4 * 0.84 / 62)))
    left = round(w * 4 * 0.08)
    bars = bars[: w * 4 - 2 * left]
    bottom = round(h * 4 * 0.70)
    big[round(h * 0.4) : bottom, left : left + len(bars)][:, bars] = 25
    if flat is None:
        digits = "".join(str(int(d)) for d in rng.integers(0, 10, 10))
        size = w * 4 * 0.8 / (10 * 20)
        foot = (left, round(h * 4 * 0.93))
        cv2.putText(big, digits, foot, cv2.FONT_HERSHEY_SIMPLEX, size, (30, 30, 30), 2, cv2.LINE_AA)
    label = cv2.resize(big, (w, h), interpolation=cv2.INTER_AREA)
    label = np.clip(label * (1 - 0.12 * _cloud(rng, h, w, 6)[..., None]), 0, 255).astype(np.uint8)
    top, begin = max(0, round(y - h / 2)), max(0, round(x - w / 2))
    place = out[top : top + h, begin : begin + w]
    place[:] = label[: place.shape[0], : place.shape[1]]
