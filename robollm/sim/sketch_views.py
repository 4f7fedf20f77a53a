"""What the post-pick cameras see, and the catalogue's reference pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from robollm.sim.sketch_brush import Image
from robollm.sim.sketch_damage import damaged
from robollm.sim.sketch_paste import Canvas, Pose, lay, shadow, solid, warp
from robollm.sim.sketch_products import Product, texture
from robollm.sim.sketch_scene import COLOURS, develop

VIEW_HW = (480, 480)  # (height, width) of a post-pick picture, px
VIEWS = ("on_arm_low", "tote_wall")
REFERENCE_HW = (320, 320)
REFERENCES = 3  # pictures per product

_GRIP_Y = 126  # where the suction cup touches, px


def draw_view(
    view: str, products: Sequence[Product], colour: str, seed: int, *, broken: bool = False
) -> Image:
    """Draw what hangs under the gripper after a pick.

    Args:
        view: one of `VIEWS`.
        products: the target first; a second one makes it a multi-pick.
        colour: the tote's, a key of `COLOURS`; it shows in `tote_wall`.
        seed: pose, light and background; the same seed gives the same picture.
        broken: the target's package is open or torn.

    Returns:
        (480, 480, 3) uint8 RGB.
    """
    rng = np.random.default_rng([seed, VIEWS.index(view)])
    low = view == "on_arm_low"
    canvas = _hall(rng) if low else _wall(COLOURS[colour], rng)
    target = products[0]
    w, h = target.size_px
    scale = min(230 / w, 290 / h) * float(rng.uniform(0.94, 1.04)) * (0.86 if broken else 1.0)
    scale *= 0.76 if len(products) > 1 else 1.0
    roll = float(rng.normal(0, 3) + (0 if low else 7))
    yaw = float(rng.uniform(10, 20) * (1 if low else -1))
    pose = Pose(240, _GRIP_Y + h * scale / 2, roll, scale, yaw)
    deep = target.height * min(w, h) * scale * (0.35 if target.kind == "bottle" else 1.0)
    lift = (0.62 * deep * (-1 if low else 1), (-0.22 if low else 0.20) * deep)
    pose = pose.moved(-lift[0] / 2, max(0.0, -lift[1]))

    if len(products) > 1:  # behind the target and below, held by nothing but the contact
        other = products[1]
        side = -1 if rng.random() < 0.5 else 1
        second = Pose(
            pose.x + side * 0.40 * w * scale,
            pose.y + 0.30 * h * scale,
            roll + side * float(rng.uniform(14, 30)),
            scale * min(1.0, 1.15 * max(w, h) / max(other.size_px)),
            yaw,
        )
        solid(canvas, warp(texture(other), second), lift, gain=0.86)
    _gripper(canvas, 240 if low else 246)
    front = warp(texture(target), pose)
    shadow(canvas, front, 6, 10, 12, 0.45 if len(products) > 1 else 0.20)
    solid(canvas, front, lift, gain=0.98 if low else 1.06)
    if broken:
        dx, dy = round(lift[0]), round(lift[1])
        torn = warp(damaged(target, seed), pose.moved(dx, dy))
        shadow(canvas, torn, 5, 8, 7, 0.35)  # of the flaps, on what is behind the face
        lay(canvas, front, dx, dy)
        lay(canvas, torn, gain=0.98 if low else 1.06)
    return develop(canvas, seed + VIEWS.index(view), noise=0.4)


def draw_reference(product: Product, index: int) -> Image:
    """Draw one of a product's catalogue pictures: studio light, no tote, no gripper.

    Args:
        product: what to show.
        index: 0 from the front, 1 lying askew, 2 turned aside.

    Returns:
        (320, 320, 3) uint8 RGB.
    """
    h, w = REFERENCE_HW
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j].astype(np.float32)
    glow = 236 - 22 * (x**2 + (y - 0.1) ** 2)
    canvas = glow[..., None] * np.array([1.0, 0.995, 0.98], np.float32)
    angle, yaw, lean = ((-3.0, 0.0, 0.25), (28.0, 12.0, 0.5), (-9.0, 34.0, 0.9))[index]
    scale = 205 / max(product.size_px)
    tall = product.height * min(product.size_px) * scale * lean
    patch = warp(texture(product), Pose(w / 2 + 0.2 * tall, h / 2 + 0.2 * tall, angle, scale, yaw))
    shadow(canvas, patch, 10, 16, 14, 0.38)
    solid(canvas, patch, (-0.5 * tall, -0.4 * tall), gain=1.12)
    return develop(canvas, 1000 + index, vignette=0.03)


def _hall(rng: np.random.Generator) -> Canvas:
    """A dim hall out of focus: beams, lamps, shelves far behind."""
    h, w = VIEW_HW
    top, floor = np.array([46.0, 52.0, 62.0]), np.array([98.0, 98.0, 96.0])
    t = np.linspace(0, 1, h)[:, None, None]
    canvas = np.repeat(top * (1 - t) + floor * t, w, 1).astype(np.float32)
    for _ in range(26):  # shelves
        x, y = int(rng.integers(-30, w)), int(rng.integers(210, 400))
        colour = [float(c) for c in rng.uniform(70, 130, 3) * rng.uniform(0.6, 1.1)]
        cv2.rectangle(canvas, (x, y), (x + int(rng.integers(24, 70)), y + 44), colour, -1)
    for x in (70, 250, 430):
        cv2.line(canvas, (x - 40, 0), (x, h), (38.0, 42.0, 50.0), 16)
    for y in (60, 130, 190):
        x = int(rng.integers(0, 160))
        cv2.line(canvas, (x, y), (x + 300, y - 22), (250.0, 246.0, 228.0), 9)
    cv2.rectangle(canvas, (0, 425), (w, h), (66.0, 70.0, 76.0), -1)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 11), np.float32)


def _wall(colour: tuple[int, int, int], rng: np.random.Generator) -> Canvas:
    """The station seen over the near tote wall: light panels, posts, the wall's ribs."""
    h, w = VIEW_HW
    canvas: Canvas = np.full((h, w, 3), (176.0, 182.0, 186.0), np.float32)
    for x in range(int(rng.integers(-60, 0)), w, 128):
        cv2.rectangle(canvas, (x, 0), (x + 16, h), (122.0, 128.0, 134.0), -1)
        cv2.line(canvas, (x + 4, 0), (x + 4, h), (210.0, 214.0, 216.0), 3)
    cv2.rectangle(canvas, (0, 210), (w, 232), (96.0, 100.0, 106.0), -1)
    canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), 5), np.float32)
    paint = np.asarray(colour, np.float32)
    top = 372
    for x1, x2, gain in ((0, w, 0.86), *((x, x + 9, 0.70) for x in range(18, w, 62))):
        cv2.rectangle(canvas, (x1, top + 26), (x2, h), [float(c) for c in paint * gain], -1)
    cv2.rectangle(canvas, (0, top), (w, top + 26), [float(c) for c in paint * 1.12], -1)
    cv2.line(canvas, (0, top + 26), (w, top + 26), [float(c) for c in paint * 0.55], 4)
    lower = canvas[top - 12 :]
    lower[:] = cv2.GaussianBlur(lower, (0, 0), 2.2)
    return canvas


def _gripper(canvas: Canvas, x: int) -> None:
    """Shaft, flange and a suction cup with bellows, from the top edge down to `_GRIP_Y`."""
    for half, y1, y2, grey in ((24, 0, 62, 168.0), (46, 56, 76, 120.0), (16, 76, 90, 150.0)):
        across = np.linspace(-1, 1, 2 * half)
        tone = grey * (0.55 + 0.5 * np.exp(-(((across + 0.35) / 0.5) ** 2)))
        canvas[y1:y2, x - half : x + half] = tone[None, :, None]
    for y, half in ((92, 27), (102, 33), (112, 38), (121, 44)):
        cv2.ellipse(canvas, (x, y), (half, 9), 0, 0, 360, (34.0, 34.0, 38.0), -1, cv2.LINE_AA)
        cv2.ellipse(
            canvas, (x, y - 2), (half - 3, 6), 0, 0, 360, (66.0, 66.0, 72.0), 2, cv2.LINE_AA
        )
