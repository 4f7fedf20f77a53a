"""Bottles, cans and tubes: things made of sections along an axis."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from robollm.sim.products.artwork import Atlas
from robollm.sim.products.shapes_mesh import around, join, revolved, uv_of
from robollm.sim.world import Body, Mesh, Part, Pose, Product, Solid, Surface

F64 = NDArray[np.float64]
_ALONG_X = (0.7071067811865476, 0.0, 0.7071067811865476, 0.0)  # local z becomes x


def bottle(product: Product, atlas: Atlas, seed: int) -> Body:
    """Make a bottle that lies along x, its cap at +x, its label facing up."""
    x, y, z = product.size_m
    shape = product.look["shape"]
    end = x / 2 - shape["cap"] * x  # where the cap begins
    neck = min(shape["neck"], 0.9 * z / y if shape["oval"] else 0.9) * y / 2
    lift = (0.16, 0.22, 0.3, 0.12)[shape["style"]] * x  # length of the shoulder
    shoulder = end - lift
    body = np.array([
        [-x / 2, 0.86, 0.86], [-x / 2 + 0.004, 0.95, 0.95], [-x / 2 + 0.012, 1, 1],
        [-x / 2 + 0.06 * x, 1, 1], [shoulder, 1, 1],
    ]) * (1, y / 2, z / 2)  # fmt: skip
    t = np.linspace(0, 1, 6)[1:]
    bend = np.cos(t * np.pi / 2) if shape["style"] % 2 else (1 + np.cos(t * np.pi)) / 2
    curve = np.stack([shoulder + t * lift, neck + (y / 2 - neck) * bend,
                      np.minimum(neck, z / 2) + (z / 2 - min(neck, z / 2)) * bend], 1)  # fmt: skip
    hull = np.concatenate([body, curve])
    low = hull[3, 0]
    high = min(shoulder, low + 0.5 * x)
    girth = 28
    label = np.array([[low, y / 2, z / 2], [high, y / 2, z / 2]])
    across = (np.arange(girth + 1) / girth)[None, :]
    plain = uv_of(atlas.faces["body"], across, np.array([[0.5]]))
    below, above = hull[:4], np.concatenate([label[1:], hull[4:]])
    cap_wide = min(neck * 1.12, z / 2)
    cap = np.array([
        [end - 0.001, 0.9, 0.9], [end, 1, 1], [x / 2 - 0.003, 1, 1], [x / 2, 0.9, 0.9]
    ]) * (1, cap_wide, cap_wide)  # fmt: skip
    mesh = join([
        _closed(below, np.broadcast_to(plain, (4, girth + 1, 2)), first=True, turns=girth),
        revolved(label, around(atlas.faces["wrap"], label, girth), girth),
        revolved(above, np.broadcast_to(plain, (len(above), girth + 1, 2)), girth),
        _closed(cap, around(atlas.faces["cap"], cap, girth), first=True, last=True, turns=girth),
    ])  # fmt: skip
    solids = [*_stack(hull), *_stack(cap[1:])]
    surface = Surface(atlas.texture, specular=0.6, shininess=0.6)
    return Body((Part(mesh, surface),), tuple(solids), product.weight_kg, friction=0.4)


def can(product: Product, atlas: Atlas, seed: int) -> Body:
    """Make a can with metal rims; a flat one stands on its lid, a tall one lies along x."""
    x, y, z = product.size_m
    flat = product.look["shape"]["flat"]
    long, r = (z / 2, x / 2) if flat else (x / 2, y / 2)
    rim = min(0.004, 0.12 * long)
    inset = 0.0012

    def ring(values: list[tuple[float, float]]) -> F64:
        return np.array([[at, radius, radius] for at, radius in values])

    side = ring([(-long + rim, r - inset), (-0.3 * long, r - inset), (0.3 * long, r - inset),
                 (long - rim, r - inset)])  # fmt: skip
    bottom = ring([(-long, r - 0.8 * rim), (-long, r - 0.0006), (-long + 0.0008, r),
                   (-long + 0.8 * rim, r), (-long + rim, r - inset)])  # fmt: skip
    top = bottom[::-1] * (-1, 1, 1)
    metal = atlas.faces["metal"]
    parts = [
        revolved(side, around(atlas.faces["wrap"], side)),
        revolved(bottom, around(metal, bottom)),
        revolved(top, around(metal, top)),
    ]
    for sign in (-1.0, 1.0):
        parts.append(_lid(sign * (long - 0.0015), r - 0.8 * rim, sign, atlas))
        wall = ring([(long - 0.0015, r - 0.8 * rim), (long, r - 0.8 * rim)])
        wall = wall[::-1] if sign > 0 else wall * (-1, 1, 1)
        parts.append(revolved(wall, around(metal, wall)))
    mesh = join(parts)
    solid = Solid("cylinder", (r, long, 0.0), Pose((0, 0, 0), _ALONG_X))
    if flat:  # x becomes z, and what faced up faces +y
        mesh = Mesh(mesh.vertices[:, [1, 2, 0]], mesh.faces, mesh.uv)
        solid = Solid("cylinder", (r, long, 0.0))
    surface = Surface(atlas.texture, specular=0.5, shininess=0.6)
    return Body((Part(mesh, surface),), (solid,), product.weight_kg, friction=0.4)


def tube(product: Product, atlas: Atlas, seed: int) -> Body:
    """Make a squeezable tube along x: cap at -x, flat crimped seam at +x."""
    x, y, z = product.size_m
    cap_long = product.look["shape"]["cap"] * x
    start = -x / 2 + cap_long
    t = np.linspace(0, 1, 9)
    crimp = x / 2 - 0.008
    wide0 = 0.86 * z / 2 / 0.5 * 0.5
    wide = z / 2 + (y / 2 - z / 2) * t
    high = np.maximum(z / 2 * np.sqrt(np.clip(1 - t**1.7, 0, 1)), 0.0011)
    hull = np.stack([start + 0.01 + t * (crimp - start - 0.01), wide, high], axis=1)
    neck = np.array(
        [[start, 0.6 * wide0, 0.6 * wide0], [start + 0.006, 0.94 * z / 2, 0.94 * z / 2]]
    )
    seam = np.array([[crimp + 0.0002, y / 2, 0.0011], [x / 2, y / 2, 0.0009]])
    skin = np.concatenate([neck, hull, seam])
    cap_r = 0.86 * z / 2
    cap = np.array([
        [-x / 2, 0.92, 0.92], [-x / 2 + 0.002, 1, 1], [start - 0.0005, 1, 1], [start, 0.96, 0.96]
    ]) * (1, cap_r, cap_r)  # fmt: skip
    turns = 28
    mesh = join([
        _closed(skin, around(atlas.faces["wrap"], skin, turns), first=True, last=True, turns=turns),
        _closed(cap, around(atlas.faces["cap"], cap, turns), first=True, last=True, turns=turns),
    ])  # fmt: skip
    surface = Surface(atlas.texture, specular=0.5, shininess=0.5)
    solids = (*_stack(cap[1:]), *_stack(skin))
    return Body((Part(mesh, surface),), solids, product.weight_kg, friction=0.5)


def _closed(
    stations: F64, uv: F64, *, first: bool = False, last: bool = False, turns: int = 32
) -> Mesh:
    """Return a revolved body with its first and last section closed by flat ends."""
    parts = [revolved(stations, uv, turns)]
    for wanted, row, i in ((first, [0.0, 1.0], 0), (last, [1.0, 0.0], -1)):
        if wanted:
            ring = np.stack(
                [stations[i] * (1, max(share, 1e-3), max(share, 1e-3)) for share in row]
            )
            parts.append(revolved(ring, np.broadcast_to(uv[i], (2, *uv[i].shape)), turns))
    return join(parts)


def _lid(at: float, radius: float, sign: float, atlas: Atlas) -> Mesh:
    """Return a disc that shows the lid's print, seen from outside."""
    rings = np.array([[at, 0.001 * radius, 0.001 * radius], [at, radius, radius]])
    rings = rings if sign < 0 else rings[::-1]
    angle = 2 * np.pi * np.arange(33) / 32
    share = rings[:, 1:2] / radius
    right = 0.5 + 0.5 * sign * share * np.sin(angle)
    down = 0.5 + 0.5 * share * np.cos(angle)
    return revolved(rings, uv_of(atlas.faces["lid"], right, down))


