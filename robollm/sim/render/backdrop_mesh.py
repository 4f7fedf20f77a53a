"""Simple textured meshes that surroundings and grippers are built of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robollm.sim.world import Mesh, Vec3


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """Return one mesh of several that share a surface."""
    starts = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]).astype(np.float32),
        np.concatenate([m.faces + s for m, s in zip(meshes, starts, strict=False)]).astype(
            np.int32
        ),
        np.concatenate([m.uv for m in meshes]).astype(np.float32),
    )


def moved(mesh: Mesh, offset: Vec3) -> Mesh:
    """Return the mesh, shifted by `offset` m."""
    return Mesh((mesh.vertices + np.asarray(offset)).astype(np.float32), mesh.faces, mesh.uv)


def box(size: Vec3, centre: Vec3 = (0.0, 0.0, 0.0), *, inward: bool = False) -> Mesh:
    """Return a box of `size` m; each side shows the whole texture. `inward`: a room."""
    vertices: list[NDArray[np.float64]] = []
    faces: list[list[int]] = []
    uv: list[tuple[float, float]] = []
    for axis in range(3):
        for sign in (1.0, -1.0):
            out: NDArray[np.float64] = np.zeros(3)
            u: NDArray[np.float64] = np.zeros(3)
            out[axis], u[(axis + 1) % 3] = sign, 1.0
            if axis == 0:  # walls stand upright: v runs down z
                u = np.array([0.0, sign, 0.0])
            elif axis == 1:
                u = np.array([-sign, 0.0, 0.0])
            v = np.cross(out, u)
            base = len(vertices)
            for p, q in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                vertices.append((out + p * u + q * v) * np.asarray(size) / 2 + np.asarray(centre))
                uv.append(((p + 1) / 2, (1 - q) / 2))
            quad = [[base, base + 1, base + 2], [base, base + 2, base + 3]]
            faces += [f[::-1] for f in quad] if inward else quad
    return Mesh(np.array(vertices, np.float32), np.array(faces, np.int32), np.array(uv, np.float32))


def lathe(profile: Sequence[tuple[float, float]], *, sides: int = 28, sharp: bool = False) -> Mesh:
    """Return a body of revolution about z.

    Args:
        profile: (radius, z) m from the top down, outside on the left.
        sides: facets around.
        sharp: edges between profile pieces stay hard.
    """
    rows = [profile[0]]
    for point in profile[1:]:
        rows += [point]
        if sharp:
            rows += [point]
    count = sides + 1
    angle = np.linspace(0, 2 * np.pi, count)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    vertices = np.concatenate([np.column_stack([r * ring, np.full(count, z)]) for r, z in rows])
    v = np.linspace(0, 1, len(rows))
    uv = np.stack([np.tile(angle / (2 * np.pi), len(rows)), np.repeat(v, count)], axis=1)
    faces = []
    steps = [i for i in range(len(rows) - 1) if rows[i] != rows[i + 1]]
    k = np.arange(sides)
    for i in steps:
        a, b = i * count + k, (i + 1) * count + k
        faces += [np.stack([a, b, b + 1], axis=1), np.stack([a, b + 1, a + 1], axis=1)]
    return Mesh(
        vertices.astype(np.float32), np.concatenate(faces).astype(np.int32), uv.astype(np.float32)
    )


def turned(mesh: Mesh, axis: int) -> Mesh:
    """Return the mesh with its z axis laid along `axis` (0: x, 1: y)."""
    order = (2, 0, 1) if axis == 0 else (1, 2, 0)  # cyclic, so that faces stay outside
    return Mesh(np.ascontiguousarray(mesh.vertices[:, order]), mesh.faces, mesh.uv)
