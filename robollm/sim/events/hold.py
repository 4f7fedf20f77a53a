"""What happens between grasp and place: an item swings under suction cups, in MuJoCo.

Frame: the world of the tote. The cups' lips come to `HOLD_M`, 0.6 m above the tote's floor,
looking down, often at a slant, while the wrist turns and sways.
An item hangs on its cups by a stiff point and a soft turning spring, so it sags and swings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from robollm.core.errors import ConfigError
from robollm.sim.events.grasp import Grasp, gripper_pose
from robollm.sim.events.hold_attach import PIN_S, Tie, approach, nearest_segment, pin, weld
from robollm.sim.geometry import F64, apply, compose, inverse, matrix, turn
from robollm.sim.mj import mujoco
from robollm.sim.physics.engine import TIMESTEP, BodyOf, UnstableError, World
from robollm.sim.products import damage
from robollm.sim.world import Form, Gripper, Item, Pose, Scene, Vec3

HOLD_M: Vec3 = (0.0, 0.0, 0.6)
TOUCHING_M = 0.001
SLIP_M = 0.02  # cups that are farther from where they took hold have lost it
OPEN_MIN_M = 0.003  # a package that gapes less counts as closed


@dataclass(frozen=True, slots=True)
class HeldFrame:
    """One moment: `t_ns` since the grasp, and what there is."""

    t_ns: int
    scene: Scene
    distance_m: float | None = None  # of target and second product, None without one
    angles_rad: tuple[float, ...] = ()  # of the flaps
    gap_m: float = 0.0  # how far the package gapes
    outside: int = 0  # pieces of content that have left the package


@dataclass(frozen=True, slots=True)
class Held:
    """A hold: `frames` in time order; `manner`: how a second product hangs on, or None."""

    frames: tuple[HeldFrame, ...]
    manner: str | None = None
    released_ns: tuple[int, ...] = ()  # when each piece of content was let go


@dataclass(frozen=True, slots=True)
class _Path:
    """How the wrist moves: position, yaw and tilt over time, all smooth."""

    start: F64
    seconds: float
    sway_m: F64
    sway_hz: F64
    phase: F64
    yaw: tuple[float, float]
    tilt: Pose

    def at(self, t: float) -> Pose:
        """Return the gripper's pose at a time, s."""
        s = min(max(t / self.seconds, 0.0), 1.0)
        s = s**3 * (10 - 15 * s + 6 * s * s)  # least jerk
        wave = self.sway_m * np.sin(2 * np.pi * self.sway_hz * t + self.phase)
        calm = min(1.0, t / 0.3)
        p = self.start + s * (np.asarray(HOLD_M) - self.start) + wave * calm
        yaw = self.yaw[0] + s * (self.yaw[1] - self.yaw[0])
        down = Pose((0, 0, 0), turn((1, 0, 0), np.pi))
        spun = compose(Pose((0, 0, 0), turn((0, 0, 1), yaw)), compose(self.tilt, down))
        return Pose((float(p[0]), float(p[1]), float(p[2])), spun.quaternion)


def _path(rng: np.random.Generator, tilt: Pose) -> _Path:
    side = rng.uniform(0, 2 * np.pi)
    start = np.add(HOLD_M, (0.3 * np.cos(side), 0.3 * np.sin(side), -0.1))
    sway = rng.uniform(0.004, 0.03, 3) * (1, 1, 0.4)
    yaw = rng.uniform(-np.pi, np.pi)
    return _Path(
        start,
        float(rng.uniform(0.7, 1.1)),
        sway,
        rng.uniform(0.7, 2.0, 3),
        rng.uniform(0, 2 * np.pi, 3),
        (float(yaw), float(yaw + rng.uniform(-1.2, 1.2))),
        tilt,
    )


def _spring(rng: np.random.Generator) -> tuple[float, float]:
    """Return MuJoCo's (-stiffness, -damping) of a soft turn: 2 to 4.5 Hz, lightly damped."""
    pulse = 2 * np.pi * float(rng.uniform(2.0, 4.5))
    return (-(pulse**2), -2 * float(rng.uniform(0.08, 0.25)) * pulse)


def carried(target: Item, grasp: Grasp, at: Pose) -> Item:
    """Return the item moved with its gripper from the grasp to a gripper pose."""
    relative = inverse(gripper_pose(grasp))
    return replace(
        target, poses=tuple(compose(at, compose(relative, pose)) for pose in target.poses)
    )


