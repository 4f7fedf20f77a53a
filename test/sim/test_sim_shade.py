from __future__ import annotations

import numpy as np
import pytest

from robollm.sim.geometry import look_at
from robollm.sim.render.shade import GBuffer, crevices, develop_film, enlarge, shade
from robollm.sim.render.shade_maps import Blocker, aim, seen, sky_directions
from robollm.sim.world import Camera, Light, Lighting

UP = np.array([0, 0, 1], np.float32)


def floor(h: int, w: int, pitch: float = 0.002) -> np.ndarray:
    """Points [h, w, 3] on z = 0 around the origin, x right, y up as a camera above sees them."""
    x = (np.arange(w) - w / 2 + 0.5) * pitch
    y = (h / 2 - 0.5 - np.arange(h)) * pitch
    gx, gy = np.meshgrid(x, y)
    return np.dstack([gx, gy, np.zeros_like(gx)]).astype(np.float32)


def normals(h: int, w: int) -> np.ndarray:
    return np.tile(UP, (h, w, 1))


def slab(spread: float, height: float = 0.05, side: int = 288) -> Blocker:
    """A lamp straight above; a plate 10 cm wide along x, endless along y, hangs below it."""
    view = aim((0.0, 0.0, 1.0), (0.0, 0.0, 0.0), 0.2)
    top = 0.24  # where the depth map starts
    depth = np.full((side, side), view.far, np.float32)
    x = (np.arange(side) + 0.5 - side / 2) * view.width / side
    depth[:, np.abs(x) < 0.05] = top - height
    return Blocker((0.0, 0.0, 1.0), view, depth, spread)


def test_below_a_plate_is_shadow_and_beside_it_is_light() -> None:
    share = seen(slab(0.05), floor(41, 121), normals(41, 121))
    assert share[20, 60] < 0.02
    assert share[20, 3] > 0.98
    assert share[20, 117] > 0.98
    middle = share[20]
    crossing = np.interp(0.5, middle[60:], np.arange(61)) * 0.002
    assert crossing == pytest.approx(0.05, abs=0.006)


def test_what_lies_above_the_plate_is_not_shadowed() -> None:
    points = floor(5, 121)
    points[..., 2] = 0.06
    assert seen(slab(0.3), points, normals(5, 121)).min() > 0.98


@pytest.mark.parametrize(("low", "high"), [((0.05, 0.1), (0.4, 0.1)), ((0.3, 0.015), (0.3, 0.15))])
def test_shadows_soften_with_the_lamp_and_with_distance(
    low: tuple[float, float], high: tuple[float, float]
) -> None:
    def width(case: tuple[float, float]) -> int:
        share = seen(slab(*case), floor(3, 161, 0.001), normals(3, 161))[1]
        return int(((share > 0.1) & (share < 0.9)).sum())

    assert width(high) > 1.5 * width(low)


def test_far_outside_and_far_below_the_map_everything_sees_the_lamp() -> None:
    points = floor(5, 9, 0.5)
    points[..., 2] = -3.0
    share = seen(slab(0.2), points, normals(5, 9))
    np.testing.assert_allclose(share[:, :2], 1)
    np.testing.assert_allclose(share[:, -2:], 1)


def test_the_sky_is_one_hemisphere() -> None:
    directions = sky_directions()
    assert sum(weight for _, weight in directions) == pytest.approx(1)
    assert all(d[2] > 0 for d, _ in directions)
    for d, _ in directions:
        assert np.linalg.norm(d) == pytest.approx(1, abs=1e-3)


def test_a_corner_is_darker_than_a_floor_and_a_far_wall_casts_no_halo() -> None:
    flat = floor(60, 60, 0.001)
    assert crevices(flat, normals(60, 60), 1000.0).min() == 1
    corner = flat.copy()
    corner[:, 40:, 2] = 0.02  # a step up; its foot is between columns 39 and 40
    share = crevices(corner, normals(60, 60), 1000.0)
    assert share[30, 39] < 0.8
    assert share[30, 5] == 1
    far = flat.copy()
    far[:, 40:, 2] = 1.0  # a thing that stands far in front of the floor
    assert crevices(far, normals(60, 60), 1000.0).min() > 0.97


def test_enlarging_never_mixes_across_an_edge() -> None:
    depth = np.ones((12, 16), np.float32)
    depth[:, 7:] = 2
    light = np.zeros((6, 8, 1), np.float32)
    light[depth[::2, ::2] == 2] = 1
    out = enlarge(light, depth, np.tile(UP, (12, 16, 1)))
    np.testing.assert_array_equal(out[..., 0], depth - 1)


def test_enlarging_is_linear_on_a_surface() -> None:
    ramp = np.tile(np.arange(8, dtype=np.float32)[None, :, None], (5, 1, 1))
    out = enlarge(ramp, np.ones((10, 15), np.float32), np.tile(UP, (10, 15, 1)))
    np.testing.assert_allclose(out[4, :, 0], np.arange(15) / 2, atol=1e-5)


def test_film_keeps_dark_and_mid_tones_and_saturates_softly() -> None:
    light = np.linspace(0, 4, 400, dtype=np.float32).reshape(20, 20, 1).repeat(3, 2)
    out = develop_film(light).reshape(-1, 3)[:, 0].astype(int)
    assert (np.diff(out) >= 0).all()
    assert out[0] == 0
    assert develop_film(np.full((1, 1, 3), 0.2195, np.float32))[0, 0, 0] == 128
    assert 240 < develop_film(np.full((1, 1, 3), 1.0, np.float32))[0, 0, 0] < 255


def test_a_lamp_lights_what_faces_it_in_proportion_to_the_cosine() -> None:
    hw = (16, 24)
    camera = Camera(look_at((0.0, 0.0, 1.0), (0.0, 0.0, 0.0)), 10.0, hw)
    big = (2 * hw[0], 2 * hw[1])
    plain = np.zeros(hw, np.float32)
    g = GBuffer(
        np.full((*big, 3), 128, np.uint8),
        np.tile(UP, (*big, 1)),
        np.ones(big, np.float32),
        plain,
        plain,
    )

    def light(degrees: float) -> float:
        a = np.radians(degrees)
        towards = (float(np.sin(a)), 0.0, float(np.cos(a)))
        view = aim(towards, (0.0, 0.0, 0.0), 0.3)
        nothing = Blocker(towards, view, np.full((8, 8), view.far, np.float32), 0.1)
        lamp = Light((-towards[0], 0.0, -towards[2]), (1.0, 1.0, 1.0))
        rgb = shade(g, camera, Lighting((lamp,), (0.0, 0.0, 0.0)), [nothing], [])
        return float((rgb[8, 12, 0] / 255) ** 2.2)

    assert light(60) / light(0) == pytest.approx(0.5, abs=0.03)
    assert light(95) < 0.01
