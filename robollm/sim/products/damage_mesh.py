"""Small meshes that damage is made of: plates, lathes, soft blocks and sheets, all with uv."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robollm.sim.geometry import F64, apply
from robollm.sim.world import Body, Mesh, Pose, Surface, Vec3

Range = tuple[float, float]
Lift = Callable[[F64, F64], F64]
"""Height above the plane, m, of points given by their two coordinates in it, m."""


def vec(values: NDArray[np.floating]) -> Vec3:
    """Return three numbers as plain floats."""
    x, y, z = (float(v) for v in values)
    return (x, y, z)


def grid_mesh(points: F64, uv: F64, *, flip: bool = False) -> Mesh:
    """Return the surface through a grid of points.

    Args:
        points: [R, C, 3] m. Seen from outside, columns run to the right and rows up.
        uv: [R, C, 2] as in `Mesh`.
        flip: turn the triangles over.
    """
    rows, columns = points.shape[:2]
    k = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (q.ravel() for q in (k[:-1, :-1], k[:-1, 1:], k[1:, 1:], k[1:, :-1]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    if flip:
        faces = faces[:, ::-1]
    return Mesh(
        points.reshape(-1, 3).astype(np.float32),
        np.ascontiguousarray(faces, np.int32),
        uv.reshape(-1, 2).astype(np.float32),
    )


def join(*meshes: Mesh) -> Mesh:
    """Return several meshes as one; they share no vertices."""
    starts = np.cumsum([0, *(len(m.vertices) for m in meshes[:-1])])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + s for m, s in zip(meshes, starts, strict=True)]).astype(np.int32),
        np.concatenate([m.uv for m in meshes]),
    )


def moved(mesh: Mesh, pose: Pose) -> Mesh:
    """Return a mesh taken through a pose."""
    return Mesh(apply(pose, mesh.vertices).astype(np.float32), mesh.faces, mesh.uv)


def face_normals(mesh: Mesh) -> F64:
    """Return the outward normals [M, 3], as long as twice each triangle's area (m2)."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    return np.asarray(np.cross(b - a, c - a), np.float64)


def vertex_normals(mesh: Mesh) -> F64:
    """Return unit normals [N, 3]; vertices at the same place share theirs, so skins stay closed."""
    _, place = np.unique(np.round(mesh.vertices, 6), axis=0, return_inverse=True)
    place = place.reshape(-1)
    total = np.zeros((int(place.max()) + 1, 3))
    for k in range(3):
        np.add.at(total, place[mesh.faces[:, k]], face_normals(mesh))
    length = np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    return np.asarray((total / length)[place], np.float64)


def in_plane(axis: int) -> tuple[int, int, bool]:
    """Return the two other axes, ascending, and whether they turn right-handed about `axis`."""
    return (1, 2, True) if axis == 0 else (0, 2, False) if axis == 1 else (0, 1, True)


class Print:
    """Where each side of a whole body is on its texture.

    A side's print is flat or nearly so, so texture coordinates are an affine function of the
    place in the plane; it is fitted by least squares, which forgives rounded edges and dents.
    """

    def __init__(self, whole: Body) -> None:
        parts = [p for p in whole.parts if p.surface.texture is not None] or list(whole.parts)
        # The printed part is the one with the largest skin.
        self.part = max(
            parts, key=lambda p: float(np.linalg.norm(face_normals(p.mesh), axis=1).sum())
        )
        normals = face_normals(self.part.mesh)
        self._areas = np.linalg.norm(normals, axis=1)
        self._normals = normals / np.maximum(self._areas, 1e-12)[:, None]

    @property
    def surface(self) -> Surface:
        """How the printed skin looks."""
        return self.part.surface

    def side(self, axis: int, sign: int) -> NDArray[np.float64]:
        """Return A [3, 2] with uv = (p_i, p_j, 1) @ A for points of the side facing sign*axis."""
        mesh = self.part.mesh
        use = (self._normals[:, axis] * sign > 0.94) & (self._areas > 0)
        # Not the inside of a cover on the other side, which faces the same way.
        if use.any():
            out = mesh.vertices[mesh.faces].mean(1)[:, axis] * sign
            slack = max(0.0008, 0.02 * float(np.ptp(mesh.vertices[:, axis])))
            use &= out > out[use].max() - slack
        else:
            fallback = np.zeros((3, 2))
            fallback[2] = mesh.uv.mean(0)
            return fallback
        corners = np.unique(mesh.faces[use])
        i, j, _ = in_plane(axis)
        places = np.column_stack([mesh.vertices[corners][:, [i, j]], np.ones(len(corners))])
        fit, *_ = np.linalg.lstsq(places, mesh.uv[corners].astype(np.float64), rcond=None)
        return np.asarray(fit, np.float64)


