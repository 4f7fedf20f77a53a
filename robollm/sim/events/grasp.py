"""Which item a robot would take next, and where its suction cups would sit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.sim.geometry import F64, posed_parts, quaternion
from robollm.sim.world import Body, Form, Item, Pose, Product, Scene, Vec3

BodyOf = Callable[[Product, Form], Body]

CELL_M = 0.006
CUP_RADII_M = (0.020, 0.013, 0.008)  # the largest that fits is used
FLAT_M = 0.004  # standard deviation of the height under a cup that still seals
STEEPEST = 0.8  # least vertical part of the surface's normal
SEEN_MIN = 0.35  # less visible items are not chosen
TIE_M = 0.012  # tops this close are equally high for a robot


@dataclass(frozen=True, slots=True)
class Grasp:
    """Where the gripper takes hold.

    `point`: m, on the surface; `normal`: unit, out of the surface; both in the world.
    `cups`: 1 or 2 side by side.
    """

    instance: int
    point: Vec3
    normal: Vec3
    cups: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class HeightMap:
    """What is seen from straight above.

    `top` float64 [R, C] m, -inf where nothing is; `owner` int64 [R, C]: instance or 0; `corner`:
    (x, y) of the first cell's centre, m. Cell [r, c] is at corner + CELL_M * (c, r).
    """

    top: F64
    owner: NDArray[np.int64]
    corner: tuple[float, float]


def surface_points(item: Item, body: Body, spacing: float = CELL_M) -> F64:
    """Return points [N, 3] m on an item's posed meshes, no further apart than `spacing`."""
    out = []
    for part, posed in zip(body.parts, posed_parts(item, body), strict=True):
        a, b, c = (posed[part.mesh.faces[:, k]].astype(np.float64) for k in range(3))
        sides = np.stack([b - a, c - b, a - c])
        longest = np.linalg.norm(sides, axis=2).max(0)
        steps = np.maximum(np.ceil(longest / spacing), 1).astype(int)
        for n in np.unique(steps):
            u, v = np.meshgrid(np.arange(n + 1) / n, np.arange(n + 1) / n)
            keep = u + v <= 1 + 1e-9
            w = np.stack([1 - u[keep] - v[keep], u[keep], v[keep]])
            use = steps == n
            corners = np.stack([a[use], b[use], c[use]])
            out.append(np.einsum("kp,kmd->mpd", w, corners).reshape(-1, 3))
    return np.concatenate(out)


def height_map(scene: Scene, body_of: BodyOf) -> HeightMap:
    """Return what is seen from above of a scene's items (not of its tote)."""
    clouds = [surface_points(i, body_of(i.product, i.form)) for i in scene.items]
    points = np.concatenate(clouds)
    owners = np.repeat([i.instance for i in scene.items], [len(c) for c in clouds])
    low = points[:, :2].min(0)
    cells = np.round((points[:, :2] - low) / CELL_M).astype(int)
    columns, rows = (int(v) + 1 for v in cells.max(0))
    flat = cells[:, 1] * columns + cells[:, 0]
    order = np.lexsort((owners, points[:, 2]))  # the highest is written last, and stays
    top, owner = np.full(rows * columns, -np.inf), np.zeros(rows * columns, np.int64)
    top[flat[order]] = points[order, 2]
    owner[flat[order]] = owners[order]
    corner = (float(low[0]), float(low[1]))
    return HeightMap(top.reshape(rows, columns), owner.reshape(rows, columns), corner)


