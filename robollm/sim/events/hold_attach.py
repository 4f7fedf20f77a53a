"""How a second product comes to hang on the first: in contact, never overlapping."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from robollm.core.errors import ConfigError
from robollm.sim.geometry import F64, apply, compose, inverse, matrix, turn
from robollm.sim.mj import mujoco
from robollm.sim.physics.engine import BodyOf, UnstableError, World
from robollm.sim.world import Body, Item, Pose, Vec3

MANNERS = ("side", "beneath", "corner", "hidden", "stacked", "as_found")
REST_GAP_M = 0.0003  # what is left between two things that touch
APART_M = 0.5
PIN_S = 0.008  # time constant of a stiff point; what hangs on it is late by twice that


@dataclass(frozen=True, slots=True)
class Tie:
    """A second product in contact: where it is, and how it sticks.

    `point`: where, m, in the world; `segments`: of the first and of the second product.
    """

    item: Item
    point: Vec3
    segments: tuple[int, int]
    manner: str


def _extent(item: Item, make: BodyOf, axis: F64) -> tuple[float, float]:
    """Return the lowest and highest coordinate along a unit axis of an item's meshes, m."""
    body = make(item.product, item.form)
    values = np.concatenate(
        [apply(item.poses[p.segment or 0], p.mesh.vertices) @ axis for p in body.parts]
    )
    return float(values.min()), float(values.max())


def _moved(item: Item, by: F64) -> Item:
    shift = Pose((float(by[0]), float(by[1]), float(by[2])))
    return replace(item, poses=tuple(compose(shift, p) for p in item.poses))


def _stretched(item: Item, root: Pose) -> Item:
    """Return an item with all its segments unbent, its root at a pose."""
    return replace(item, poses=(root,) * len(item.poses))


def approach(
    first: Item,
    second: Item,
    gripper: Pose,
    make: BodyOf,
    rng: np.random.Generator,
    manner: str | None,
) -> Tie:
    """Bring a second product into contact with a held one.

    Args:
        first: the held item, in the world.
        second: the other one; only for "as_found" its poses matter.
        gripper: frame of the cups, z down.
        make: what makes an item's body.
        rng: draws the manner, where None is given, and the details.
        manner: one of `MANNERS` or None.

    Raises:
        ConfigError: the manner is not known.
        UnstableError: the two don't meet.
    """
    if manner is None:
        manner = str(rng.choice(MANNERS[:-1], p=[0.3, 0.2, 0.2, 0.12, 0.18]))
    if manner not in MANNERS:
        raise ConfigError(f"manner is {manner!r}", fix=f"one of {', '.join(MANNERS)}")
    world = World([first, second], body_of=make)
    if manner == "as_found":
        way = np.subtract(second.poses[0].position, first.poses[0].position)
        way = way / max(float(np.linalg.norm(way)), 1e-9)
        placed = second
    else:
        placed, way = _laid_out(first, second, gripper, make, rng, manner)
    return _contact(world, placed, way, manner)


def _laid_out(
    first: Item,
    second: Item,
    gripper: Pose,
    make: BodyOf,
    rng: np.random.Generator,
    manner: str,
) -> tuple[Item, F64]:
    """Return the second product beside the first, and the direction away from the first."""
    yaw = float(rng.uniform(-np.pi, np.pi))
    axes = matrix(first.poses[0].quaternion)
    upright = first.poses[0].quaternion if manner in ("side", "stacked", "hidden") else None
    spin = Pose((0, 0, 0), turn((0, 0, 1), yaw if manner != "stacked" else yaw * 0.1))
    if upright is None:
        spin = Pose((0, 0, 0), compose(spin, Pose()).quaternion)
    else:
        twist = Pose((0, 0, 0), turn((0, 0, 1), float(rng.normal(0, 0.15))))
        spin = compose(twist, Pose((0, 0, 0), upright))
    if manner == "corner":  # its long side hangs down
        hang = turn((0, 1, 0), float(np.pi / 2 + rng.normal(0, 0.25)))
        spin = compose(Pose((0, 0, 0), turn((0, 0, 1), yaw)), Pose((0, 0, 0), hang))
    centre = np.asarray(first.poses[0].position)
    item = _stretched(second, Pose((0.0, 0.0, 0.0), spin.quaternion))
    z = np.array([0.0, 0.0, 1.0])
    low, high = _extent(first, make, z)
    _, own_high = _extent(item, make, z)
    if manner == "side":  # under the same cups: the tops are level
        flat = [axes[:, k] for k in range(3) if abs(axes[2, k]) < 0.7]
        way = flat[int(rng.integers(len(flat)))] * rng.choice([-1.0, 1.0])
        way = np.array([way[0], way[1], 0.0])
        way /= np.linalg.norm(way)
        across = np.array([-way[1], way[0], 0.0]) * float(rng.normal(0, 0.015))
        drop = float(rng.uniform(0, 0.012))
        offset = centre + across
        offset[2] = min(high, gripper.position[2]) - own_high - drop
        return _moved(item, offset + way * APART_M), way
    if manner == "corner":
        turned = float(rng.uniform(-np.pi, np.pi))
        way = np.array([np.cos(turned), np.sin(turned), 0.0])
        offset = centre.copy()
        overlap = float(rng.uniform(0.3, 0.9)) * (high - low)
        offset[2] = low + overlap - own_high
        return _moved(item, offset + way * APART_M), way
    # Below: hidden and stacked straight under it, else shifted.
    shift = 0.0 if manner in ("hidden", "stacked") else float(rng.uniform(0.15, 0.4))
    turned = float(rng.uniform(-np.pi, np.pi))
    size = float(max(first.product.size_m[:2]))
    slide = shift * size * np.array([np.cos(turned), np.sin(turned), 0.0])
    return _moved(item, centre + slide - z * APART_M), -z


