"""The shape of a tote: one profile swept around a rounded rectangle, plus ribs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robollm.sim.geometry import F64
from robollm.sim.world import Mesh, Tote

FACETS = 3  # per corner, drawn and collided with alike
WALL = 0.003  # m, thickness
RIM = {0: 0.020, 1: 0.018, 2: 0.022, 3: 0.026}  # m, how far the rim reaches outwards
LIP = {0: 0.030, 1: 0.022, 2: 0.038, 3: 0.012}  # m, how far the rim hangs down
DRAFT = {0: 0.035, 1: 0.026, 2: 0.050, 3: 0.070}  # slope of the walls, m per m
CORNER = {0: 0.022, 1: 0.028, 2: 0.034, 3: 0.045}  # m, radius
RIB_STEP = {0: 0.070, 1: 0.048, 2: 0.105, 3: 0.140}  # m between the ribs of the outside
BAND = {0: (0.55,), 1: (0.30, 0.62), 2: (0.25, 0.5, 0.75), 3: ()}  # level ribs, of the depth
STEP = 0.0009  # m, the set-back of the inner wall under the rim: below the tolerance


def half_sides(tote: Tote, z: float) -> tuple[float, float]:
    """Return the inner half length and half width, m, at a height over the floor."""
    inset = DRAFT[tote.style] * (tote.inner_m[2] - z)
    return tote.inner_m[0] / 2 - inset, tote.inner_m[1] / 2 - inset


def planes(tote: Tote) -> list[tuple[F64, F64, float]]:
    """Return what bounds the inside: (outward normal [3], a point at z = 0 [3], half width m)."""
    hx, hy = half_sides(tote, 0.0)
    r, slope = CORNER[tote.style], DRAFT[tote.style]
    out = []
    half_step = np.pi / 4 / FACETS
    for quarter in range(4):
        a = quarter * np.pi / 2
        across, along = ((hx, hy), (hy, hx))[quarter % 2]
        top = along + slope * tote.inner_m[2]
        c, s = float(np.round(np.cos(a))), float(np.round(np.sin(a)))
        out.append(_plane(a, slope, np.array([c * across, s * across, 0.0]), top))
        sx, sy = np.sign(np.cos(a + np.pi / 4)), np.sign(np.sin(a + np.pi / 4))
        centre = np.array([sx * (hx - r), sy * (hy - r), 0.0])
        for k in range(FACETS):
            b = a + (2 * k + 1) * half_step
            # The corner's axis leans outwards along both walls.
            lean = slope * (abs(np.cos(b)) + abs(np.sin(b)))
            way = np.array([np.cos(b), np.sin(b), 0.0])
            out.append(_plane(b, lean, centre + way * r * np.cos(half_step), r / 2 + 0.012))
    return out


def _plane(angle: float, slope: float, point: F64, half_width: float) -> tuple[F64, F64, float]:
    """Return a plane that faces `angle` and leans outwards with height."""
    normal = np.array([np.cos(angle), np.sin(angle), -slope])
    return normal / np.linalg.norm(normal), point, half_width


@dataclass(frozen=True, slots=True)
class _Station:
    """A place on the way around: on a wall (`along` fixed, m) or on a corner (`along` None)."""

    quarter: int  # which wall or corner; wall 0 faces +x
    angle: float  # of the outward direction
    along: float | None
    hole: bool = False  # the cell from here to the next station is a handle's


def _stations(tote: Tote) -> list[_Station]:
    """Return the stations of one round, from the middle of the +x wall, the first one repeated."""
    hx, hy = half_sides(tote, 0.0)
    r = CORNER[tote.style]
    walls: list[list[_Station]] = []
    for quarter in range(4):
        half = ((hy, hx)[quarter % 2]) - r
        grip = handle(tote)[0] if quarter % 2 == 0 else 0.0
        marks = [-grip, -grip + 0.010, grip - 0.010, grip] if grip else [-0.02, 0.02]
        edge = half - 0.004
        fill = np.linspace(marks[-1], edge, 4)[1:]
        xs = sorted([*marks, *fill.tolist(), *(-fill).tolist(), 0.0])
        wall = [
            _Station(quarter, quarter * np.pi / 2, x, bool(grip) and -grip <= x < grip - 1e-9)
            for x in xs
        ]
        walls.append(wall)
    out: list[_Station] = []
    for quarter in range(4):
        out += walls[quarter]
        out += [
            _Station(quarter, (quarter + k / FACETS) * np.pi / 2, None) for k in range(FACETS + 1)
        ]
    start = next(i for i, s in enumerate(out) if s.along == 0.0)
    out = out[start:] + out[:start]
    return [*out, out[0]]


def handle(tote: Tote) -> tuple[float, float, float]:
    """Return a handle hole's (half width, lower z, upper z), m; half width 0: there is none."""
    if tote.style == 3:
        return 0.0, 0.0, 0.0
    depth = tote.inner_m[2]
    top = depth - LIP[tote.style] - 0.008
    return min(0.058, tote.inner_m[1] * 0.17), top - 0.13 * depth, top


