"""Simple things that are seen through clear film: blocks, balls, discs, rods, bars."""

from __future__ import annotations

import numpy as np

from robollm.sim.products.artwork_pack import Rect
from robollm.sim.products.shapes_mesh import SIDES, around, join, revolved, rounded_box
from robollm.sim.world import Mesh, Vec3


def thing(kind: int, room: Vec3, centre: Vec3, face: Rect) -> Mesh:
    """Return one or a few things that fill a room (m) around a centre."""
    x, y, z = room
    faces = dict.fromkeys(SIDES, face)
    if kind == 0:
        return rounded_box(room, 0.2 * z, faces, centre)
    if kind == 1:
        across = min(x / 2, y / 2, z)
        columns, rows = min(4, int(x / across)), min(2, int(y / across))
        return join([
            _ball(across / 2, _moved(centre, (i - (columns - 1) / 2) * x / columns,
                                     (j - (rows - 1) / 2) * y / rows), face)
            for i in range(columns) for j in range(rows)
        ])  # fmt: skip
    if kind == 2:
        return _rod((x, y, z), centre, face, 0.3)
    if kind == 3:
        return join([_rod((0.94 * x, 0.27 * y, min(z, 0.27 * y)), _moved(centre, 0, dy * y), face,
                          0.06) for dy in (-0.34, 0.0, 0.34)])  # fmt: skip
    side = 0.44 * min(x, y * 2)
    return join([rounded_box((side, 0.44 * y, z), 0.1 * z, faces, _moved(centre, dx * side, dy * y))
                 for dx in (-0.54, 0.54) for dy in (-0.26, 0.26)])  # fmt: skip


def _moved(centre: Vec3, dx: float, dy: float) -> Vec3:
    return (centre[0] + dx, centre[1] + dy, centre[2])


def _ball(radius: float, centre: Vec3, face: Rect) -> Mesh:
    angle = np.linspace(0.02, np.pi - 0.02, 7)
    r = radius * np.sin(angle)
    stations = np.stack([-radius * np.cos(angle), r, r], axis=1)
    return _at(revolved(stations, around(face, stations, 10), 10), centre)


def _rod(size: Vec3, centre: Vec3, face: Rect, taper: float) -> Mesh:
    x, y, z = (v / 2 for v in size)
    at = np.array([-1, -0.99, -0.9, -taper, taper, 0.9, 0.99, 1.0])
    r = np.array([0.02, 0.75, 0.8, 0.82, 1.0, 1.0, 0.93, 0.02])
    stations = np.stack([at * x, r * y, r * z], axis=1)
    return _at(revolved(stations, around(face, stations, 16), 16), centre)


def _at(mesh: Mesh, centre: Vec3) -> Mesh:
    return Mesh(mesh.vertices + np.asarray(centre, np.float32), mesh.faces, mesh.uv)