def _contact(world: World, placed: Item, way: F64, manner: str) -> Tie:
    """Slide `placed` along `way` until it is REST_GAP_M from item 0 of the world."""

    def distance(by: float) -> float:
        world.place(1, _moved(placed, way * by).poses)
        return world.distance_m(0, 1)

    step = 0.0
    if distance(0.0) < REST_GAP_M:  # overlapping or pressed: back out
        while distance(step) < REST_GAP_M and step < APART_M:
            step += 0.005
        near, far = step - 0.005, step
    else:
        while step > -2 * APART_M:
            gap = distance(step)
            if gap <= REST_GAP_M:
                break
            step -= max(0.8 * gap if gap < 0.49 else 0.02, 0.001)
        else:
            raise UnstableError("the second product passes the first", fix="another seed")
        near, far = step, step + 0.03
    for _ in range(14):
        middle = (near + far) / 2
        if distance(middle) < REST_GAP_M:
            near = middle
        else:
            far = middle
    item = _moved(placed, way * far)
    world.place(1, item.poses)
    point, segments = _meeting(world)
    return Tie(item, point, segments, manner)


def _meeting(world: World) -> tuple[Vec3, tuple[int, int]]:
    """Return the middle between the closest points of items 0 and 1, m, and their segments."""
    mujoco.mj_kinematics(world.model, world.data)
    best, ends, out, pair = np.inf, np.zeros(6), np.zeros(6), (0, 0)
    for a in world.geom_ids(0):
        for b in world.geom_ids(1):
            d = mujoco.mj_geomDistance(world.model, world.data, a, b, APART_M, ends)
            if d < best:
                best, out, pair = d, ends.copy(), (a, b)
    x, y, z = (float(v) for v in (out[:3] + out[3:]) / 2)
    bodies = [int(world.model.geom_bodyid[g]) for g in pair]
    first, second = (world.body_ids(k).index(b) for k, b in enumerate(bodies))
    return (x, y, z), (first, second)


def nearest_segment(body: Body, poses: tuple[Pose, ...], point: Vec3) -> int:
    """Return the segment whose solids are nearest to a point in the world, m."""
    best, found = np.inf, 0
    for solid in body.solids:
        at = compose(poses[solid.segment], solid.pose)
        local = np.abs(apply(inverse(at), np.asarray([point]))[0])
        a, b, c = solid.size
        half = (a, a, b) if solid.shape in ("cylinder", "capsule") else (a, b, c)
        away = float(np.linalg.norm(np.maximum(local - half, 0)))
        if away < best - 1e-6:
            best, found = away, solid.segment
    return found


def weld(
    spec: Any, name: str, first: str, second: str, relative: Pose, soft: tuple[float, float]
) -> None:
    """Hold two bodies in a relative pose, as softly as MuJoCo's solref says."""
    tie = spec.add_equality(
        name=name,
        type=mujoco.mjtEq.mjEQ_WELD,
        objtype=mujoco.mjtObj.mjOBJ_BODY,
        name1=first,
        name2=second,
        solref=list(soft),
        solimp=[0.7, 0.7, 0.001, 0.5, 2.0],
    )
    _fill(tie, [0, 0, 0, *relative.position, *relative.quaternion, 1.0])


def pin(spec: Any, name: str, first: str, second: str, point: Vec3) -> None:
    """Hold `point` (m, in `first`'s frame) of two bodies together, stiffly."""
    tie = spec.add_equality(
        name=name,
        type=mujoco.mjtEq.mjEQ_CONNECT,
        objtype=mujoco.mjtObj.mjOBJ_BODY,
        name1=first,
        name2=second,
        solref=[PIN_S, 1.0],
        solimp=[0.995, 0.999, 0.001, 0.5, 2.0],
    )
    _fill(tie, [*point])


def _fill(equality: Any, values: list[float]) -> None:
    """Set an equality's data; how long it is depends on MuJoCo's version."""
    data = np.zeros(len(equality.data))
    data[: len(values)] = values
    equality.data = data
