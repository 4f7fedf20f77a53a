"""Rigid-body physics of a scene: a world that runs MuJoCo's model of items and a tote.

A body's frame in the model is the product's rest frame, for every segment: a segment's pose in
the simulation is the pose that the records want. Names in the model: see physics_model;
item i of a World has the prefix `i{i}`, the tote `tote`, further fixed bodies `s{k}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from robollm.core.errors import ConfigError, RobollmError
from robollm.sim.geometry import F64, inverse, matrix, quaternion
from robollm.sim.mj import mujoco
from robollm.sim.physics.model import (
    GRAVITY,
    TIMESTEP,
    add_body,
    add_item,
    add_static,
    default_body,
    new_spec,
    volume,
)
from robollm.sim.physics.totes import tote_body
from robollm.sim.world import Body, Form, Item, Pose, Product, Tote, Vec3

__all__ = [
    "GRAVITY",
    "TIMESTEP",
    "BodyOf",
    "UnstableError",
    "World",
    "add_body",
    "add_item",
    "add_static",
    "new_spec",
    "volume",
]

BodyOf = Callable[[Product, Form], Body]

_BAD = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)
_DRAG = 0.6  # 1/s, of turning: without it cans roll for ever
_WINDOW = 0.1  # s, over which a drift is measured
_ARM = 0.08  # m, at which a turn is measured
_FAR = 50.0  # m, where things are kept that take no part
_REACH = 0.5  # m, what distance_m looks at


class UnstableError(RobollmError):
    """A simulation blew up, or can't be brought to rest as it should be."""


def _ignore(_message: str) -> None:
    """Take a warning of MuJoCo's."""


