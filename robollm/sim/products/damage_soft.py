"""Torn bags, peeled blisters, and bottles, tubes and cans without their cap or lid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from robollm.sim.geometry import F64
from robollm.sim.products.damage_content import Layout, cap_place, dice, paper, stuck_parts
from robollm.sim.products.damage_mesh import (
    face_normals,
    inside_of,
    join,
    keep_faces,
    lathe,
    refined,
    vec,
)
from robollm.sim.world import Body, Mesh, Part, Pose, Product, Segment, Solid, Surface, Vec3

SILVER = Surface(None, (0.72, 0.73, 0.75, 1.0), 0.5, 0.5)
MILKY = Surface(None, (0.9, 0.9, 0.9, 1.0), 0.2, 0.3)
CAP_OFF_FROM = 0.45  # severity from which a cap is off for good
EMPTY_FROM = 0.4  # severity from which a blister has lost its goods
DARK = Surface(None, (0.07, 0.07, 0.08, 1.0), 0.05, 0.2)


def skin_of(whole: Body) -> int:
    """Return the index of a body's outermost part: the one with the largest bounding box."""
    return int(
        np.argmax([float(np.prod(np.ptp(p.mesh.vertices, axis=0) + 1e-4)) for p in whole.parts])
    )


def torn_bag(whole: Body, product: Product, seed: int, severity: float, plan: Layout) -> Body:
    """Return a bag whose end seam has torn, its layers apart, with content that peeks out."""
    rng = dice(product, seed, 404)
    chosen = skin_of(whole)
    part = whole.parts[chosen]
    mesh = refined(part.mesh, 0.006)
    span = float(np.abs(mesh.vertices[:, 0]).max())
    width = product.size_m[1]
    half_tear = 0.005 + severity * 0.36 * width  # half the tear's length, m
    middle = float(rng.uniform(-0.25, 0.25)) * (width - 2 * half_tear)
    reach = 0.012 + severity * 0.2 * span  # how far from the seam the layers are apart
    lost = 0.004 + severity * 0.02
    mouth = mouth_m(product, severity) / 1.7  # how far the upper layer is lifted
    vertices = mesh.vertices.astype(np.float64)
    from_seam = span - plan.sign * vertices[:, 0]
    off = np.abs(vertices[:, 1] - middle) / half_tear
    jagged = 0.25 * np.sin(vertices[:, 1] * 610 + seed) + 0.2 * np.sin(vertices[:, 1] * 230)
    centres = mesh.faces
    torn = ((from_seam + jagged * lost)[centres].mean(1) < lost) & (off[centres].mean(1) < 1)
    # Layers are told apart by the triangles' own direction, as both meet at the seam.
    upper = face_normals(mesh)[:, 2] > 0
    pieces = []
    for layer in (True, False):
        some = keep_faces(mesh, ~torn & (upper == layer))
        v = some.vertices.astype(np.float64)
        ahead = np.clip(1 - (span - plan.sign * v[:, 0]) / reach, 0, 1)
        beside = np.clip(1 - np.abs(v[:, 1] - middle) / (1.05 * half_tear), 0, 1)
        amount = mouth * ahead**1.4 * np.sqrt(beside) * (1.0 if layer else -0.7)
        v[:, 2] += amount
        v[:, 0] -= plan.sign * np.abs(amount) * 0.35 * ahead  # what rises also curls back
        pieces.append(Mesh(v.astype(np.float32), some.faces, some.uv))
    skin = join(*pieces)
    back = SILVER if product.kind == "pouch" else MILKY
    see_through = part.surface.rgba[3] < 0.99
    last = 0 if plan.sign < 0 else len(whole.segments) - 1
    parts = [p for k, p in enumerate(whole.parts) if k != chosen]
    parts += stuck_parts(plan.stuck, last)
    if not see_through:
        x = skin.vertices[:, 0][skin.faces]
        near = plan.sign * x.mean(1) > span - 2.5 * reach
        # How a part bends depends on its length: its ends must be those of the skin.
        near |= (x == skin.vertices[:, 0].min()).any(1) | (x == skin.vertices[:, 0].max()).any(1)
        inner = inside_of(keep_faces(skin, near), 0.0006)
        parts.append(Part(inner, back, part.segment))
    parts.append(Part(skin, part.surface, part.segment))  # what may be glassy is drawn last
    return replace(whole, parts=tuple(parts))


