"""Totes: what collides is what is drawn, and no training tote looks like a zoomed-out one."""

import numpy as np
import pytest

from robollm.sim.geometry import apply, inverse
from robollm.sim.physics.totes import TOTES, ZOOMED_OUT, tote_body
from robollm.sim.physics.totes_mesh import STEP, half_sides, planes

ALL = {**TOTES, **ZOOMED_OUT}


def test_yellow_blue_and_grey_come_in_two_sizes() -> None:
    assert sorted(TOTES) == [
        f"{c}_{s}" for c in ("blue", "grey", "yellow") for s in ("large", "small")
    ]
    assert all(name == tote.name for name, tote in ALL.items())


def test_zoomed_out_totes_share_neither_name_nor_colour_nor_size_with_training() -> None:
    assert not set(TOTES) & set(ZOOMED_OUT)
    for field in ("colour", "inner_m", "style", "seed"):
        seen = {getattr(t, field) for t in TOTES.values()}
        assert not seen & {getattr(t, field) for t in ZOOMED_OUT.values()}


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_solids_faces_lie_in_the_drawn_inner_walls(name: str) -> None:
    tote = ALL[name]
    body = tote_body(tote)
    inner = np.concatenate([body.parts[0].mesh.vertices, body.parts[1].mesh.vertices])
    below = inner[inner[:, 2] < tote.inner_m[2] - 0.005]  # the rim's edge is rounded
    for solid in body.solids:
        local = apply(inverse(solid.pose), below)
        inside = (np.abs(local) < np.array(solid.size) - (STEP + 1e-4)).all(axis=1)
        # Only the tunnels of the handles run through the walls.
        assert tote.style != 3 or not inside.any()
    # Every plane of the solids is met by drawn points.
    for normal, point, _ in planes(tote):
        assert np.abs((inner - point) @ normal).min() < 1e-6


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_point_well_inside_is_free_and_one_beyond_a_wall_is_not(name: str) -> None:
    tote = ALL[name]
    rng = np.random.default_rng(1)
    for z in rng.uniform(0.01, tote.inner_m[2] - 0.01, 20):
        hx, hy = half_sides(tote, float(z))
        for x, y, free in (
            (hx - 0.0015, 0.0, True), (hx + 0.0005, 0.0, False),
            (0.0, -hy + 0.0015, True), (0.0, -hy - 0.0005, False),
            (hx - 0.001, hy - 0.001, False),  # beyond the rounded corner
        ):  # fmt: skip
            hit = any(
                (np.abs(apply(inverse(s.pose), np.array([[x, y, z]]))) < s.size).all()
                for s in tote_body(tote).solids
            )
            assert hit is not free


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_tote_has_a_lip_and_textures_in_its_own_colour(name: str) -> None:
    tote = ALL[name]
    body = tote_body(tote)
    outer = body.parts[2].mesh.vertices
    assert (np.ptp(outer, axis=0)[:2] > np.array(tote.inner_m[:2]) + 0.03).all()
    for part in body.parts:
        assert part.mesh.faces.max() < len(part.mesh.vertices)
        assert part.mesh.uv.min() >= 0
        assert part.mesh.uv.max() <= 1
        assert part.surface.texture is not None
        mean = part.surface.texture.reshape(-1, 3).mean(axis=0) / 255
        assert np.abs(mean - tote.colour).max() < 0.15


def test_the_inner_walls_face_inwards_and_the_floor_faces_up() -> None:
    body = tote_body(TOTES["yellow_large"])
    floor, walls = (part.mesh for part in body.parts[:2])
    a, b, c = (floor.vertices[floor.faces[:, k]] for k in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()
    a, b, c = (walls.vertices[walls.faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    wall = np.abs(normal[:, 2]) < 0.1 * np.linalg.norm(normal, axis=1)
    inwards = -np.sum(normal * (a + b + c) * (1, 1, 0), axis=1)
    area = np.linalg.norm(normal, axis=1)
    assert area[wall & (inwards < 0)].sum() < 0.02 * area.sum()  # the handles' tunnels


def test_the_same_tote_is_painted_the_same_and_another_seed_is_not() -> None:
    tote = TOTES["blue_small"]
    first = tote_body(tote).parts[1].surface.texture
    tote_body.cache_clear()
    again = tote_body(tote).parts[1].surface.texture
    assert first is not None
    assert np.array_equal(first, again)
    other = tote_body(TOTES["grey_small"]).parts[1].surface.texture
    assert not np.array_equal(first, other)
