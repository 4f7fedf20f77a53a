"""MuJoCo's model of bodies: what a world is compiled from.

A body's frame in the model is the product's rest frame, for every segment: a segment's pose in
the simulation is the pose that the records want. Names in the model: body `{prefix}_{segment}`,
its solids `{prefix}_g{index}`, its joints `{prefix}_j{segment}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robollm.sim.mj import mujoco
from robollm.sim.world import Body, Form, Item, Pose, Product, Solid

TIMESTEP = 0.004  # s
GRAVITY = 9.81  # m/s^2
_GEOM = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
}
_ARMATURE = 5e-5  # kg m^2, added to the inertia of every joint but the root
_MARGIN = 0.0003  # m: things rest twice this far apart, so that they never overlap at rest


def volume(solid: Solid) -> float:
    """Return the volume of a solid, m^3."""
    a, b, c = solid.size
    if solid.shape == "box":
        return 8 * a * b * c
    if solid.shape == "ellipsoid":
        return 4 / 3 * np.pi * a * b * c
    ball = 4 / 3 * np.pi * a**3 if solid.shape == "capsule" else 0.0
    return 2 * np.pi * a * a * b + ball


def new_spec() -> Any:
    """Return an empty mujoco.MjSpec with the options that everything here is tuned for."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False  # a hinge's limits and rest angle are in radians
    option = spec.option
    option.timestep = TIMESTEP
    option.gravity = [0.0, 0.0, -GRAVITY]
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    # Chains of light segments blow up when the solver stops too early; it seldom needs so many.
    option.iterations = 100
    option.ls_iterations = 50
    option.tolerance = 1e-8
    # A state that blew up must be seen, not be replaced by the first one.
    option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    # Flaps of thin card weigh nothing and turn on a pin head: keep the numbers sane.
    spec.compiler.boundmass = 1e-3
    spec.compiler.boundinertia = 1e-6
    return spec


def _add_solid(body: Any, solid: Solid, name: str, mass: float, friction: float) -> None:
    """Add one collision geom to a spec's body."""
    # Round things also need friction against rolling; faces hold by their many contacts.
    flat = solid.shape == "box"
    body.add_geom(
        name=name,
        type=_GEOM[solid.shape],
        size=list(solid.size),
        pos=list(solid.pose.position),
        quat=list(solid.pose.quaternion),
        mass=mass,
        friction=[friction, 0.004, 0.0008],
        condim=3 if flat else 6,
        margin=_MARGIN,
        solref=[2 * TIMESTEP, 1.0],
        solimp=[0.95, 0.99, 0.0005, 0.5, 2.0],
    )


def _kin(body: Body, a: int, b: int) -> bool:
    """Whether segments a and b are joined, or joined to a common one."""
    above = [segment.parent for segment in body.segments]
    up_a, up_b = above[a], above[b]
    if up_a == b or up_b == a or up_a == up_b >= 0:
        return True
    return (up_a >= 0 and above[up_a] == b) or (up_b >= 0 and above[up_b] == a)


def add_body(spec: Any, body: Body, poses: Sequence[Pose], prefix: str) -> Any:
    """Add a free body to a spec: a free root, the other segments on their joints.

    Only the root's pose is used; the segments' angles are state, which World sets. Segments that
    are joined, or joined to a common one, don't collide with each other.

    Returns:
        The root's MjsBody.
    """
    total = sum(volume(s) for s in body.solids)
    made: list[Any] = []
    for i, segment in enumerate(body.segments):
        name = f"{prefix}_{i}"
        if segment.parent < 0:
            b = spec.worldbody.add_body(
                name=name, pos=list(poses[0].position), quat=list(poses[0].quaternion)
            )
            b.add_joint(
                name=f"{prefix}_j0",
                type=mujoco.mjtJoint.mjJNT_FREE,
                align=mujoco.mjtAlignFree.mjALIGNFREE_FALSE,
            )
        else:
            b = made[segment.parent].add_body(name=name)
            ball = segment.axis is None
            joint = b.add_joint(
                name=f"{prefix}_j{i}",
                type=mujoco.mjtJoint.mjJNT_BALL if ball else mujoco.mjtJoint.mjJNT_HINGE,
                pos=list(segment.anchor),
                stiffness=[segment.stiffness, 0.0, 0.0],
                damping=[segment.damping, 0.0, 0.0],
                armature=_ARMATURE,
            )
            if segment.axis is not None:
                joint.axis = list(segment.axis)
                joint.springref = segment.rest_rad
            if segment.limits_rad is not None:
                joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
                # A ball's range is (0, largest angle).
                low, high = segment.limits_rad
                joint.range = [0.0, max(abs(low), abs(high))] if ball else [low, high]
        made.append(b)
    for k, solid in enumerate(body.solids):
        mass = body.mass_kg * volume(solid) / total
        _add_solid(made[solid.segment], solid, f"{prefix}_g{k}", mass, body.friction)
    for a in range(len(made)):
        for b in range(a + 1, len(made)):
            if _kin(body, a, b):
                spec.add_exclude(bodyname1=f"{prefix}_{a}", bodyname2=f"{prefix}_{b}")
    return made[0]


def add_item(spec: Any, item: Item, prefix: str, body: Body | None = None) -> Any:
    """Add an item to a spec; `body`: what robollm.sim.bodies.body_of would return for it.

    Returns:
        The root's MjsBody.
    """
    return add_body(spec, body or default_body(item.product, item.form), item.poses, prefix)


def add_static(spec: Any, body: Body, pose: Pose, prefix: str) -> Any:
    """Add a body that never moves, all segments at rest.

    Returns:
        Its MjsBody.
    """
    b = spec.worldbody.add_body(
        name=f"{prefix}_0", pos=list(pose.position), quat=list(pose.quaternion)
    )
    for k, solid in enumerate(body.solids):
        _add_solid(b, solid, f"{prefix}_g{k}", 1.0, body.friction)
    return b


def default_body(product: Product, form: Form) -> Body:
    """Return what bodies.body_of does; imported late, as what it imports may import this."""
    from robollm.sim.bodies import body_of

    return body_of(product, form)