def _at(tote: Tote, station: _Station, off: float, z: float) -> tuple[float, float, float]:
    """Return the point `off` m outside the inner surface at a height."""
    hx, hy = half_sides(tote, z)
    r = CORNER[tote.style]
    c, s = np.cos(station.angle), np.sin(station.angle)
    if station.along is not None:
        across = (hx, hy)[station.quarter % 2] + off
        return (c * across - s * station.along, s * across + c * station.along, z)
    turn = (station.quarter + 0.5) * np.pi / 2
    cx, cy = np.sign(np.cos(turn)) * (hx - r), np.sign(np.sin(turn)) * (hy - r)
    return (float(cx + c * (r + off)), float(cy + s * (r + off)), z)


class _Builder:
    """Collects quads of one mesh."""

    def __init__(self) -> None:
        self.vertices: list[F64] = []
        self.uv: list[F64] = []
        self.faces: list[NDArray[np.int64]] = []
        self.count = 0

    def add(self, vertices: F64, uv: F64, faces: NDArray[np.int64]) -> None:
        """Add a piece: vertices [N, 3], uv [N, 2], faces [M, 3]."""
        self.vertices.append(vertices)
        self.uv.append(uv)
        self.faces.append(faces + self.count)
        self.count += len(vertices)

    def mesh(self) -> Mesh:
        """Return everything as one mesh."""
        return Mesh(
            np.concatenate(self.vertices).astype(np.float32),
            np.concatenate(self.faces).astype(np.int32),
            np.clip(np.concatenate(self.uv), 0, 1).astype(np.float32),
        )


def _sweep(
    build: _Builder,
    tote: Tote,
    rows: list[tuple[float, float, float]],
    *,
    holes: bool = False,
) -> None:
    """Sweep rows of (off, z, texture v) around; upwards: facing inwards."""
    stations = _stations(tote)
    points = np.array([[_at(tote, s, off, z) for s in stations] for off, z, _ in rows])
    ring = np.array([_at(tote, s, 0.0, tote.inner_m[2]) for s in stations])
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(ring, axis=0), axis=1))])
    u = np.broadcast_to(way / way[-1], points.shape[:2])
    v = np.broadcast_to(np.array([r[2] for r in rows])[:, None], points.shape[:2])
    n = len(stations)
    grip, low, high = handle(tote)
    faces: list[tuple[int, int, int]] = []
    for i in range(len(rows) - 1):
        bottom, top = sorted((rows[i][1], rows[i + 1][1]))
        for j in range(n - 1):
            a, b, c, d = i * n + j, i * n + j + 1, (i + 1) * n + j + 1, (i + 1) * n + j
            if holes and stations[j].hole and bottom > low - 1e-6 and top < high + 1e-6:
                x = float(stations[j].along or 0.0)
                corner = x < -grip + 1e-6, x > grip - 0.0101
                if not any(corner) or (bottom > low + 1e-6 and top < high - 1e-6):
                    continue
                # A triangle stays in each of the hole's corners: it looks rounded. What goes is
                # the cell's vertex next to the hole's middle.
                edge = low if bottom < low + 1e-6 else high
                quad = (a, b, c, d)
                if abs(rows[i][1] - edge) < 1e-6:
                    k = 2 if corner[0] else 3
                else:
                    k = 1 if corner[0] else 0
                faces.append((quad[(k + 3) % 4], quad[(k + 2) % 4], quad[(k + 1) % 4]))
                continue
            faces += [(a, c, b), (a, d, c)]
    build.add(
        points.reshape(-1, 3),
        np.stack([u, v], axis=-1).reshape(-1, 2),
        np.array(faces, np.int64),
    )


