"""Boxes, cartons, books and blister packs: things of flat faces."""

from __future__ import annotations

import numpy as np

from robollm.sim.products.artwork import Atlas
from robollm.sim.products.shapes_mesh import SIDES, grid, join, rounded_box
from robollm.sim.products.shapes_things import thing
from robollm.sim.world import Body, Mesh, Part, Pose, Product, Solid, Surface, Vec3


def box(product: Product, atlas: Atlas, seed: int) -> Body:
    """Make a folding box or a carton: edges a little round, large sides a little sunk in."""
    rng = np.random.default_rng([21, seed, product.look["art"]])
    x, y, z = product.size_m
    stiff = product.kind == "carton"
    radius = min((0.0035 if stiff else 0.002), 0.12 * z)
    crown = -float(rng.uniform(0.0, 0.0012 if stiff else 0.0008))
    mesh = rounded_box((x, y, z), radius, atlas.faces, crown=crown)
    surface = Surface(atlas.texture, specular=0.08 if stiff else 0.25, shininess=0.2)
    solid = Solid("box", (x / 2, y / 2, z / 2))
    return Body((Part(mesh, surface),), (solid,), product.weight_kg, friction=0.55)


def book(product: Product, atlas: Atlas, seed: int) -> Body:
    """Make a book: two covers and a spine around a block of pages that stays behind them."""
    x, y, z = product.size_m
    thick = min(0.003 if product.look["shape"]["hard"] else 0.001, 0.2 * z)
    behind = 0.0022 if product.look["shape"]["hard"] else 0.0012
    pages = dict.fromkeys(SIDES, atlas.faces["pages"])
    spine = {**pages, "south": atlas.faces["spine"]}
    front = dict.fromkeys(pages, atlas.faces["front"])
    back = dict.fromkeys(pages, atlas.faces["back"])
    mesh = join(
        [
            rounded_box((x, y, thick), thick / 3, front, (0, 0, (z - thick) / 2)),
            rounded_box((x, y, thick), thick / 3, back, (0, 0, (thick - z) / 2)),
            rounded_box((x, thick, z - thick), thick / 3, spine, (0, (thick - y) / 2, 0)),
            rounded_box((x - 2 * behind, y - behind - thick / 2, z - 1.8 * thick), 0.0006, pages,
                        (0, (thick / 2 - behind) / 2, 0)),
        ]
    )  # fmt: skip
    surface = Surface(atlas.texture, specular=0.3, shininess=0.4)
    solid = Solid("box", (x / 2, y / 2, z / 2))
    return Body((Part(mesh, surface),), (solid,), product.weight_kg, friction=0.5)


def blister(product: Product, atlas: Atlas, seed: int) -> Body:
    """Make a card with a clear bubble over a thing."""
    x, y, z = product.size_m
    card = 0.0012
    sides = {**dict.fromkeys(SIDES, atlas.faces["back"]), "front": atlas.faces["front"]}
    board = rounded_box((x, y, card), 0.0004, sides, (0, 0, (card - z) / 2))
    # The bubble sits low on the card, below the name, and leaves a margin.
    bx, by, bz = 0.5 * x, 0.78 * y, z - card
    centre = (-0.5 * x + 0.06 * x + bx / 2, 0.0, (card - z) / 2 + card / 2 + bz / 2)
    bubble = _bubble((bx, by, bz), centre)
    inside = (0.86 * bx, 0.84 * by, 0.9 * bz)
    at = (centre[0], centre[1], centre[2] - 0.04 * bz)
    goods = thing(int(product.look["shape"]["thing"]), inside, at, atlas.faces["thing"])
    base = Solid("box", (x / 2, y / 2, card / 2), Pose((0, 0, (card - z) / 2)))
    floor = (card - z) / 2 + card / 2
    vault = [
        Solid("box", (share * bx / 2, share * by / 2, rise * bz / 2),
              Pose((centre[0], 0, floor + rise * bz / 2)))
        for share, rise in ((0.995, 0.64), (0.965, 0.9), (0.92, 1.0))
    ]  # fmt: skip
    return Body(
        (
            Part(board, Surface(atlas.texture, specular=0.3, shininess=0.4)),
            Part(goods, Surface(atlas.texture, specular=0.3, shininess=0.4)),
            Part(bubble, Surface(None, (0.93, 0.96, 0.98, 0.22), 0.9, 0.8)),
        ),
        (base, *vault),
        product.weight_kg,
        friction=0.45,
    )


def _bubble(size: Vec3, centre: Vec3) -> Mesh:
    """Return a vaulted cover with slightly leaning walls, open below."""
    x, y, z = (v / 2 for v in size)
    t = np.array([1.0, 0.985, 0.95, 0.9, 0.5, 0.0])
    lean = np.concatenate([-t, t[:-1][::-1]])
    rise = np.array([0.0, 0.55, 0.85, 0.97, 1.0, 1.0])
    up = np.concatenate([rise, rise[:-1][::-1]])
    gx, gy = np.meshgrid(lean * x, lean * y)
    height = np.minimum(up[:, None], up[None, :]) * 2 * z - z
    points = np.stack([gx, gy, height], axis=-1) + np.asarray(centre)
    return grid(points, np.zeros((*gx.shape, 2)))
