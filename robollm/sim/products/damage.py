"""Packages that have opened, and the pieces of content that fall out of them.

A damaged copy's `seed` is `wear + VARIANT * how`: `wear` is the seed of the whole copy, so that
it keeps its scratches, and `how` chooses where and how it is torn.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from robollm.core.errors import ConfigError
from robollm.sim.geometry import apply, compose, inverse, matrix, turn
from robollm.sim.products import damage_box, damage_content, damage_soft, shapes
from robollm.sim.products.damage_content import check_severity, layout
from robollm.sim.products.damage_mesh import moved
from robollm.sim.world import Body, Pose, Product, Solid, Vec3

VARIANT = 1 << 20
"""Seeds that differ by a multiple of it are the same copy, torn in another way."""


_OWN_PARTS = ("blister", "bottle", "tube", "can")  # what comes off them is a part of the whole


@lru_cache(maxsize=16)
def _whole(product: Product, wear: int) -> Body:
    return shapes.whole(product, wear)


@lru_cache(maxsize=8)
def opened(product: Product, seed: int, severity: float) -> Body:
    """Return a product whose package has opened.

    Boxes, cartons and books get hinged flaps; bags a torn end seam; blisters a peeled card;
    bottles, tubes and cans lose their cap or lid, or it hangs on. The frame is the product's.
    Hinges rest at `Segment.rest_rad`; see `rest_poses`.

    Args:
        product: what it is.
        seed: which copy, and how it is torn; see this module's head.
        severity: 0 (a flap lifted by a few degrees, a tear of 1 cm) to 1 (wide open).

    Raises:
        ConfigError: if `severity` is outside [0, 1], or the product is a multipack.
    """
    check_severity(severity)
    plan = layout(product, seed, severity)
    whole = _whole(product, seed % VARIANT)
    if product.kind in ("box", "carton"):
        return damage_box.shell(whole, product, seed, severity, plan)
    if product.kind == "book":
        return damage_box.book(whole, product, seed, severity, plan.sign)
    if product.kind in ("polybag", "pouch", "clear_bag"):
        return damage_soft.torn_bag(whole, product, seed, severity, plan)
    if product.kind == "blister":
        return damage_soft.peeled_blister(whole, product, seed, severity)
    return damage_soft.uncapped(whole, product, seed, severity)


def closed(product: Product, seed: int, severity: float) -> Body:
    """Return the body of `opened` with its flaps shut for good: not damaged at all.

    An opened box has sharp edges and seams where the whole one is rounded. So that these don't
    give a damage away, sound packages are shown like this, too. Where nothing is hinged (bags,
    blisters) it is the whole product.

    Raises:
        ConfigError: as `opened`.
    """
    body = opened(product, seed, severity)
    if all(segment.axis is None for segment in body.segments):
        return _whole(product, seed % VARIANT)
    return replace(
        body,
        parts=tuple(replace(part, segment=0) for part in body.parts),
        solids=tuple(replace(solid, segment=0) for solid in body.solids),
        segments=body.segments[:1],
    )


def content_count(product: Product, seed: int, severity: float) -> int:
    """Return how many pieces can fall out of such a package, at least 1."""
    return len(layout(product, seed, severity).loose)


def content(product: Product, seed: int, severity: float, piece: int) -> Body:
    """Return a piece of content, in its own frame: m, origin at its centre.

    Raises:
        ConfigError: if there is no such piece, or `severity` is outside [0, 1].
    """
    chosen = _loose(product, seed, severity, piece)
    if product.kind not in _OWN_PARTS:
        return damage_content.piece_body(chosen)
    parts, centre, half = damage_soft.what_comes_off(_whole(product, seed % VARIANT), product)
    back = Pose((-centre[0], -centre[1], -centre[2]))
    centred = tuple(replace(p, mesh=moved(p.mesh, back)) for p in parts)
    volume = 8 * half[0] * half[1] * half[2]
    mass = float(np.clip(300 * volume, 0.003, 0.5 * product.weight_kg))
    return Body(centred, (Solid("box", half),), mass)


def content_place(product: Product, seed: int, severity: float, piece: int) -> Pose:
    """Return where a piece lies inside its package: its frame in the product's frame.

    Raises:
        ConfigError: as `content`.
    """
    chosen = _loose(product, seed, severity, piece)
    if product.kind in _OWN_PARTS:
        return Pose(damage_soft.what_comes_off(_whole(product, seed % VARIANT), product)[1])
    return Pose(chosen.centre)


def _loose(product: Product, seed: int, severity: float, piece: int) -> damage_content.Piece:
    loose = layout(product, seed, severity).loose
    if not 0 <= piece < len(loose):
        raise ConfigError(
            f"piece {piece} of the content of {product.id}, which has {len(loose)}",
            fix=f"0 to {len(loose) - 1}; ask content_count first",
        )
    return loose[piece]


def mouth(product: Product, seed: int) -> Vec3:
    """Return the direction out of the opening, a unit vector in the product's frame."""
    plan = layout(product, seed, 0.5)
    out = [0.0, 0.0, 0.0]
    out[plan.axis] = float(plan.sign)
    return (out[0], out[1], out[2])


