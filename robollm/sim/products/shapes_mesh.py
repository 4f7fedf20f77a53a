"""Meshes with texture maps from grids: the one way all packages are made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robollm.sim.products.artwork_pack import Rect
from robollm.sim.world import Mesh, Vec3

F64 = NDArray[np.float64]


def grid(points: F64, uv: F64) -> Mesh:
    """Return a sheet of points [rows, columns, 3] with uv [rows, columns, 2].

    It faces the side from which rows run upwards when columns run to the right.
    """
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    c, d = index[1:, 1:].ravel(), index[1:, :-1].ravel()
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return Mesh(
        points.reshape(-1, 3).astype(np.float32),
        faces.astype(np.int32),
        np.clip(uv.reshape(-1, 2), 0, 1).astype(np.float32),
    )


def join(meshes: Sequence[Mesh]) -> Mesh:
    """Return meshes as one; faces without an area are dropped."""
    offset, faces = 0, []
    for mesh in meshes:
        faces.append(mesh.faces + offset)
        offset += len(mesh.vertices)
    vertices = np.concatenate([m.vertices for m in meshes])
    triangles = np.concatenate(faces).astype(np.int32)
    corner = vertices[triangles].astype(np.float64)
    area = np.linalg.norm(
        np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1
    )
    return Mesh(vertices, triangles[area > 1e-11], np.concatenate([m.uv for m in meshes]))


def uv_of(rect: Rect, right: F64, down: F64) -> F64:
    """Return texture coordinates [..., 2] of shares (0 to 1) of a face."""
    u1, v1 = rect.uv(0, 0)
    u2, v2 = rect.uv(1, 1)
    return np.stack(np.broadcast_arrays(u1 + right * (u2 - u1), v1 + down * (v2 - v1)), axis=-1)


# Face -> (right, up) of the print, seen from outside; the normal is right x up.
SIDES: dict[str, tuple[Vec3, Vec3]] = {
    "front": ((1, 0, 0), (0, 1, 0)),
    "back": ((1, 0, 0), (0, -1, 0)),
    "south": ((1, 0, 0), (0, 0, 1)),
    "north": ((-1, 0, 0), (0, 0, 1)),
    "east": ((0, 1, 0), (0, 0, 1)),
    "west": ((0, -1, 0), (0, 0, 1)),
}


def rounded_box(
    size: Vec3, radius: float, faces: dict[str, Rect], centre: Vec3 = (0, 0, 0), crown: float = 0.0
) -> Mesh:
    """Return a box with rounded edges, one texture face per side.

    Args:
        size: outer sides, m.
        radius: of the edges, m.
        faces: where each of the six sides is printed, named as `SIDES`.
        centre: of the box, m.
        crown: by how much the middles of the sides are sunk in (negative: m).
    """
    half = np.asarray(size, np.float64) / 2
    radius = min(radius, 0.95 * float(half.min()))
    core = half - radius
    sheets = []
    for name, (right, up) in SIDES.items():
        r, u = np.asarray(right, np.float64), np.asarray(up, np.float64)
        n = np.cross(r, u)
        a, b = float(abs(r) @ half), float(abs(u) @ half)
        xs = np.array([-a, -a + radius, 0.0, a - radius, a])
        ys = np.array([-b, -b + radius, 0.0, b - radius, b])
        p = xs[None, :, None] * r + ys[:, None, None] * u + n * float(abs(n) @ half)
        inside = np.clip(p, -core, core)
        off = p - inside
        p = inside + radius * off / np.linalg.norm(off, axis=-1, keepdims=True)
        p[2, 2] += crown * n
        uv = uv_of(faces[name], (xs[None, :] + a) / (2 * a), (b - ys[:, None]) / (2 * b))
        sheets.append(grid(p + np.asarray(centre), uv))
    return join(sheets)


def revolved(stations: F64, uv: F64, turns: int = 32) -> Mesh:
    """Return a body around the x axis.

    Args:
        stations: [S, 3]: x, half width along y, half height along z, m; x ascending. Sections are
            stadiums, circles where the halves are equal.
        uv: [S, turns + 1, 2]. Turn 0 is at -z; turns run over +y, +z (half way), -y.
        turns: how many sides a section has.
    """
    return grid(sections(stations, turns), uv)


def sections(stations: F64, turns: int = 32) -> F64:
    """Return points [S, turns + 1, 3] of the sections that `revolved` describes."""
    x, wide, high = stations.T[:, :, None]
    angle = 2 * np.pi * np.arange(turns + 1)[None, :] / turns
    s, c = np.sin(angle), np.cos(angle)
    small = np.minimum(wide, high)
    # A stadium: a circle of the smaller half, its two halves moved apart. At the poles no side.
    y = small * s + (wide - small) * np.clip(3 * s, -1, 1)
    z = -high * c * np.ones_like(y)
    return np.stack([np.broadcast_to(x, y.shape), y, z], axis=-1)


def around(rect: Rect, stations: F64, turns: int = 32) -> F64:
    """Return uv [S, turns + 1, 2] of a wrap that covers stations from end to end, top at +x.

    Print keeps its proportions along each section, however flat that is.
    """
    x = stations[:, 0]
    down = (x[-1] - x) / (x[-1] - x[0])
    steps = np.linalg.norm(np.diff(sections(stations, turns), axis=1), axis=2)
    length = np.concatenate([np.zeros((len(x), 1)), np.cumsum(steps, axis=1)], axis=1)
    return uv_of(rect, length / length[:, -1:], down[:, None])