def plate(
    axis: int,
    sign: int,
    at: float,
    first: Range,
    second: Range,
    thickness: float,
    uv: NDArray[np.float64],
    *,
    cells: tuple[int, int] = (1, 1),
    lift: Lift | None = None,
    ragged: tuple[int, int, NDArray[np.float64]] | None = None,
) -> tuple[Mesh, Mesh]:
    """Return a thin plate square to an axis: its printed outside, and its inside with the rims.

    Args:
        axis: 0 to 2, the plate's normal.
        sign: on which side of the plate outside is.
        at: coordinate of the outside along `axis`, m.
        first: extent along the lower of the two other axes, m.
        second: extent along the higher one, m.
        thickness: m, towards the inside.
        uv: as from `Print.side`.
        cells: how many cells the two extents have.
        lift: how far outside is off the plane, m.
        ragged: (which extent, which end 0 or 1, shifts of the edge's points, m, one per point).
    """
    i, j, right_handed = in_plane(axis)
    p, q = np.meshgrid(
        np.linspace(*first, cells[0] + 1), np.linspace(*second, cells[1] + 1), indexing="xy"
    )
    if ragged is not None:
        extent, end, shifts = ragged
        if extent == 0:
            p[:, -1 if end else 0] += shifts
        else:
            q[-1 if end else 0, :] += shifts
    outer = np.zeros((*p.shape, 3))
    outer[..., i], outer[..., j] = p, q
    outer[..., axis] = at + sign * (lift(p, q) if lift else 0.0)
    inner = outer.copy()
    inner[..., axis] -= sign * thickness
    flip = right_handed != (sign > 0)
    coordinates = np.stack([p, q, np.ones_like(p)], -1) @ uv
    blank = np.zeros((*p.shape, 2))
    backs = [grid_mesh(inner, blank, flip=not flip)]
    for edge_out, edge_in, turned in (
        (outer[0], inner[0], True),
        (outer[-1], inner[-1], False),
        (outer[:, 0], inner[:, 0], False),
        (outer[:, -1], inner[:, -1], True),
    ):
        strip = np.stack([edge_out, edge_in])
        backs.append(grid_mesh(strip, np.zeros((*strip.shape[:2], 2)), flip=turned != flip))
    return grid_mesh(outer, coordinates, flip=flip), join(*backs)


def lathe(profile: list[tuple[float, float]], around: int = 24) -> Mesh:
    """Return a body of revolution about x. `profile`: (x, radius) in m, x ascending."""
    angle = np.linspace(0, 2 * np.pi, around + 1)
    x = np.array([p[0] for p in profile])[:, None]
    r = np.array([p[1] for p in profile])[:, None]
    points = np.stack(
        np.broadcast_arrays(x, r * np.cos(angle)[None], r * np.sin(angle)[None]), axis=-1
    )
    length = np.linspace(0, 1, len(profile))[:, None]
    uv = np.stack(np.broadcast_arrays(angle[None] / (2 * np.pi), length), axis=-1)
    return grid_mesh(points, uv)


