"""A tote full of drawn products, seen from above, with the truth about every visible pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.sim.sketch_brush import Image, Rgb
from robollm.sim.sketch_paste import Canvas, Pose, shadow, solid, warp
from robollm.sim.sketch_products import Product, texture

TOTE_HW = (720, 960)  # (height, width) of a tote picture, px
COLOURS: dict[str, Rgb] = {
    "grey": (140, 146, 154),
    "blue": (52, 98, 164),
    "yellow": (222, 178, 58),
}

_RIM = (34, 30, 926, 690)  # outer edge of the tote, its opening and its floor: x1, y1, x2, y2
_OPENING = (68, 64, 892, 656)
_FLOOR = (124, 112, 836, 608)
_CAMERA = 820.0  # height of the camera over the floor, px: how much bodies lean outwards


@dataclass(frozen=True, slots=True)
class Item:
    """One product lying in a tote, where it was dropped."""

    product: Product
    pose: Pose


@dataclass(frozen=True, slots=True, eq=False)
class ToteScene:
    """A tote picture with its truth.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint16; pixel = index of the visible item + 1, 0 = background.
        boxes: (N, 4) float32 xyxy, px, of each item's visible pixels; zeros when hidden.
    """

    image: Image
    labels: NDArray[np.uint16]
    boxes: NDArray[np.float32]


def scatter(products: Sequence[Product], seed: int) -> list[Item]:
    """Drop products over the floor, about evenly; the later ones lie on top."""
    rng = np.random.default_rng(seed)
    x1, y1, x2, y2 = _FLOOR
    cells = [(c, r) for r in range(3) for c in range(4)]
    order = np.concatenate([rng.permutation(len(cells)) for _ in range(len(products) // 12 + 1)])
    out = []
    for product, cell in zip(products, order, strict=False):
        column, row = cells[cell]
        x = x1 + 70 + (x2 - x1 - 140) * (column + 0.5 + rng.uniform(-0.22, 0.22)) / 4
        y = y1 + 55 + (y2 - y1 - 110) * (row + 0.5 + rng.uniform(-0.18, 0.18)) / 3
        angle = float(rng.choice([0, 90, 180, 270]) + rng.normal(0, 22))
        scale = 0.57 * float(rng.uniform(0.97, 1.03))
        out.append(Item(product, Pose(x, y, angle, scale, float(rng.normal(0, 7)))))
    return out


def draw_tote(items: Sequence[Item], colour: str, seed: int) -> ToteScene:
    """Draw a tote and what lies in it.

    Args:
        items: bottom first.
        colour: a key of `COLOURS`.
        seed: light and white balance; the same seed gives the same picture.
    """
    canvas = _empty_tote(COLOURS[colour])
    labels = np.zeros(TOTE_HW, np.uint16)
    h, w = TOTE_HW
    for value, item in enumerate(items, 1):
        pose = item.pose
        tall = item.product.height * min(item.product.size_px) * pose.scale
        out = ((pose.x - w / 2) / _CAMERA, (pose.y - h / 2) / _CAMERA)
        patch = warp(texture(item.product), pose)
        shadow(canvas, patch, 0.22 * tall, 0.30 * tall, 4 + 0.22 * tall, 0.60)
        shadow(canvas, patch, 0, 1, 3, 0.45)  # contact
        gain = 0.97 + 0.06 * np.sin(1.7 * value)
        solid(canvas, patch, (tall * out[0], tall * out[1]), labels=labels, value=value, gain=gain)
    return ToteScene(develop(canvas, seed), labels, _boxes(labels, len(items)))


def develop(canvas: Canvas, seed: int, *, noise: float = 0.0, vignette: float = 0.16) -> Image:
    """What the camera makes of it: uneven light, white balance, a little blur, noise.

    Args:
        canvas: (H, W, 3) float32 RGB, 0-255.
        seed: chooses light and white balance.
        noise: standard deviation in grey levels.
        vignette: share of light that the middle of each edge lacks.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    rng = np.random.default_rng([seed, 11])
    h, w = canvas.shape[:2]
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j].astype(np.float32)
    slope = rng.uniform(-0.10, 0.10, 2)
    light = 1.05 + slope[0] * x + slope[1] * y - vignette * (x**2 + y**2)
    out = canvas * light[..., None] * rng.uniform(0.96, 1.04, 3).astype(np.float32)
    out = np.asarray(cv2.GaussianBlur(out, (0, 0), 0.6), np.float32)
    if noise:
        out = out + rng.normal(0, noise, out.shape)
    return np.asarray(np.clip(np.rint(out), 0, 255), np.uint8)