def _tilt(direction: F64, rng: np.random.Generator) -> Pose:
    """Return a turn that points `direction` (unit, world) well below the horizon."""
    want = -float(rng.uniform(0.45, 0.8))
    if direction[2] <= want:
        return Pose()
    flat = np.array([direction[0], direction[1], 0.0])
    if np.linalg.norm(flat) < 1e-3:
        flat = np.array([1.0, 0.0, 0.0])
    axis = np.cross(flat, (0.0, 0.0, 1.0))
    angle = float(np.arcsin(np.clip(direction[2], -1, 1)) - np.arcsin(want))
    x, y, z = (float(v) for v in axis)
    return Pose((0, 0, 0), turn((x, y, z), -angle))


def hold(
    target: Item,
    grasp: Grasp,
    seed: int,
    *,
    second: Item | None = None,
    manner: str | None = None,
    falling: bool = False,
    mouth_seed: int | None = None,
    frames: int = 12,
    fps: float = 6.0,
    body_of: BodyOf | None = None,
) -> Held:
    """Simulate a hold.

    Args:
        target: what the cups are on, where it was grasped; its form may be "open".
        grasp: where the cups are on it.
        seed: of the motion, the springs, and how a second product hangs on.
        second: a product that comes along. With `manner` "as_found" where it lies relative to
            the target, else it is brought into contact; it never starts apart or overlapping.
        manner: one of `hold_attach.MANNERS`; None: drawn.
        falling: let the loose content of an open target go, piece by piece.
        mouth_seed: of the opening that the arm lets hang down, if the product is whole; an open
            one has its own. So the arm leans alike whatever happens. None: one of its ends.
        frames: how many moments, 10 to 15.
        fps: of the moments, 1/s.
        body_of: what makes an item's body; None: robollm.sim.bodies.body_of.

    Raises:
        ConfigError: frames outside 10 to 15, fps not in (0, 60], falling content asked of a
            whole product, or a manner without a second product.
    """
    if not 10 <= frames <= 15:
        raise ConfigError(f"frames is {frames}, wants 10 to 15", fix="leave it at 12")
    if not 0 < fps <= 60:
        raise ConfigError(f"fps is {fps}, wants more than 0 and at most 60", fix="fps=6")
    if falling and target.form.kind != "open":
        raise ConfigError("content can't fall from a whole package", fix='Form(kind="open")')
    if manner is not None and second is None:
        raise ConfigError(f"manner is {manner!r} without a second product", fix="give `second`")
    make = body_of or _bodies()
    rng = np.random.default_rng([seed, 11])
    body = make(target.product, target.form)
    upright = carried(target, grasp, Pose((0, 0, 0), turn((1, 0, 0), np.pi)))
    broken = target.form.kind in ("open", "closed")
    mouth = target.form.seed if broken else mouth_seed
    out: Vec3 = (float(rng.choice([-1.0, 1.0])), 0.0, 0.0)
    end = 0
    if mouth is not None:
        out = damage.mouth(target.product, mouth)
        end = damage.mouth_segment(target.product, mouth, body)
    # The same for every event: else a leaning arm would give away that something falls.
    path = _path(rng, _tilt(matrix(upright.poses[end].quaternion) @ out, rng))
    start = path.at(0.0)
    held = carried(target, grasp, start)
    items = [held]
    tie: Tie | None = None
    if second is not None:
        along = carried(second, grasp, start)
        tie = approach(held, along, start, make, rng, manner)
        items.append(tie.item)
    at_mouth = damage.mouth_segment(target.product, target.form.seed, body) if falling else 0
    pieces = _pieces(held, at_mouth) if falling else []
    items += pieces
    hollow = target.product.kind in ("box", "carton")
    soft = _spring(rng)

    def extend(spec: Any) -> None:
        base = spec.worldbody.add_body(name="gripper", mocap=True)
        base.pos, base.quat = list(start.position), list(start.quaternion)
        # The arm above the cups: an item that swings far knocks against it.
        base.add_geom(
            name="arm",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[0.018, 0.1, 0.0],
            pos=[0.0, 0.0, -0.135],
        )
        grip = nearest_segment(body, held.poses, start.position)
        pin(spec, "cups", "gripper", f"i0_{grip}", (0.0, 0.0, 0.0))
        gripped = compose(inverse(start), held.poses[grip])
        weld(spec, "turn", "gripper", f"i0_{grip}", gripped, soft)
        if tie is not None:
            a, b = tie.segments
            host = held.poses[a]
            own = compose(inverse(host), tie.item.poses[b])
            x, y, z = (float(v) for v in apply(inverse(host), np.asarray([tie.point]))[0])
            pin(spec, "stick", f"i0_{a}", f"i1_{b}", (x, y, z))
            weld(spec, "sway", f"i0_{a}", f"i1_{b}", own, _spring(rng))
        for k, piece in enumerate(pieces, 1):
            own = compose(inverse(held.poses[at_mouth]), piece.poses[0])
            weld(spec, f"piece{k}", f"i0_{at_mouth}", f"i{k}_0", own, (0.02, 1.0))
            # A bag's primitives fill it; a shell of board is hollow and really holds.
            for s in range(0 if hollow else len(body.segments)):
                spec.add_exclude(bodyname1=f"i0_{s}", bodyname2=f"i{k}_0")

    world = World(items, body_of=make, extend=extend)
    return _run(world, path, grasp, tie, pieces, frames, fps, rng, seed)