def soft_block(size: Vec3, roundness: float = 0.35, cells: int = 6) -> Mesh:
    """Return a box with rounded corners, all of its sides with the full texture.

    `roundness`: 0 is a sharp box; 1 is an ellipsoid.
    """
    half = np.asarray(size) / 2
    meshes = []
    t = np.linspace(-1, 1, cells + 1)
    t = np.sign(t) * np.abs(t) ** (1 - 0.5 * roundness)  # more points where it bends
    p, q = np.meshgrid(t, t, indexing="xy")
    uv = np.stack([(p + 1) / 2, (1 - q) / 2], -1)
    for axis in range(3):
        i, j, right_handed = in_plane(axis)
        for sign in (-1, 1):
            cube = np.zeros((*p.shape, 3))
            cube[..., i], cube[..., j], cube[..., axis] = p, q, sign
            power = 2 + 10 * (1 - roundness) ** 2
            norm = (np.abs(cube) ** power).sum(-1, keepdims=True) ** (1 / power)
            meshes.append(grid_mesh(cube / norm * half, uv, flip=right_handed != (sign > 0)))
    return join(*meshes)


def sheet(
    size: tuple[float, float], crumple: float, rng: np.random.Generator, cells: int = 8
) -> Mesh:
    """Return a sheet of paper in the xy plane with two sides, `crumple` m deep."""
    p, q = np.meshgrid(
        np.linspace(-0.5, 0.5, cells + 1), np.linspace(-0.5, 0.5, cells + 1), indexing="xy"
    )
    height = np.zeros_like(p)
    for _ in range(5):
        a, b, phase = rng.normal(0, 3.5), rng.normal(0, 3.5), rng.uniform(0, 6.3)
        height += np.abs(np.sin(a * p + b * q + phase)) - 0.5  # folds, not waves
    height -= (height.max() + height.min()) / 2
    height *= crumple / max(float(np.ptp(height)), 1e-9)
    points = np.stack([p * size[0], q * size[1], height], -1)
    back = points - (0, 0, 0.0004)
    uv = np.stack([p + 0.5, 0.5 - q], -1)
    return join(grid_mesh(points, uv), grid_mesh(back, uv, flip=True))


def refined(mesh: Mesh, edge_m: float, most: int = 2) -> Mesh:
    """Return a mesh with every triangle cut in four, until edges are shorter than `edge_m`."""
    for _ in range(most):
        corners = mesh.vertices[mesh.faces]
        longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(1)
        if float(np.median(longest)) <= edge_m:
            break
        pairs = np.sort(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        edges, where = np.unique(pairs, axis=0, return_inverse=True)
        middle = where.reshape(-1, 3) + len(mesh.vertices)
        (a, b, c), (ab, bc, ca) = mesh.faces.T, middle.T
        faces = [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
        mesh = Mesh(
            np.concatenate([mesh.vertices, mesh.vertices[edges].mean(1)]).astype(np.float32),
            np.concatenate([np.stack(f, 1) for f in faces]).astype(np.int32),
            np.concatenate([mesh.uv, mesh.uv[edges].mean(1)]).astype(np.float32),
        )
    return mesh


def keep_faces(mesh: Mesh, keep: NDArray[np.bool_]) -> Mesh:
    """Return a mesh with the chosen triangles [M], without vertices that nothing uses."""
    used, faces = np.unique(mesh.faces[keep], return_inverse=True)
    return Mesh(mesh.vertices[used], faces.reshape(-1, 3).astype(np.int32), mesh.uv[used])


def inside_of(mesh: Mesh, depth: float) -> Mesh:
    """Return the back of a skin: the same triangles turned over, `depth` m further in."""
    vertices = mesh.vertices - depth * vertex_normals(mesh)
    return Mesh(vertices.astype(np.float32), np.ascontiguousarray(mesh.faces[:, ::-1]), mesh.uv)
