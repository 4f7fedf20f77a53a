"""Poses, and meshes put into the world. Frames and units as in world.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robollm.sim.world import F32, Body, Camera, Item, Part, Pose, Quat, Vec3

F64 = NDArray[np.float64]


def matrix(quaternion: Quat) -> F64:
    """Return the rotation matrix [3, 3] of a unit quaternion (w, x, y, z)."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion(rotation: F64) -> Quat:
    """Return the unit quaternion (w, x, y, z), w >= 0, of a rotation matrix [3, 3]."""
    m = rotation
    # Divide by the largest component, so that no angle is ill-conditioned.
    squares = np.array(
        [
            1 + m[0, 0] + m[1, 1] + m[2, 2],
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
        ]
    )
    k = int(squares.argmax())
    s = float(np.sqrt(squares[k]))
    wx, wy, wz = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    xy, xz, yz = m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1]
    rows = [(s * s, wx, wy, wz), (wx, s * s, xy, xz), (wy, xy, s * s, yz), (wz, xz, yz, s * s)]
    w, x, y, z = (float(v) / (2 * s) for v in rows[k])
    return (w, x, y, z) if w >= 0 else (-w, -x, -y, -z)


def turn(axis: Vec3, radians: float) -> Quat:
    """Return the quaternion of a turn about an axis (of any length but zero)."""
    a = np.asarray(axis, np.float64)
    x, y, z = (float(v) for v in a / np.linalg.norm(a) * np.sin(radians / 2))
    return (float(np.cos(radians / 2)), x, y, z)


def compose(outer: Pose, inner: Pose) -> Pose:
    """Return the pose that applies `inner` first, then `outer`."""
    r = matrix(outer.quaternion)
    x, y, z = (float(v) for v in r @ np.asarray(inner.position) + outer.position)
    return Pose((x, y, z), quaternion(r @ matrix(inner.quaternion)))


def inverse(pose: Pose) -> Pose:
    """Return the pose that undoes `pose`."""
    r = matrix(pose.quaternion).T
    x, y, z = (float(v) for v in -(r @ np.asarray(pose.position)))
    return Pose((x, y, z), quaternion(r))


def apply(pose: Pose, points: NDArray[np.floating]) -> F64:
    """Return points [N, 3] taken through a pose."""
    out: F64 = np.asarray(points, np.float64) @ matrix(pose.quaternion).T + pose.position
    return out


def look_at(eye: Vec3, target: Vec3, up: Vec3 = (0.0, 1.0, 0.0)) -> Pose:
    """Return the optical frame (x right, y down, z forward) of a camera at `eye`.

    `up` may not be parallel to the line of sight; looking straight down, +y is a good one.
    """
    forward = np.subtract(target, eye).astype(np.float64)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    return Pose(eye, quaternion(np.stack([right, np.cross(forward, right), forward], axis=1)))


def project(camera: Camera, points: NDArray[np.floating]) -> F64:
    """Return pixel coordinates and depth [N, 3] = (u, v, m) of world points [N, 3].

    Pixel centres are at half-integers, as in core.boxes: (0, 0) is the image's top left corner.
    Points behind the camera have a depth <= 0 and meaningless (u, v).
    """
    local = (np.asarray(points, np.float64) - camera.pose.position) @ matrix(camera.pose.quaternion)
    height, width = camera.hw
    focal = height / 2 / np.tan(np.radians(camera.fovy_deg) / 2)
    depth = local[:, 2]
    safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    uv = local[:, :2] / safe[:, None] * focal + (width / 2, height / 2)
    return np.concatenate([uv, depth[:, None]], axis=1)


def posed_vertices(part: Part, body: Body, poses: tuple[Pose, ...]) -> F32:
    """Return a part's vertices [N, 3] in the world.

    A bending part (segment None) belongs to a chain along x, segment i between anchors i and i+1:
    within a third of a segment around each anchor the two neighbours' transforms are mixed
    (linear blend skinning), so that the skin bends without a crease.
    """
    vertices = part.mesh.vertices
    if part.segment is not None or len(poses) == 1:
        return apply(poses[part.segment or 0], vertices).astype(np.float32)
    anchors = np.array([s.anchor[0] for s in body.segments[1:]])
    ends = np.concatenate([[vertices[:, 0].min()], anchors, [vertices[:, 0].max()]])
    reach = float(np.diff(ends).min()) / 3
    weights = np.ones((len(vertices), 1))
    for anchor in anchors:  # ascending: what is right of it moves on to the next segment
        t = np.clip((vertices[:, 0] - anchor) / (2 * reach) + 0.5, 0, 1)
        t = t * t * (3 - 2 * t)
        last = weights[:, -1] * t
        weights = np.column_stack([weights[:, :-1], weights[:, -1] - last, last])
    out = np.zeros((len(vertices), 3))
    for pose, weight in zip(poses, weights.T, strict=True):
        out += weight[:, None] * apply(pose, vertices)
    return out.astype(np.float32)


def posed_parts(item: Item, body: Body) -> list[F32]:
    """Return each part's vertices [N, 3] in the world."""
    return [posed_vertices(part, body, item.poses) for part in body.parts]