def _bodies() -> BodyOf:
    from robollm.sim.bodies import body_of  # late: it imports what imports this

    return body_of


def _pieces(target: Item, segment: int) -> list[Item]:
    form = target.form
    out = []
    for k in range(damage.content_count(target.product, form.seed, form.severity)):
        place = damage.content_place(target.product, form.seed, form.severity, k)
        own = Form("content", form.seed, form.severity, k)
        out.append(
            Item(target.instance, target.product, (compose(target.poses[segment], place),), own)
        )
    return out


def _run(
    world: World,
    path: _Path,
    grasp: Grasp,
    tie: Tie | None,
    pieces: list[Item],
    frames: int,
    fps: float,
    rng: np.random.Generator,
    seed: int,
) -> Held:
    model, data = world.model, world.data
    first = float(rng.uniform(0.3, 0.5))
    times = first + np.arange(frames) / fps + rng.uniform(-0.2, 0.2, frames) / fps
    lets = np.sort(rng.uniform(0.1, 0.75, len(pieces))) * (times[-1] - first) + 0.3
    stamps = np.round(times * 1e9).astype(np.int64)
    free: set[int] = set()
    target, lips = world.items()[0], path.at(0.0).position
    grip = nearest_segment(world.body(0), target.poses, lips)
    own = apply(inverse(target.poses[grip]), np.asarray([lips]))  # where the cups are on it
    out: list[HeldFrame] = []
    steps = int(times[-1] / TIMESTEP) + 2
    for step in range(steps):
        t = step * TIMESTEP
        while len(out) < frames and times[len(out)] <= t:
            out.append(
                _frame(world, int(stamps[len(out)]), path.at(t), grasp, tie is not None, seed)
            )
            where = apply(out[-1].scene.items[0].poses[grip], own)[0]
            if np.linalg.norm(where - path.at(t).position) > SLIP_M:
                raise UnstableError(f"{target.product.id} left the cups", fix="another seed")
        pose = path.at(t + 2 * PIN_S)
        data.mocap_pos[0], data.mocap_quat[0] = pose.position, pose.quaternion
        for k in range(len(pieces)):
            if k not in free and t >= lets[k]:
                free.add(k)
                data.eq_active[model.equality(f"piece{k + 1}").id] = 0
                way = damage.mouth(target.product, target.form.seed)
                form = target.form
                end = damage.mouth_segment(target.product, form.seed, world.body(0))
                host = world.body_ids(0)[end]
                push = 0.35 * (data.xmat[host].reshape(3, 3) @ way)
                dof = int(model.body_dofadr[world.body_ids(k + 1)[0]])
                data.qvel[dof : dof + 3] += push
        mujoco.mj_step(model, data)
    if not np.isfinite(data.qpos).all():
        raise UnstableError(
            f"a hold of {target.product.id} blew up: a pose is not finite", fix="take another seed"
        )
    released = tuple(round(float(t) * 1e9) for t in lets)
    return Held(tuple(out), tie.manner if tie else None, released)


def _frame(
    world: World, t_ns: int, gripper: Pose, grasp: Grasp, pair: bool, seed: int
) -> HeldFrame:
    items = world.items()
    target = items[0]
    angles: tuple[float, ...] = ()
    gap = 0.0
    outside = 0
    if target.form.kind == "open":
        form = target.form
        angles = damage.hinge_angles(world.body(0), target.poses)
        gap = damage.gap_m(target.product, form.seed, form.severity, target.poses)
        end = damage.mouth_segment(target.product, form.seed, world.body(0))
        pieces = [i for i in items[1:] if i.form.kind == "content"]
        outside = sum(is_outside(target, piece, end) for piece in pieces)
    scene = Scene(items, None, Gripper(gripper, grasp.cups), "cell", seed)
    distance = world.distance_m(0, 1) if pair else None
    return HeldFrame(t_ns, scene, distance, angles, gap, outside)


def is_outside(package: Item, piece: Item, segment: int = 0) -> bool:
    """Whether the centre of a piece is more than 5 mm outside its package's bounding box.

    `segment`: of the package, at its opening; the box is the unbent package's in its frame.
    """
    at = apply(inverse(package.poses[segment]), np.asarray([piece.poses[0].position]))[0]
    return bool((np.abs(at) > np.asarray(package.product.size_m) / 2 + 0.005).any())