def _boxes(labels: NDArray[np.uint16], count: int) -> NDArray[np.float32]:
    boxes = np.zeros((count, 4), np.float32)
    for i in range(count):
        ys, xs = np.nonzero(labels == i + 1)
        if len(xs):
            boxes[i] = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    return boxes


def _empty_tote(colour: Rgb) -> Canvas:
    """Roller conveyor, tote with rim, handles, ribbed walls and floor."""
    h, w = TOTE_HW
    rows = np.arange(h, dtype=np.float32)
    roller = 92 + 46 * np.sin((rows % 66) / 66 * np.pi) ** 0.7 - 62 * ((rows % 66) < 7)
    canvas = np.repeat(np.repeat(roller[:, None, None], w, 1), 3, 2).astype(np.float32)
    paint = np.asarray(colour, np.float32)

    body = np.zeros((h, w), np.float32)
    body[_RIM[1] + 12 : _RIM[3] + 12, _RIM[0] + 8 : _RIM[2] + 8] = 0.65
    canvas *= 1 - cv2.GaussianBlur(body, (0, 0), 16)[..., None].astype(np.float32)
    _panel(canvas, _rect(_RIM), paint * 1.02)
    for inset, gain in ((3, 1.22), (9, 1.06), (27, 0.90), (33, 1.18)):  # the rim's profile
        x1, y1, x2, y2 = _RIM
        _panel(canvas, _rect((x1 + inset, y1 + inset, x2 - inset, y2 - inset)), paint * gain)

    o, f = _rect(_OPENING), _rect(_FLOOR)
    for i, gain in enumerate((0.60, 0.72, 0.92, 0.80)):  # top, right, bottom, left wall
        j = (i + 1) % 4
        _panel(canvas, np.array([o[i], o[j], f[j], f[i]]), paint * gain)
        for t in np.linspace(0.06, 0.94, 14 if i % 2 == 0 else 10):
            high, low = o[i] + (o[j] - o[i]) * t, f[i] + (f[j] - f[i]) * t
            _stroke(canvas, high, low, paint * gain * 0.84, 5)
            _stroke(canvas, high + 3, low + 2, paint * gain * 1.10, 2)
        _stroke(canvas, o[i], f[i], paint * 0.55, 3)
    _panel(canvas, f, paint * 0.74)
    x1, y1, x2, y2 = _FLOOR
    for x in np.linspace(x1, x2, 17)[1:-1]:
        _stroke(canvas, (x, y1 + 10), (x, y2 - 10), paint * 0.69, 3)
        _stroke(canvas, (x + 3, y1 + 10), (x + 3, y2 - 10), paint * 0.79, 2)
    for y in np.linspace(y1, y2, 13)[1:-1]:
        _stroke(canvas, (x1 + 10, y), (x2 - 10, y), paint * 0.70, 2)
    inside = np.zeros((h, w), np.float32)
    inside[y1:y2, x1:x2] = 1
    dim = cv2.GaussianBlur(inside, (0, 0), 38)[..., None]
    canvas[y1:y2, x1:x2] *= (0.62 + 0.40 * dim[y1:y2, x1:x2]).astype(np.float32)
    for x in (51, w - 52):  # handles
        _panel(canvas, _rect((x - 9, h // 2 - 70, x + 9, h // 2 + 70)), paint * 0.32)
    return canvas


def _rect(box: tuple[int, int, int, int]) -> NDArray[np.float64]:
    x1, y1, x2, y2 = box
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)


def _panel(canvas: Canvas, corners: NDArray[np.float64], colour: NDArray[np.float32]) -> None:
    paint = [float(c) for c in np.clip(colour, 0, 255)]
    cv2.fillPoly(canvas, [np.rint(corners).astype(np.int32)], paint, cv2.LINE_8)


def _stroke(
    canvas: Canvas,
    a: NDArray[np.float64] | tuple[float, float],
    b: NDArray[np.float64] | tuple[float, float],
    colour: NDArray[np.float32],
    width: int,
) -> None:
    ends = [(round(float(p[0])), round(float(p[1]))) for p in (a, b)]
    cv2.line(canvas, ends[0], ends[1], [float(c) for c in np.clip(colour, 0, 255)], width)