def _stack(stations: F64, step: float = 0.0022) -> list[Solid]:
    """Return solids that wrap sections (as `revolved` takes them) to within `step` m or so."""
    solids: list[Solid] = []
    first = 0
    while first < len(stations) - 1:
        last = first + 1
        while last < len(stations) - 1 and _spread(stations[first : last + 2]) < 2 * step:
            last += 1
        x1, x2 = stations[first, 0], stations[last, 0]
        parts = max(1, int(np.ceil(_spread(stations[first : last + 1]) / (2 * step))))
        edges = np.linspace(x1, x2, parts + 1)
        for a, b in pairwise(edges):
            middle = (a + b) / 2
            wide = float(np.interp(middle, stations[:, 0], stations[:, 1]))
            high = float(np.interp(middle, stations[:, 0], stations[:, 2]))
            solids += _slice(float(a), float(b), wide, high)
        first = last
    return solids


def _spread(stations: F64) -> float:
    return float(np.ptp(stations[:, 1:], axis=0).max())


def _slice(x1: float, x2: float, wide: float, high: float) -> list[Solid]:
    """Return the solids of one stretch with a stadium for a section."""
    half, middle = (x2 - x1) / 2, (x1 + x2) / 2
    if high < 0.004:
        return [Solid("box", (half, wide, high), Pose((middle, 0, 0)))]
    if wide - high < 0.001:
        r = max(wide, high)
        return [Solid("cylinder", (r, half, 0.0), Pose((middle, 0, 0), _ALONG_X))]
    off = wide - high
    out = [Solid("cylinder", (high, half, 0.0), Pose((middle, sign * off, 0), _ALONG_X))
           for sign in (-1.0, 1.0)]  # fmt: skip
    out.append(Solid("box", (half, off, high), Pose((middle, 0, 0))))
    return out
