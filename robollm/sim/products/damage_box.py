"""Opened boxes, cartons and books: shells of board with hinged flaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robollm.sim.geometry import F64, compose
from robollm.sim.products.damage_content import WALL_M, Layout, dice, paper, piece_mesh, stuck_parts
from robollm.sim.products.damage_mesh import Print, in_plane, join, plate, soft_block, vec
from robollm.sim.products.damage_mesh import Range as Extent
from robollm.sim.world import (
    Body,
    Mesh,
    Part,
    Pose,
    Product,
    Segment,
    Solid,
    Surface,
    Vec3,
)

KRAFT = Surface(None, (0.68, 0.53, 0.37, 1.0), 0.02, 0.1)
WHITE = Surface(None, (0.88, 0.87, 0.84, 1.0), 0.05, 0.1)
BOARD_KG_M2 = 0.6
FULL_TURN_RAD = 3.1  # states are kept within half a turn


@dataclass(frozen=True, slots=True)
class _Flap:
    """One flap: in the plane it spans two extents and hinges at an end of one of them."""

    first: Extent
    second: Extent
    hinged: int  # which extent the hinge ends: 0 or 1
    end: int  # at which end of it: 0 or 1
    drop: float  # how far it lies under the outermost board, m
    angle: float  # where it rests, rad


def _flaps(
    a: float, b: float, board: float, severity: float, rng: np.random.Generator
) -> list[_Flap]:
    """Plan the flaps of an opening of half sides a (first) and b (second extent)."""
    along = 0 if a >= b else 1  # the long side carries the major hinges
    long, short = (a, b) if along == 0 else (b, a)
    wide = 1 - along
    full: Extent = (-long, long)
    worst = float(np.radians(8 + (rng.uniform(80, 165) - 8) * severity**1.15))
    style = rng.choice(["pair", "lid", "split"], p=[0.5, 0.25, 0.25])
    middle = 0.0 if style == "pair" else float(rng.uniform(-0.35, 0.35)) * short
    flip = bool(rng.random() < 0.5)
    both = float(rng.uniform(0.1, 0.6)) < severity
    second_angle = worst * float(rng.uniform(0.35, 1.0)) if both else 0.0
    plan: list[tuple[Extent, int, float]]
    if style == "lid":
        plan = [((-short, short), int(flip), worst)]
    else:
        angles = (second_angle, worst) if flip else (worst, second_angle)
        plan = [((-short, middle), 0, angles[0]), ((middle, short), 1, angles[1])]
    out = []
    for extent, end, angle in plan:
        pair = (full, extent) if along == 0 else (extent, full)
        out.append(_Flap(pair[0], pair[1], wide, end, 0.0, angle))
    # The dust flaps under them, from the short sides; they can't rise through a closed flap.
    reach = min(0.5 * long, 0.9 * short)
    covered = style != "lid" and not both
    for end in (0, 1):
        dust: Extent = (-long, -long + reach) if end == 0 else (long - reach, long)
        inner: Extent = (-short + 2 * board, short - 2 * board)
        pair = (dust, inner) if along == 0 else (inner, dust)
        angle = worst * float(rng.uniform(0.2, 0.9)) if severity > rng.uniform(0.25, 0.8) else 0.0
        out.append(_Flap(pair[0], pair[1], along, end, 1.6 * board, 0.0 if covered else angle))
    return out


def shell(whole: Body, product: Product, seed: int, severity: float, plan: Layout) -> Body:
    """Return a box or carton that has opened at one side, with what is stuck inside."""
    rng = dice(product, seed, 202)
    art = Print(whole)
    board = WALL_M[product.kind]
    inside = KRAFT if product.kind == "carton" or rng.random() < 0.5 else WHITE
    half = np.asarray(product.size_m) / 2
    printed: list[Mesh] = []
    bare: list[Mesh] = []
    solids: list[Solid] = []
    for axis in range(3):
        i, j, _ = in_plane(axis)
        for sign in (-1, 1):
            if (axis, sign) == (plan.axis, plan.sign):
                continue
            rects: tuple[Extent, Extent] = ((-half[i], half[i]), (-half[j], half[j]))
            outer, inner = plate(axis, sign, sign * half[axis], *rects, board, art.side(axis, sign))
            printed.append(outer)
            bare.append(inner)
            size, centre = half.copy(), np.zeros(3)
            size[axis], centre[axis] = board / 2, sign * (half[axis] - board / 2)
            solids.append(Solid("box", vec(size), Pose(vec(centre))))
    parts: list[Part] = []
    segments = [Segment()]
    axis, sign = plan.axis, plan.sign
    i, j, _ = in_plane(axis)
    uv = art.side(axis, sign)
    out = np.zeros(3)
    out[axis] = sign
    # Times a flap's weight: a flap that is hardly lifted hangs on by its glue, and is stiff.
    stiffness = float(rng.uniform(2.0, 5.0)) * (1 + 6 * (1 - severity) ** 2)
    for flap in _flaps(half[i], half[j], board, severity, rng):
        top = sign * (half[axis] - flap.drop)
        extent = (flap.first, flap.second)[flap.hinged]
        reach = extent[1] - extent[0]
        hinge = extent[flap.end]
        curl = float(rng.uniform(0.0, 0.07)) * reach * severity if flap.angle > 0 else 0.0

        def lift(
            p: F64, q: F64, f: _Flap = flap, h: float = hinge, r: float = reach, c: float = curl
        ) -> F64:
            bent: F64 = c * ((p if f.hinged == 0 else q) - h) ** 2 / r**2
            return bent

        cells = (6, 6)
        torn = rng.normal(0, 1, 7).cumsum() * 0.0012 * (0.3 + severity)
        torn = np.clip(torn - torn[0], -0.006, 0.006) * (flap.drop == 0)
        # A torn edge only ever loses board: longer, it would not fit when closed.
        torn = -np.abs(torn) if flap.end == 0 else np.abs(torn)
        ragged = (flap.hinged, 1 - flap.end, torn)
        outer, inner = plate(
            axis, sign, top, flap.first, flap.second, board, uv,
            cells=cells, lift=lift, ragged=ragged,
        )  # fmt: skip
        if flap.angle == 0.0:
            printed.append(outer)
            bare.append(inner)
        else:
            number = len(segments)
            parts += [Part(outer, art.surface, number), Part(inner, inside, number)]
            anchor, inward = np.zeros(3), np.zeros(3)
            k = (i, j)[flap.hinged]
            anchor[k], anchor[axis] = hinge, top
            inward[k] = -1.0 if flap.end else 1.0
            area = (flap.first[1] - flap.first[0]) * (flap.second[1] - flap.second[0])
            weight = BOARD_KG_M2 * area * 9.81 * reach / 2  # N m, held out flat
            spring = float(stiffness * weight)
            inertia = BOARD_KG_M2 * area * reach**2 / 3
            segments.append(
                Segment(
                    0,
                    vec(anchor),
                    vec(np.cross(inward, out)),
                    spring,
                    0.5 * float(np.sqrt(spring * inertia)),
                    (-0.02, FULL_TURN_RAD),
                    flap.angle,
                )
            )
        size, centre = np.zeros(3), np.zeros(3)
        for k, (low, high) in zip((i, j), (flap.first, flap.second), strict=True):
            size[k], centre[k] = max((high - low) / 2 - 0.002, 0.002), (high + low) / 2
        size[axis], centre[axis] = board / 2, top - sign * board / 2
        where = len(segments) - 1 if flap.angle else 0
        solids.append(Solid("box", vec(size), Pose(vec(centre)), where))
    parts = [
        Part(join(*printed), art.surface, 0),
        Part(join(*bare), inside, 0),
        *stuck_parts(plan.stuck),
        *parts,
    ]
    for piece in plan.stuck:
        _, _, solid = piece_mesh(piece)
        solids.append(Solid(solid.shape, solid.size, compose(Pose(piece.centre), solid.pose)))
    return Body(tuple(parts), tuple(solids), whole.mass_kg, tuple(segments), whole.friction)


def book(whole: Body, product: Product, seed: int, severity: float, sign: int) -> Body:
    """Return a book whose cover, and at worse severities some leaves, stand open.

    `sign`: 1 opens the front cover (+z), -1 the back one. The spine is at -y.
    """
    rng = dice(product, seed, 303)
    art = Print(whole)
    board = WALL_M["book"]
    x, y, z = (float(v) / 2 for v in product.size_m)
    board = min(board, z / 3)
    back_cover = plate(2, -sign, -sign * z, (-x, x), (-y, y), board, art.side(2, -sign))
    spine = plate(1, -1, -y, (-x, x), (-z, z), board, art.side(1, -1))
    text = Surface(paper(rng, "leaflet", (0.3, 0.3, 0.32), 128), specular=0.02)
    worst = float(np.radians(5 + rng.uniform(100, 162) * severity**1.1))
    leaves = 2 * (z - board) * (0.12 if severity > 0.35 else 0.0)
    edge = 0.003
    block = soft_block((2 * (x - edge), 2 * y - edge - board, 2 * (z - board) - leaves), 0.0, 2)
    block.vertices[:, 1] += (board - edge) / 2
    block.vertices[:, 2] -= sign * leaves / 2
    parts = [
        Part(join(back_cover[0], spine[0]), art.surface, 0),
        Part(join(back_cover[1], spine[1]), WHITE, 0),
        Part(block, text, 0),
    ]
    solids = [
        Solid(
            "box",
            (x, y, z - board - leaves / 2 - 0.0005),
            Pose((0, 0, -sign * (leaves + board) / 2)),
        )
    ]
    segments = [Segment()]
    curl = float(rng.uniform(0.02, 0.1)) * y * severity
    sheaves = [(board, z, worst, True)]
    if leaves:
        sheaves.append((leaves, z - board, worst * float(rng.uniform(0.3, 0.8)), False))
    for thick, top, angle, cover in sheaves:
        uv = art.side(2, sign) if cover else np.array([[0.45 / x, 0], [0, -0.45 / y], [0.5, 0.5]])
        reach: Extent = (-y, y) if cover else (-y + board, y - edge)
        wide: Extent = (-x, x) if cover else (-x + edge, x - edge)
        out, under = plate(
            2, sign, sign * top, wide, reach, thick, uv, cells=(2, 8),
            lift=lambda p, q: curl * ((q + y) / (2 * y)) ** 2,
        )  # fmt: skip
        k = len(segments)
        parts += [Part(out, art.surface if cover else text, k), Part(under, WHITE, k)]
        mass = 4 * x * y * (BOARD_KG_M2 if cover else 0.4)
        spring = float(rng.uniform(3.0, 6.0) * (1 + 4 * (1 - severity) ** 2) * mass * 9.81 * y)
        damping = 0.5 * float(np.sqrt(spring * mass * (2 * y) ** 2 / 3))
        segments.append(
            Segment(
                0, (0, -y, sign * top), (sign, 0, 0), spring, damping, (-0.02, FULL_TURN_RAD), angle
            )
        )
        half: Vec3 = (x - 0.002, y - 0.003, max(thick / 2, 0.0007))
        solids.append(Solid("box", half, Pose((0, 0.001, sign * (top - thick / 2))), k))
    return Body(tuple(parts), tuple(solids), whole.mass_kg, tuple(segments), whole.friction)
