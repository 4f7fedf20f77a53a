"""The totes: plastic crates with tapered walls, rounded corners, ribs and a rim.

What collides is exactly the inside of what is drawn: the floor, the four walls and the facets of
the rounded corners are half-spaces, each filled by one box behind it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from robollm.sim.geometry import quaternion
from robollm.sim.physics import totes_mesh, totes_paint
from robollm.sim.world import Body, Part, Pose, Rgb, Solid, Surface, Tote

_YELLOW: Rgb = (0.93, 0.70, 0.10)
_BLUE: Rgb = (0.11, 0.26, 0.56)
_GREY: Rgb = (0.50, 0.52, 0.54)
_LARGE = (0.555, 0.355, 0.285)  # inside a crate of 0.60 x 0.40 x 0.29 m
_SMALL = (0.362, 0.262, 0.195)  # inside a crate of 0.40 x 0.30 x 0.20 m

TOTES: dict[str, Tote] = {
    tote.name: tote
    for tote in (
        Tote("yellow_large", _YELLOW, _LARGE, style=0, seed=1),
        Tote("yellow_small", _YELLOW, _SMALL, style=0, seed=2),
        Tote("blue_large", _BLUE, _LARGE, style=1, seed=3),
        Tote("blue_small", _BLUE, _SMALL, style=1, seed=4),
        Tote("grey_large", _GREY, _LARGE, style=0, seed=5),
        Tote("grey_small", _GREY, _SMALL, style=1, seed=6),
    )
}
"""The totes of training, validation and test, by name."""

ZOOMED_OUT: dict[str, Tote] = {
    tote.name: tote
    for tote in (
        Tote("black_pallet", (0.055, 0.055, 0.06), (0.70, 0.46, 0.33), style=2, seed=11),
        Tote("green_deep", (0.09, 0.36, 0.20), (0.70, 0.46, 0.33), style=2, seed=12),
        Tote("clear_shallow", (0.86, 0.88, 0.90), (0.62, 0.42, 0.24), style=3, seed=13),
    )
}
"""The totes of the zoomed-out split, by name. Training never sees one of these."""

_DEEP = 0.03  # m, how far a wall's box reaches outwards: too thick to be tunnelled through


@lru_cache(maxsize=16)
def tote_body(tote: Tote) -> Body:
    """Return the body of a tote, at rest in the world frame; it doesn't move.

    Parts: floor, inner walls, outside. Solids: what encloses the content. The mass is that of a
    crate of this size and plays no role in a scene.
    """
    mesh = totes_mesh.meshes(tote)
    alpha = 0.6 if tote.style == 3 else 1.0
    gloss = 0.35 if tote.style == 3 else 0.22
    rng = np.random.default_rng([tote.seed, tote.style, 71])
    textures = (
        totes_paint.floor(tote, rng),
        totes_paint.inside(tote, rng),
        totes_paint.outside(tote, rng),
    )
    parts = tuple(
        Part(m, Surface(texture, (1.0, 1.0, 1.0, alpha), gloss, 0.25), 0)
        for m, texture in zip(mesh, textures, strict=True)
    )
    return Body(parts, _solids(tote), mass_kg=6.0 * float(np.prod(tote.inner_m)) ** (2 / 3))


def _solids(tote: Tote) -> tuple[Solid, ...]:
    """Return the boxes behind the floor, the walls and the corners' facets."""
    length, width, depth = tote.inner_m
    side = max(length, width)
    floor = Solid("box", (length / 2 + _DEEP, width / 2 + _DEEP, _DEEP), Pose((0.0, 0.0, -_DEEP)))
    out = [floor]
    for normal, point, half_width in totes_mesh.planes(tote):
        # The box's local frame: x outwards, y along the wall, z up the slope.
        z = np.cross(normal, np.cross((0.0, 0.0, 1.0), normal))
        z /= np.linalg.norm(z)
        up = depth / float(z[2])
        frame = np.stack([normal, np.cross(z, normal), z], axis=1)
        centre = point + normal * _DEEP + z * up / 2
        half = (_DEEP, min(half_width, side), up / 2)
        x, y, h = (float(v) for v in centre)
        out.append(Solid("box", half, Pose((x, y, h), quaternion(frame))))
    return tuple(out)