def _handle_rows(tote: Tote) -> list[float]:
    """Return the heights at which a wall is cut for the handles, ascending."""
    grip, low, high = handle(tote)
    return [low, low + 0.008, high - 0.008, high] if grip else []


def _inside(tote: Tote) -> Mesh:
    """Return the inner walls up to the rim; texture: u around, v down from the rim."""
    depth = tote.inner_m[2]
    build = _Builder()
    step = depth - 0.016
    heights = sorted({0.0, 0.004, depth * 0.3, depth * 0.55, *_handle_rows(tote), step})
    _sweep(build, tote, [(0.0, z, 1 - z / depth) for z in heights], holes=True)
    _sweep(build, tote, [(0.0, step, 1 - step / depth), (STEP, step, 1 - step / depth)])
    edge = [(STEP, step), (STEP, depth - 0.005), (0.0018, depth - 0.0012), (0.0045, depth)]
    _sweep(build, tote, [(off, z, 1 - z / depth) for off, z in edge])
    _tunnels(build, tote)
    return build.mesh()


def _tunnels(build: _Builder, tote: Tote) -> None:
    """Add the rims of the handle holes, from the inner surface to the outer one."""
    grip, low, high = handle(tote)
    if not grip:
        return
    x, z = 0.010, 0.008
    outline = [
        (-grip + x, low), (grip - x, low), (grip, low + z), (grip, high - z),
        (grip - x, high), (-grip + x, high), (-grip, high - z), (-grip, low + z),
    ]  # fmt: skip
    for quarter in (0, 2):
        for (ya, za), (yb, zb) in zip(outline, outline[1:] + outline[:1], strict=True):
            s = [_Station(quarter, quarter * np.pi / 2, y) for y in (ya, yb)]
            quad = [
                _at(tote, s[0], 0.0, za), _at(tote, s[1], 0.0, zb),
                _at(tote, s[1], WALL + 0.006, zb), _at(tote, s[0], WALL + 0.006, za),
            ]  # fmt: skip
            uv = np.full((4, 2), 0.02)
            build.add(np.array(quad), uv, np.array([[0, 2, 1], [0, 3, 2]]))