def peeled_blister(whole: Body, product: Product, seed: int, severity: float) -> Body:
    """Return a blister whose card is peeled back from one end; at 0.4 or worse it is empty."""
    rng = dice(product, seed, 505)
    length, _, height = product.size_m
    end = 1 if rng.random() < 0.5 else -1
    start = length * (0.38 - 0.46 * severity)  # where the peel begins, from the middle
    angle = np.radians(20 + severity * float(rng.uniform(70, 130)))
    bend = max((length / 2 - start) * 0.7, 0.01)
    parts = []
    goods = goods_of(whole)[0]
    for part in whole.parts:
        if part is goods and severity >= EMPTY_FROM:
            continue
        if float(np.ptp(part.mesh.vertices[:, 0])) < 0.9 * length:
            parts.append(part)  # what lies inside stays
            continue
        # All of the skin below the rim's plane is card; it rolls down and away.
        mesh = refined(part.mesh, 0.012)
        v = mesh.vertices.astype(np.float64)
        low = v[:, 2] < v[:, 2].min() + 0.12 * height + 0.0005
        if not low.any() or part.surface.rgba[3] < 0.99 or float(np.ptp(v[:, 2])) > 0.7 * height:
            parts.append(part)
            continue
        parts.append(replace(part, mesh=_rolled(mesh, v, end, start, angle, bend)))
    return replace(whole, parts=tuple(parts))


def goods_of(whole: Body) -> tuple[Part, Vec3, Vec3]:
    """Return a blister's opaque goods, and the centre and half sides of their box, m."""
    solid = [p for p in whole.parts if p.surface.rgba[3] > 0.99]
    goods = min(solid, key=lambda p: float(np.ptp(p.mesh.vertices[:, 0])))
    low, high = goods.mesh.vertices.min(0), goods.mesh.vertices.max(0)
    return goods, vec((low + high) / 2), vec((high - low) / 2)


def _rolled(mesh: Mesh, v: F64, end: int, start: float, angle: float, bend: float) -> Mesh:
    """Roll what lies beyond x = `start` downwards over a length `bend`, to an angle."""
    s = np.maximum(end * v[:, 0] - start, 0)
    turned = np.minimum(s / bend, 1) * angle
    radius = bend / angle
    straight = np.maximum(s - bend, 0)
    x = np.where(s > 0, start + radius * np.sin(turned) + straight * np.cos(turned), end * v[:, 0])
    z = v[:, 2] - radius * (1 - np.cos(turned)) - straight * np.sin(turned)
    return Mesh(np.column_stack([end * x, v[:, 1], z]).astype(np.float32), mesh.faces, mesh.uv)


def _parted(whole: Body, product: Product) -> tuple[list[Part], list[Part]]:
    """Return the parts of a vessel without its cap or lid, and those of the cap alone."""
    axis, sign, cut = cap_place(product)
    kept, caps = [], []
    for part in whole.parts:
        above = (sign * part.mesh.vertices[:, axis][part.mesh.faces]).mean(1) > cut - 5e-4
        if (~above).any():
            kept.append(replace(part, mesh=keep_faces(part.mesh, ~above)))
        if above.any():
            caps.append(replace(part, mesh=keep_faces(part.mesh, above), segment=1))
    return kept, caps


