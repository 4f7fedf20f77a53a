"""Put a flat texture into a picture as a solid body: pose, sides, shadow, instance id."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.sim.sketch_brush import Image

Canvas = NDArray[np.float32]  # (H, W, 3), RGB, 0-255


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a texture's middle goes and how it is turned.

    Attributes:
        x: picture px.
        y: picture px.
        angle_deg: in the picture, clockwise.
        scale: picture px per texture px.
        yaw_deg: about the texture's own upright axis: one side comes nearer.
    """

    x: float
    y: float
    angle_deg: float
    scale: float
    yaw_deg: float = 0.0

    def moved(self, dx: float, dy: float) -> Pose:
        """The same pose, shifted by whole or part picture px."""
        return Pose(self.x + dx, self.y + dy, self.angle_deg, self.scale, self.yaw_deg)

    def corners(self, hw: tuple[int, int]) -> NDArray[np.float32]:
        """(4, 2) float32, picture px: where a texture of (height, width) has its corners."""
        h, w = hw[0] * self.scale, hw[1] * self.scale
        flat = np.array([[-w, -h], [w, -h], [w, h], [-w, h]], np.float64) / 2
        yaw, turn = np.deg2rad(self.yaw_deg), np.deg2rad(self.angle_deg)
        near = 1 / (1 + flat[:, :1] * np.sin(yaw) / (2.2 * max(h, w)))
        flat = flat * (np.cos(yaw), 1) * near
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        return np.asarray(flat @ rotation + (self.x, self.y), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A texture in its pose, cut to its window.

    Attributes:
        x: left edge of the window, picture px.
        y: top edge of the window, picture px.
        rgb: (h, w, 3) float32.
        alpha: (h, w, 1) float32 in [0, 1].
    """

    x: int
    y: int
    rgb: NDArray[np.float32]
    alpha: NDArray[np.float32]


def warp(face: Image, pose: Pose) -> Patch:
    """Bring a (H, W, 4) uint8 RGBA texture into its pose."""
    size = (max(1, round(face.shape[1] * pose.scale)), max(1, round(face.shape[0] * pose.scale)))
    premultiplied = face.astype(np.float32)
    premultiplied[..., :3] *= premultiplied[..., 3:] / 255
    small = cv2.resize(premultiplied, size, interpolation=cv2.INTER_AREA)
    small = np.pad(small, ((2, 2), (2, 2), (0, 0)))  # smooth edges need something to fade into
    pose = Pose(pose.x, pose.y, pose.angle_deg, 1.0, pose.yaw_deg)
    h, w = small.shape[:2]
    to = pose.corners((h, w))
    x0, y0 = np.floor(to.min(0)).astype(int)
    x1, y1 = np.ceil(to.max(0)).astype(int) + 1
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, (to - (x0, y0)).astype(np.float32))
    out = cv2.warpPerspective(small, matrix, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR)
    alpha = np.clip(out[..., 3:] / 255, 0, 1)
    rgb = out[..., :3] / np.maximum(alpha, 1e-3)
    return Patch(int(x0), int(y0), rgb.astype(np.float32), alpha.astype(np.float32))


def lay(canvas: Canvas, patch: Patch, dx: int = 0, dy: int = 0, gain: float = 1.0) -> None:
    """Blend a patch into the picture, shifted by whole px and made lighter or darker."""
    here, there = _overlap(canvas.shape[:2], patch, dx, dy)
    a = patch.alpha[there]
    canvas[here] = canvas[here] * (1 - a) + np.clip(patch.rgb[there] * gain, 0, 255) * a


def label(labels: NDArray[np.uint16], patch: Patch, value: int, dx: int = 0, dy: int = 0) -> None:
    """Write an instance id wherever the shifted patch covers more than half a pixel."""
    here, there = _overlap(labels.shape[:2], patch, dx, dy)
    labels[here][patch.alpha[there][..., 0] > 0.5] = value


def shadow(canvas: Canvas, patch: Patch, dx: float, dy: float, blur: float, dark: float) -> None:
    """Darken the picture softly under a patch, shifted by (dx, dy) px."""
    room = int(3 * blur) + 1
    wide = np.pad(patch.alpha[..., 0], room)
    soft = cv2.GaussianBlur(wide, (0, 0), blur)[..., None].astype(np.float32)
    around = Patch(patch.x - room, patch.y - room, soft, soft)
    here, there = _overlap(canvas.shape[:2], around, round(dx), round(dy))
    canvas[here] *= 1 - dark * soft[there]


def solid(
    canvas: Canvas,
    patch: Patch,
    lift: tuple[float, float],
    *,
    labels: NDArray[np.uint16] | None = None,
    value: int = 0,
    gain: float = 1.0,
) -> None:
    """Draw a body: its sides are the texture's edge, swept from the base to the face.

    Args:
        canvas: changed in place.
        patch: the face, at the place of the base.
        lift: from base to face, picture px.
        labels: (H, W) uint16 instance ids, changed in place when given.
        value: this body's id.
        gain: light on the face.
    """
    steps = int(np.ceil(max(abs(lift[0]), abs(lift[1]))))
    for i in range(steps + 1):
        t = i / steps if steps else 1.0
        dx, dy = round(lift[0] * t), round(lift[1] * t)
        lay(canvas, patch, dx, dy, gain * (0.42 + 0.25 * t) if i < steps else gain)
        if labels is not None:
            label(labels, patch, value, dx, dy)


def _overlap(
    hw: tuple[int, ...], patch: Patch, dx: int, dy: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Windows of the picture and of the patch that cover each other (perhaps empty)."""
    h, w = patch.alpha.shape[:2]
    x, y = patch.x + dx, patch.y + dy
    x1, y1 = min(max(x, 0), hw[1]), min(max(y, 0), hw[0])
    x2, y2 = max(min(x + w, hw[1]), x1), max(min(y + h, hw[0]), y1)
    here = (slice(y1, y2), slice(x1, x2))
    return here, (slice(y1 - y, y2 - y), slice(x1 - x, x2 - x))