def _spot(
    chart: HeightMap, instance: int, centre: F64, radius: float
) -> tuple[float, Vec3, Vec3] | None:
    """Return (distance from `centre`, point, normal) of the best spot for one cup, if any."""
    rows, columns = np.nonzero(chart.owner == instance)
    if not len(rows):
        return None
    at = np.column_stack([columns, rows]) * CELL_M + chart.corner
    reach = round(radius / CELL_M)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = dx**2 + dy**2 <= reach**2 + 0.5
    dy, dx = dy[disc], dx[disc]
    plane = np.column_stack([dx * CELL_M, dy * CELL_M, np.ones(len(dx))])
    solve = np.linalg.pinv(plane)
    owner = np.pad(chart.owner, reach)
    top = np.pad(chart.top, reach)
    away = np.linalg.norm(at - centre[:2], axis=1)
    for k in np.argsort(away, kind="stable"):
        r, c = rows[k] + reach + dy, columns[k] + reach + dx
        if (owner[r, c] != instance).any():
            continue
        heights = top[r, c]
        slope_x, slope_y, level = solve @ heights
        normal = np.array([-slope_x, -slope_y, 1.0])
        normal /= np.linalg.norm(normal)
        rough = float(np.std(heights - plane @ (slope_x, slope_y, level)))
        if rough <= FLAT_M and normal[2] >= STEEPEST:
            point = (float(at[k, 0]), float(at[k, 1]), float(level))
            return float(away[k]), point, (float(normal[0]), float(normal[1]), float(normal[2]))
    return None


def find_grasp(
    scene: Scene, body_of: BodyOf, instance: int, chart: HeightMap | None = None
) -> Grasp | None:
    """Return where one item can be taken from above, or None.

    Args:
        scene: what there is.
        body_of: the body of a product in a form.
        instance: which item.
        chart: `height_map(scene, body_of)`, if there is one already.
    """
    chart = chart or height_map(scene, body_of)
    item = next(i for i in scene.items if i.instance == instance)
    centre = np.mean(_centres(item, body_of), axis=0)
    for radius in CUP_RADII_M:
        spot = _spot(chart, instance, centre, radius)
        if spot is None:
            continue
        _, point, normal = spot
        second = radius == CUP_RADII_M[0] and float(max(item.product.size_m[:2])) > 0.13
        return Grasp(instance, point, normal, 2 if second else 1)
    return None


def _centres(item: Item, body_of: BodyOf) -> list[F64]:
    body = body_of(item.product, item.form)
    return [np.asarray(v.mean(0), np.float64) for v in posed_parts(item, body)]


def choose_target(
    scene: Scene,
    body_of: BodyOf,
    visible: Mapping[int, float] | None = None,
    rng: np.random.Generator | None = None,
) -> Grasp:
    """Choose the top-most item that a suction cup can reach from above and that can be seen.

    Args:
        scene: a filled tote.
        body_of: the body of a product in a form.
        visible: share of each instance that a camera sees, 0 to 1; None: all of
            it, and only what is on top in the height map can be grasped.
        rng: decides between items that are equally high (within 12 mm); None: the highest.

    Raises:
        ConfigError: if there is no item, or none can be grasped.
    """
    if not scene.items:
        raise ConfigError("the tote is empty, wants an item to pick", fix="fill it first")
    chart = height_map(scene, body_of)
    found: list[tuple[float, Grasp]] = []
    for item in scene.items:
        seen = visible.get(item.instance, 0.0) if visible is not None else 1.0
        if seen < SEEN_MIN:
            continue
        grasp = find_grasp(scene, body_of, item.instance, chart)
        if grasp is not None:
            found.append((grasp.point[2], grasp))
    if not found:
        raise ConfigError(
            f"none of {len(scene.items)} items can be grasped from above",
            fix="another seed, or fewer items",
        )
    found.sort(key=lambda f: (-f[0], f[1].instance))
    ties = [g for z, g in found if z > found[0][0] - TIE_M]
    return ties[int(rng.integers(len(ties)))] if rng is not None else ties[0]


def gripper_pose(grasp: Grasp, along: Vec3 = (1.0, 0.0, 0.0)) -> Pose:
    """Return the frame of the cups' lips at a grasp: z against the normal, x near `along`."""
    z = -np.asarray(grasp.normal, np.float64)
    x: F64 = np.asarray(along, np.float64)
    x = np.asarray(x - z * (x @ z), np.float64)
    if np.linalg.norm(x) < 1e-6:
        x = np.asarray(np.cross(z, (0.0, 1.0, 0.0)), np.float64)
    x = np.asarray(x / np.linalg.norm(x), np.float64)
    return Pose(grasp.point, quaternion(np.stack([x, np.cross(z, x), z], axis=1)))