class World:
    """A running simulation of items, with or without a tote. Deterministic to the last bit.

    Args:
        items: their poses are where the simulation starts, at rest.
        tote: the container.
        fixed: more bodies that never move, with their poses.
        body_of: what makes an item's body; None: robollm.sim.bodies.body_of.
        parked: start with every item parked; their poses don't matter then.
        extend: called with the MjSpec before it is compiled, to add to it (welds, a gripper).
    """

    def __init__(
        self,
        items: Sequence[Item],
        tote: Tote | None = None,
        *,
        fixed: Sequence[tuple[Body, Pose]] = (),
        body_of: BodyOf | None = None,
        parked: bool = False,
        extend: Callable[[Any], None] | None = None,
    ) -> None:
        # MuJoCo's own way is a log file in the working directory; run() looks at the counters.
        mujoco.set_mju_user_warning(_ignore)
        make = body_of or default_body
        self._items = tuple(items)
        self._bodies = tuple(make(item.product, item.form) for item in items)
        spec = new_spec()
        if tote is not None:
            add_static(spec, tote_body(tote), Pose(), "tote")
        for k, (static, pose) in enumerate(fixed):
            add_static(spec, static, pose, f"s{k}")
        for i, (item, body) in enumerate(zip(self._items, self._bodies, strict=True)):
            add_body(spec, body, item.poses, f"i{i}")
        if extend is not None:
            extend(spec)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self._ids = [
            [self.model.body(f"i{i}_{k}").id for k in range(len(body.segments))]
            for i, body in enumerate(self._bodies)
        ]
        owner = np.full(self.model.nbody, -1)
        for i, ids in enumerate(self._ids):
            owner[ids] = i
        self._owner = owner[self.model.geom_bodyid]  # the item of each geom; -1: fixed things
        self._geoms = [np.flatnonzero(self._owner == i) for i in range(len(items))]
        self._parked: set[int] = set()
        self._removed: set[int] = set()
        for i, item in enumerate(self._items):
            dof = int(self.model.body_dofadr[self._ids[i][0]])
            self.model.dof_damping[dof + 3 : dof + 6] = _DRAG * self.model.dof_M0[dof + 3 : dof + 6]
            if parked:
                self.park(i)
            else:
                self._set(i, item.poses)
        self._damping = self.model.dof_damping.copy()
        mujoco.mj_forward(self.model, self.data)

    # ---------------------------------------------------------------- what is in it
    def __len__(self) -> int:
        return len(self._items)

    def item(self, i: int) -> Item:
        """Return item i as it was given."""
        return self._items[i]

    def body(self, i: int) -> Body:
        """Return item i's body."""
        return self._bodies[i]

    def body_ids(self, i: int) -> list[int]:
        """Return the model's body id of each segment of item i."""
        return self._ids[i]

    def geom_ids(self, i: int) -> list[int]:
        """Return the model's geom ids of item i."""
        return [int(g) for g in self._geoms[i]]

    def present(self, i: int) -> bool:
        """Whether item i takes part: neither parked nor removed."""
        return i not in self._parked

    def poses(self) -> tuple[tuple[Pose, ...], ...]:
        """Return each item's poses, one per segment, from the rest product frame to the world."""
        mujoco.mj_kinematics(self.model, self.data)
        return tuple(tuple(self._pose(b) for b in ids) for ids in self._ids)

    def items(self) -> tuple[Item, ...]:
        """Return the items that take part, where they are now."""
        poses = self.poses()
        return tuple(
            replace(item, poses=poses[i])
            for i, item in enumerate(self._items)
            if i not in self._parked
        )

    def _pose(self, body: int) -> Pose:
        x, y, z = (float(v) for v in self.data.xpos[body])
        a, b, c, d = (float(v) for v in self.data.xquat[body])
        return Pose((x, y, z), (a, b, c, d))

    # ---------------------------------------------------------------- time
    def run(self, seconds: float) -> None:
        """Simulate for a time, to the next whole step.

        Raises:
            UnstableError: the state is no longer finite.
        """
        for _ in range(max(1, round(seconds / TIMESTEP))):
            mujoco.mj_step(self.model, self.data)
        bad = [int(self.data.warning[int(kind)].number) for kind in _BAD]
        if any(bad) or not np.isfinite(self.data.qpos).all():
            raise UnstableError(
                f"the simulation blew up at {self.data.time:.2f} s: a state is not finite",
                fix="another seed; or heavier, thicker or less overlapping solids",
            )

    def halt(self) -> None:
        """Take all speed away, and what the solver remembers: as if built anew from its poses."""
        self.data.qvel[:] = 0
        self.data.qacc_warmstart[:] = 0

    def settle(self, max_seconds: float = 2.0, below_m_s: float = 0.01) -> bool:
        """Simulate until everything rests: no drift over a tenth of a second, twice in a row.

        What trembles in place by hundredths of a millimetre rests; what creeps doesn't.

        Args:
            max_seconds: give up after this time.
            below_m_s: a mean speed over the tenth of a second below this counts as resting.

        Returns:
            Whether it rests.

        Raises:
            UnstableError: the state is no longer finite.
        """
        quiet, before = 0, self._marks()
        for _ in range(max(1, round(max_seconds / _WINDOW))):
            self.run(_WINDOW)
            now = self._marks()
            moved = float(np.abs(now - before).max(initial=0.0))
            before = now
            quiet = quiet + 1 if moved < below_m_s * _WINDOW else 0
            if quiet >= 2:
                return True
        return False

    def _marks(self) -> F64:
        """Return three points of every segment that takes part [N, 3, 3], m."""
        mujoco.mj_kinematics(self.model, self.data)
        ids = [b for i, each in enumerate(self._ids) if i not in self._parked for b in each]
        centre = self.data.xipos[ids][:, None]
        arms = self.data.xmat[ids].reshape(-1, 3, 3)[:, :2] * _ARM
        return np.concatenate([centre, centre + arms], axis=1)

    def speed(self, i: int) -> float:
        """Return the speed of item i's fastest segment, m/s: of its centre or its edge."""
        out = 0.0
        both = np.zeros(6)
        for b in self._ids[i]:
            kind = mujoco.mjtObj.mjOBJ_BODY
            mujoco.mj_objectVelocity(self.model, self.data, kind, b, both, 0)
            reach = float(self.model.body_inertia[b].max() / self.model.body_mass[b]) ** 0.5
            edge = 1.5 * reach * float(np.linalg.norm(both[:3]))
            out = max(out, float(np.linalg.norm(both[3:])), edge)
        return out

    # ---------------------------------------------------------------- contact
    def contacts(self) -> Iterator[tuple[int, int, float]]:
        """Yield (item or -1, item or -1, distance m) of contacts between different things.

        -1 is the tote and what else is fixed. A distance below 0 is a penetration.
        """
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_collision(self.model, self.data)
        contact = self.data.contact
        pairs = self._owner[contact.geom] if len(contact.dist) else np.zeros((0, 2), int)
        for (a, b), distance in zip(pairs, contact.dist, strict=True):
            if a != b:
                yield int(a), int(b), float(distance)

    def penetration_m(self) -> float:
        """Return the deepest penetration of two different things, m; 0 without any."""
        return max(0.0, *(-d for _, _, d in self.contacts()), 0.0)

    def distance_m(self, i: int, j: int) -> float:
        """Return the smallest distance of the solids of items i and j, m; below 0: they overlap.

        Distances over 0.5 m are returned as 0.5.
        """
        mujoco.mj_kinematics(self.model, self.data)
        out = _REACH
        ends = np.zeros(6)
        centre, bound = self.data.geom_xpos, self.model.geom_rbound
        for a in self._geoms[i]:
            for b in self._geoms[j]:
                if np.linalg.norm(centre[a] - centre[b]) - bound[a] - bound[b] >= out:
                    continue
                d = mujoco.mj_geomDistance(self.model, self.data, int(a), int(b), out, ends)
                out = min(out, float(d))
        return out

    def touching(self, i: int, j: int, within_m: float = 0.001) -> bool:
        """Whether the solids of items i and j are at most `within_m` apart."""
        return self.distance_m(i, j) <= within_m

    # ---------------------------------------------------------------- intervention
    def place(self, i: int, poses: Sequence[Pose], velocity: Vec3 = (0.0, 0.0, 0.0)) -> None:
        """Put item i somewhere, with a velocity in m/s; a parked one takes part again."""
        if i in self._removed:
            raise ConfigError(f"item {i} was removed from the world", fix="make a new World")
        self._parked.discard(i)
        self._switch(i, on=True)
        self._set(i, poses)
        dof = int(self.model.body_dofadr[self._ids[i][0]])
        self.data.qvel[dof : dof + 3] = velocity

    def park(self, i: int) -> None:
        """Take item i out of the scene until it is placed again."""
        self._parked.add(i)
        self._switch(i, on=False)
        rest = Pose((_FAR * (i + 1), 0.0, _FAR))
        self._set(i, [rest] * len(self._ids[i]))

    def remove(self, i: int) -> None:
        """Take item i out of the scene for ever."""
        self.park(i)
        self._removed.add(i)

    def thicken(self, rate: float) -> None:
        """Let everything move as if in honey: speeds decay at `rate` more, 1/s; 0: as before.

        It doesn't change where things can rest, but ends the trembling of stacks.
        """
        self.model.dof_damping[:] = self._damping + rate * self.model.dof_M0

    def shake(self, rng: np.random.Generator, m_s: float) -> None:
        """Give every item that takes part a push of about `m_s`, sideways and a little up."""
        for i, ids in enumerate(self._ids):
            push = rng.normal(0, m_s / 2, 3)
            if i not in self._parked:
                dof = int(self.model.body_dofadr[ids[0]])
                self.data.qvel[dof : dof + 3] += (push[0], push[1], abs(push[2]))

    def _switch(self, i: int, *, on: bool) -> None:
        """Let item i collide and fall, or not."""
        self.model.geom_contype[self._geoms[i]] = int(on)
        self.model.geom_conaffinity[self._geoms[i]] = int(on)
        for b in self._ids[i]:
            lift = 0.0 if on else GRAVITY * float(self.model.body_mass[b])
            self.data.xfrc_applied[b] = (0.0, 0.0, lift, 0.0, 0.0, 0.0)

    def _set(self, i: int, poses: Sequence[Pose]) -> None:
        """Write poses into the state, at rest. Of a segment but the root, its turn counts."""
        body = self._bodies[i]
        for k, (b, segment) in enumerate(zip(self._ids[i], body.segments, strict=True)):
            joint = int(self.model.body_jntadr[b])
            at, dof = int(self.model.jnt_qposadr[joint]), int(self.model.jnt_dofadr[joint])
            if segment.parent < 0:
                self.data.qpos[at : at + 7] = (*poses[k].position, *poses[k].quaternion)
                self.data.qvel[dof : dof + 6] = 0.0
                continue
            up = matrix(inverse(poses[segment.parent]).quaternion)
            turned = quaternion(up @ matrix(poses[k].quaternion))
            if segment.axis is None:
                self.data.qpos[at : at + 4] = turned
                self.data.qvel[dof : dof + 3] = 0.0
            else:
                axis: F64 = np.asarray(segment.axis) / np.linalg.norm(segment.axis)
                angle = 2 * np.arctan2(float(np.dot(turned[1:], axis)), turned[0])
                self.data.qpos[at] = (angle + np.pi) % (2 * np.pi) - np.pi
                self.data.qvel[dof] = 0.0