def what_comes_off(whole: Body, product: Product) -> tuple[tuple[Part, ...], Vec3, Vec3]:
    """Return a blister's goods, or a vessel's cap or lid, and the centre and half sides, m."""
    if product.kind == "blister":
        goods, centre, half = goods_of(whole)
        return (goods,), centre, half
    caps = _parted(whole, product)[1]
    corners = np.concatenate([p.mesh.vertices for p in caps])
    low, high = corners.min(0), corners.max(0)
    parts = tuple(replace(p, segment=0) for p in caps)
    return parts, vec((low + high) / 2), vec((high - low) / 2)


def uncapped(whole: Body, product: Product, seed: int, severity: float) -> Body:
    """Return a bottle, tube or can whose cap or lid is off, or stands askew; it shows its inside.

    Below severity 0.45 the cap hangs on.
    """
    rng = dice(product, seed, 606)
    axis, sign, cut = cap_place(product)
    extent = product.size_m[axis]
    kept, caps = _parted(whole, product)
    edge = np.concatenate([p.mesh.vertices for p in kept])
    top = float((sign * edge[:, axis]).max())
    rim = edge[sign * edge[:, axis] > top - 0.003]
    r_first, r_second = (float(np.abs(rim[:, k]).max()) for k in range(3) if k != axis)
    # A floor a little below the rim, and a lip around it.
    disc = lathe([(top - 0.003, 0.88), (top - 0.0029, 1e-4)], 28)
    ring = lathe([(top - 0.003, 0.86), (top, 0.88), (top + 0.0002, 0.98), (top - 0.001, 1.0)], 28)
    scale = np.array([1.0, r_first, r_second])
    hole, lip = (_placed(m, scale, axis, sign) for m in (disc, ring))
    # A can's content reaches up to its rim; a neck is dark.
    tint = vec(rng.uniform(0.25, 0.85, 3))
    fill = Surface(paper(rng, "garment", tint), specular=0.4) if product.kind == "can" else DARK
    skin = max(kept, key=lambda p: len(p.mesh.faces)).surface
    parts = [*kept, Part(hole, fill, 0), Part(lip, replace(skin, texture=None), 0)]
    stay = [s for s in whole.solids if sign * s.pose.position[axis] < cut]
    if severity >= CAP_OFF_FROM:
        return replace(whole, parts=tuple(parts), solids=tuple(stay))
    # The hinge lies across the rim, square to the axis; the cap turns outwards.
    across = 1 if axis == 0 else 0
    anchor, half, centre = np.zeros(3), np.full(3, 0.9 * r_first), np.zeros(3)
    anchor[axis], anchor[across] = sign * cut, -r_first
    half[axis], centre[axis] = (extent / 2 - cut) / 2, sign * (extent / 2 + cut) / 2
    outward, inward = np.zeros(3), np.zeros(3)
    outward[axis], inward[across] = sign, 1.0
    weight = 0.004 * 9.81 * r_first  # N m
    rest = float(np.radians(11 + 150 * severity))
    turn_axis = vec(np.cross(inward, outward))
    hinge = Segment(0, vec(anchor), turn_axis, 40 * weight, 0.1 * weight, (-0.02, 2.6), rest)
    solids = (*stay, Solid("box", vec(half), Pose(vec(centre)), 1))
    return replace(whole, parts=(*parts, *caps), solids=solids, segments=(Segment(), hinge))


def _placed(mesh: Mesh, scale: F64, axis: int, sign: int) -> Mesh:
    """Return a lathe of unit radius about x, scaled, its axis turned to sign * `axis` (0 or 2)."""
    v = mesh.vertices * scale.astype(np.float32)
    if sign < 0:
        v = v * np.array([-1, -1, 1], np.float32)
    if axis == 2:
        v = v[:, [1, 2, 0]]  # cyclic, so it stays right-handed
    return Mesh(np.ascontiguousarray(v, np.float32), mesh.faces, mesh.uv)


def mouth_m(product: Product, severity: float) -> float:
    """Return how far apart the two layers of a torn bag are at the seam, m."""
    return 1.7 * (0.004 + severity * (0.5 * product.size_m[2] + 0.02))