def _outside(tote: Tote) -> Mesh:
    """Return rim, outer walls, ribs and underside.

    Texture: the outer wall in its upper 3/4 (v down from the rim), the rim in its lowest fifth.
    """
    depth, style = tote.inner_m[2], tote.style
    rim, lip = RIM[style], LIP[style]
    under = depth - lip
    build = _Builder()
    top = [
        (0.0045, depth, 0.80), (rim - 0.0045, depth, 0.90), (rim - 0.0014, depth - 0.0012, 0.92),
        (rim, depth - 0.0045, 0.93),
    ]  # fmt: skip
    _sweep(build, tote, top)
    _sweep(build, tote, [(rim, depth - 0.0045, 0.93), (rim, under, 0.99)])
    _sweep(build, tote, [(rim, under, 0.99), (rim - 0.0025, under, 1.0)])
    _sweep(build, tote, [(rim - 0.0025, under, 0.99), (rim - 0.0025, depth - 0.006, 0.95)])

    def v(z: float) -> float:
        return 0.75 * (1 - z / depth)

    heights = sorted({-0.006, depth * 0.3, depth * 0.55, *_handle_rows(tote), depth - 0.006})
    _sweep(build, tote, [(WALL, z, v(z)) for z in reversed(heights)], holes=True)
    low = handle(tote)[1] or depth
    for share in BAND[style]:
        z = share * depth
        if z > min(low, under) - 0.006:
            continue
        out = WALL + 0.011
        _sweep(build, tote, [(WALL, z + 0.0015, v(z)), (out, z + 0.0015, v(z))])
        _sweep(build, tote, [(out, z + 0.0015, v(z)), (out, z - 0.0015, v(z))])
        _sweep(build, tote, [(out, z - 0.0015, v(z)), (WALL, z - 0.0015, v(z))])
    _ribs(build, tote, under)
    base = np.array([_at(tote, s, WALL, -0.006) for s in _stations(tote)])
    n = len(base)
    fan = np.array([[n, j + 1, j] for j in range(n - 1)])
    build.add(np.concatenate([base, [[0.0, 0.0, -0.006]]]), np.full((n + 1, 2), (0.5, 0.74)), fan)
    return build.mesh()


def _ribs(build: _Builder, tote: Tote, under: float) -> None:
    """Add the upright ribs of the outside, from the bottom to the rim's underside."""
    hx, hy = half_sides(tote, 0.0)
    grip = handle(tote)[0]
    depth = tote.inner_m[2]
    deep, thick = 0.012, 0.0014
    for quarter in range(4):
        half = ((hy, hx)[quarter % 2]) - CORNER[tote.style]
        count = max(2, round(2 * half / RIB_STEP[tote.style]) + 1)
        for x in np.linspace(-half, half, count):
            if quarter % 2 == 0 and abs(x) < grip + 0.004:
                continue  # the handle, and the place of the label below it
            z1 = under + 0.002
            angle = quarter * np.pi / 2
            near, far = (_Station(quarter, angle, float(x) + d) for d in (-thick, thick))
            p = np.array(
                [
                    [_at(tote, s, off, z) for z in (-0.004, z1)]
                    for s, off in ((near, WALL), (near, deep), (far, deep), (far, WALL))
                ]
            )
            for side in range(3):
                quad = np.array([p[side, 0], p[side + 1, 0], p[side + 1, 1], p[side, 1]])
                v = 0.75 * (1 - quad[:, 2] / depth)
                uv = np.stack([np.full(4, (quarter / 4 + 0.13 + x / 3) % 1), v], axis=1)
                build.add(quad, uv, np.array([[0, 1, 2], [0, 2, 3]]))
            quad = np.array([p[0, 1], p[1, 1], p[2, 1], p[3, 1]])
            build.add(quad, np.full((4, 2), (0.5, 0.4)), np.array([[0, 1, 2], [0, 2, 3]]))


def _floor(tote: Tote) -> Mesh:
    """Return the inner floor, a fan; texture: the floor's bounding box, +y up."""
    hx, hy = half_sides(tote, 0.0)
    ring = np.array([_at(tote, s, 0.0, 0.0) for s in _stations(tote)])
    points = np.concatenate([ring, [[0.0, 0.0, 0.0]]])
    n = len(ring)
    faces = np.array([[n, j, j + 1] for j in range(n - 1)])
    uv = np.stack([points[:, 0] / (2 * hx) + 0.5, 0.5 - points[:, 1] / (2 * hy)], axis=1)
    build = _Builder()
    build.add(points, uv, faces)
    return build.mesh()


def meshes(tote: Tote) -> tuple[Mesh, Mesh, Mesh]:
    """Return the meshes of floor, inner walls and outside, in the world frame."""
    return _floor(tote), _inside(tote), _outside(tote)
