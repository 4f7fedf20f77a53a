"""Opened packages and their content: shapes, hinges, and that nothing pokes through a wall."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.sim.geometry import apply
from robollm.sim.products import damage
from robollm.sim.products.catalogue import make_catalogue
from robollm.sim.products.damage_content import WALL_M, layout, piece_mesh
from robollm.sim.products.damage_mesh import Print, face_normals, lathe, sheet, soft_block
from robollm.sim.products.multipack import units
from robollm.sim.products.shapes import whole
from robollm.sim.world import KINDS, Kind, Pose, Product

SEEDS = (damage.VARIANT + 1, 5 * damage.VARIANT + 2)


def _one_of_each() -> dict[Kind, Product]:
    found: dict[Kind, Product] = {}
    for product in make_catalogue(3, 120, "train"):
        found.setdefault(product.kind, product)
    return found


PRODUCTS = _one_of_each()


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_the_same_vertices_and_pixels(kind: Kind) -> None:
    product = PRODUCTS[kind]
    first = damage.opened(product, SEEDS[0], 0.7)
    damage.opened.cache_clear()
    second = damage.opened(product, SEEDS[0], 0.7)
    assert first is not second
    assert first.segments == second.segments
    assert first.solids == second.solids
    for a, b in zip(first.parts, second.parts, strict=True):
        assert a.mesh.vertices.tobytes() == b.mesh.vertices.tobytes()
        assert a.mesh.faces.tobytes() == b.mesh.faces.tobytes()
        if a.surface.texture is not None and b.surface.texture is not None:
            assert a.surface.texture.tobytes() == b.surface.texture.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("severity", [0.0, 0.5, 1.0])
def test_meshes_are_sound(kind: Kind, severity: float) -> None:
    for seed in SEEDS:
        body = damage.opened(PRODUCTS[kind], seed, severity)
        for part in body.parts:
            assert np.isfinite(part.mesh.vertices).all()
            assert part.mesh.faces.max() < len(part.mesh.vertices)
            assert part.segment is None or part.segment < len(body.segments)
        assert all(min(s.size[:2]) > 0 and s.segment < len(body.segments) for s in body.solids)
        assert all(s.parent == -1 or s.parent < k for k, s in enumerate(body.segments))


@pytest.mark.parametrize("kind", KINDS)
def test_a_worse_case_gapes_wider(kind: Kind) -> None:
    product, gaps = PRODUCTS[kind], []
    for severity in (0.0, 0.3, 1.0):
        body = damage.opened(product, SEEDS[0], severity)
        poses = damage.rest_poses(body, Pose())
        gaps.append(damage.gap_m(product, SEEDS[0], severity, poses))
    assert all(a < b for a, b in pairwise(gaps))
    assert 0.002 < gaps[0] < 0.03


@pytest.mark.parametrize("kind", ["box", "carton"])
def test_content_lies_inside_the_walls_and_apart(kind: Kind) -> None:
    product = PRODUCTS[kind]
    for seed in range(0, 24 * damage.VARIANT, damage.VARIANT):
        for severity in (0.0, 0.4, 1.0):
            plan = layout(product, seed, severity)
            room = np.asarray(product.size_m) / 2 - WALL_M[kind]
            boxes = []
            for piece in (*plan.stuck, *plan.loose):
                vertices = piece_mesh(piece)[0].vertices + piece.centre
                assert (np.abs(vertices) < room).all()
                boxes.append((vertices.min(0), vertices.max(0)))
            for k, (low, high) in enumerate(boxes):
                for other_low, other_high in boxes[:k]:
                    overlap = np.minimum(high, other_high) - np.maximum(low, other_low)
                    assert overlap.min() < 1e-4


@pytest.mark.parametrize("kind", ["box", "carton", "book"])
def test_flaps_rest_at_their_angles_and_open_outwards(kind: Kind) -> None:
    product = PRODUCTS[kind]
    for seed in SEEDS:
        body = damage.opened(product, seed, 1.0)
        poses = damage.rest_poses(body, Pose((0.1, 0.2, 0.3), (0.6, 0.8, 0.0, 0.0)))
        angles = damage.hinge_angles(body, poses)
        assert np.allclose(angles, [s.rest_rad for s in body.segments[1:]])
        assert len(angles) >= 2
        flat = damage.rest_poses(body, Pose())
        way = np.asarray(damage.mouth(product, seed))
        closed = max(float((p.mesh.vertices @ way).max()) for p in body.parts if p.segment == 0)
        for part in body.parts:
            if part.segment:
                pose = flat[part.segment]
                assert float((apply(pose, part.mesh.vertices) @ way).max()) > closed


def test_a_box_keeps_its_print_where_it_was() -> None:
    product = PRODUCTS["box"]
    body = whole(product, 1)
    art = Print(body)
    mesh = art.part.mesh
    normals = face_normals(mesh)
    sizes = np.linalg.norm(normals, axis=1)
    top = mesh.faces[(normals[:, 2] > 0.99 * sizes) & (sizes > np.quantile(sizes, 0.9))]
    corners = np.unique(top)
    places = np.column_stack([mesh.vertices[corners][:, :2], np.ones(len(corners))])
    assert np.abs(places @ art.side(2, 1) - mesh.uv[corners]).max() < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_every_piece_has_a_body_and_a_place_inside(kind: Kind) -> None:
    product = PRODUCTS[kind]
    for severity in (0.1, 1.0):
        count = damage.content_count(product, SEEDS[0], severity)
        assert 1 <= count <= 5
        for piece in range(count):
            body = damage.content(product, SEEDS[0], severity, piece)
            place = damage.content_place(product, SEEDS[0], severity, piece)
            assert 0.001 < body.mass_kg < max(1.0, product.weight_kg)
            assert (np.abs(place.position) <= np.asarray(product.size_m) / 2).all()


def test_small_solids_have_their_outside_outside() -> None:
    rng = np.random.default_rng(1)
    block = soft_block((0.1, 0.06, 0.03))
    jar = lathe([(-0.05, 0.0), (-0.05, 0.02), (0.05, 0.02), (0.05, 0.0)])
    for mesh in (block, jar):
        middle = mesh.vertices[mesh.faces].mean(1)
        assert ((face_normals(mesh) * middle).sum(1) > -1e-12).all()
    paper = sheet((0.1, 0.1), 0.0001, rng)
    up = face_normals(paper)[:, 2] > 0
    assert up.sum() * 2 == len(up)


def test_impossible_requests_say_what_is_wrong() -> None:
    product = PRODUCTS["box"]
    with pytest.raises(ConfigError, match=r"severity is 1\.5"):
        damage.opened(product, 1, 1.5)
    with pytest.raises(ConfigError, match="piece 99 of the content"):
        damage.content(product, 1, 0.5, 99)


def test_a_multipack_does_not_open() -> None:
    pack = next(p for p in make_catalogue(3, 300, "train") if units(p) > 1)
    with pytest.raises(ConfigError, match="is a multipack"):
        damage.opened(pack, SEEDS[0], 0.5)
    with pytest.raises(ConfigError, match="is a multipack"):
        damage.mouth(pack, SEEDS[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_shut_package_is_cut_as_the_open_one_and_can_not_open(kind: Kind) -> None:
    product = PRODUCTS[kind]
    shut = damage.closed(product, SEEDS[0], 0.6)
    opened = damage.opened(product, SEEDS[0], 0.6)
    if not any(segment.axis for segment in opened.segments):
        assert len(shut.segments) == len(whole(product, 1).segments)
        return
    assert len(shut.segments) == 1
    assert {part.segment for part in shut.parts} == {0}
    for mine, other in zip(shut.parts, opened.parts, strict=True):
        assert np.array_equal(mine.mesh.vertices, other.mesh.vertices)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_books_cover_carries_the_print_of_its_own_side(sign: int) -> None:
    body = whole(PRODUCTS["book"], 0)
    uv = Print(body).side(2, sign)
    part = max(body.parts, key=lambda p: np.ptp(p.mesh.vertices[:, 2]))
    mesh = part.mesh
    facing = face_normals(mesh)[:, 2] * sign > 0
    height = mesh.vertices[mesh.faces].mean(1)[:, 2] * sign
    corners = np.unique(mesh.faces[facing & (height > height.max() - 1e-4)])
    at = np.column_stack([mesh.vertices[corners][:, :2], np.ones(len(corners))])
    assert np.abs(at @ uv - mesh.uv[corners]).max() < 1e-3