def mouth_segment(product: Product, seed: int, body: Body) -> int:
    """Return the segment of an opened body that the opening and the content are at."""
    bag = product.kind in ("polybag", "pouch", "clear_bag")
    return len(body.segments) - 1 if bag and layout(product, seed, 0.5).sign > 0 else 0


def rest_poses(body: Body, root: Pose) -> tuple[Pose, ...]:
    """Return the poses of all segments with every hinge where its spring pulls it."""
    poses = [root]
    for segment in body.segments[1:]:
        parent = poses[segment.parent]
        poses.append(compose(parent, hinge_pose(segment.anchor, segment.axis, segment.rest_rad)))
    return tuple(poses)


def hinge_pose(anchor: Vec3, axis: Vec3 | None, angle: float) -> Pose:
    """Return a turn by `angle` rad about an axis through `anchor`, as a pose."""
    if axis is None or angle == 0.0:
        return Pose()
    about = Pose((0.0, 0.0, 0.0), turn(axis, angle))
    x, y, z = (float(v) for v in np.asarray(anchor) - apply(about, np.asarray([anchor]))[0])
    return Pose((x, y, z), about.quaternion)


def hinge_angles(body: Body, poses: tuple[Pose, ...]) -> tuple[float, ...]:
    """Return the angle of each hinged segment, rad, -pi to pi, from the segments' poses."""
    out = []
    for segment, pose in zip(body.segments[1:], poses[1:], strict=True):
        if segment.axis is None:
            continue
        r = matrix(compose(inverse(poses[segment.parent]), pose).quaternion)
        axis = np.asarray(segment.axis) / np.linalg.norm(segment.axis)
        spin = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
        out.append(float(np.arctan2(spin @ axis / 2, (np.trace(r) - 1) / 2)))
    return tuple(out)


def gap_m(product: Product, seed: int, severity: float, poses: tuple[Pose, ...]) -> float:
    """Return how far the package gapes, m, in a state.

    With hinges: the longest arc of a flap's free edge. Without: the furthest that the skin is
    from where it is on the whole product, or the width of what is missing.
    """
    body = opened(product, seed, severity)
    angles = hinge_angles(body, poses)
    if len(angles):
        reaches = []
        for k, segment in enumerate(body.segments[1:], 1):
            own = [p.mesh.vertices for p in body.parts if p.segment == k]
            if segment.axis is None or not own:
                continue
            away = np.concatenate(own) - segment.anchor
            axis = np.asarray(segment.axis) / np.linalg.norm(segment.axis)
            reaches.append(float(np.linalg.norm(away - np.outer(away @ axis, axis), axis=1).max()))
        return max((abs(a) * r for a, r in zip(angles, reaches, strict=True)), default=0.0)
    if product.kind in ("bottle", "tube", "can"):
        return max(product.size_m[1:])
    if product.kind == "blister":
        low = min(float(p.mesh.vertices[:, 2].min()) for p in _whole(product, seed % VARIANT).parts)
        return max(0.0, low - min(float(p.mesh.vertices[:, 2].min()) for p in body.parts))
    return damage_soft.mouth_m(product, severity)
