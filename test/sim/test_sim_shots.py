from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.sim.geometry import apply, matrix, project, turn
from robollm.sim.physics.totes import TOTES
from robollm.sim.physics.totes import ZOOMED_OUT as STRANGE_TOTES
from robollm.sim.render.backdrop_mesh import box
from robollm.sim.render.shots import TRAINED, VIEWS, ZOOMED_OUT, tote_shot, view_shot, warmth
from robollm.sim.render.shots_reference import REFERENCES, reference_scene, reference_shot
from robollm.sim.world import Body, Camera, Form, Part, Pose, Product, Surface, Tote

HW = (288, 384)
SIZE = (0.2, 0.12, 0.04)


def bodies(product: Product, form: Form) -> Body:
    return Body((Part(box(product.size_m), Surface()),), (), 0.1)


def product(kind: str = "box", *, portrait: bool = False) -> Product:
    look = {"portrait": portrait}
    return Product("B0SHOTS001", "f", kind, "b", "t", "d", SIZE, 0.1, "train", look)  # type: ignore[arg-type]


def outline(tote: Tote, camera: Camera) -> np.ndarray:
    """The rim's outer corners in the picture [4, 2]."""
    x, y = tote.inner_m[0] / 2 + 0.022, tote.inner_m[1] / 2 + 0.022
    rim = [(a * x, b * y, tote.inner_m[2]) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    return project(camera, np.array(rim))[:, :2]


def area(corners: np.ndarray, hw: tuple[int, int]) -> float:
    x, y = corners.T
    return float(abs((x * np.roll(y, 1) - y * np.roll(x, 1)).sum()) / 2 / (hw[0] * hw[1]))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("hw", [HW, (480, 640), (512, 612)])
def test_a_training_tote_fills_most_of_the_picture(seed: int, hw: tuple[int, int]) -> None:
    for tote in TOTES.values():
        shot = tote_shot(np.random.default_rng(seed), tote, hw)
        corners = outline(tote, shot.camera)
        assert 0.45 < area(corners, hw) < 1.0
        inside = (corners > (-0.16 * hw[1], -0.16 * hw[0])) & (
            corners < (1.16 * hw[1], 1.16 * hw[0])
        )
        assert inside.all()
        assert matrix(shot.camera.pose.quaternion)[2, 2] < -0.98  # looks down


@pytest.mark.parametrize("seed", range(8))
def test_a_zoomed_out_tote_is_a_quarter_to_half_of_it(seed: int) -> None:
    for tote in STRANGE_TOTES.values():
        shot = tote_shot(np.random.default_rng(seed), tote, HW, zoomed_out=True)
        assert 0.18 < area(outline(tote, shot.camera), HW) < 0.45


def test_zoomed_out_ranges_are_disjoint_from_training() -> None:
    for field in fields(TRAINED):
        if field.name == "lamps":
            continue
        a, b = sorted([getattr(TRAINED, field.name), getattr(ZOOMED_OUT, field.name)])
        assert a[1] < b[0], field.name


def test_shots_keep_to_their_ranges() -> None:
    for seed in range(40):
        for recipe, totes in ((TRAINED, TOTES), (ZOOMED_OUT, STRANGE_TOTES)):
            for tote in totes.values():
                rng = np.random.default_rng(seed)
                shot = tote_shot(rng, tote, HW, zoomed_out=recipe is ZOOMED_OUT)
                low, high = recipe.fovy_deg
                assert low <= shot.camera.fovy_deg <= high
                over = shot.camera.pose.position[2] - tote.inner_m[2]
                low, high = recipe.height_m
                assert low * 0.97 <= over <= high * 1.01
                for lamp in shot.lighting.lamps:
                    elevation = np.degrees(np.arcsin(-lamp.direction[2]))
                    assert recipe.elevation_deg[0] <= elevation <= recipe.elevation_deg[1]


def test_the_same_seed_gives_the_same_shot() -> None:
    tote = TOTES["grey_large"]
    a, b, c = (tote_shot(np.random.default_rng(s), tote, HW) for s in (4, 4, 5))
    assert a == b
    assert a != c


@pytest.mark.parametrize("seed", range(6))
def test_post_pick_cameras_see_the_gripper_above_the_held_item(seed: int) -> None:
    hold = Pose((0.1, -0.05, 0.7), turn((1, 0, 0), np.pi))
    for name in VIEWS:
        camera = view_shot(name, np.random.default_rng(seed), hold, (320, 320)).camera
        lips, below = project(camera, apply(hold, np.array([[0, 0, 0], [0, 0, 0.12]])))
        assert 0.2 * 320 < lips[0] < 0.8 * 320
        assert 0 < lips[1] < below[1] < 320  # z of the lips' frame points down, y of pictures too


def test_on_arm_low_looks_up_and_far_tray_down() -> None:
    hold = Pose((0.0, 0.0, 0.7), turn((1, 0, 0), np.pi))
    z = {
        name: matrix(view_shot(name, np.random.default_rng(0), hold, HW).camera.pose.quaternion)[
            2, 2
        ]
        for name in VIEWS
    }
    assert z["on_arm_low"] > 0.3
    assert abs(z["tote_wall"]) < 0.3
    assert z["far_tray"] < -0.3


def test_an_unknown_camera_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="on_arm_low, tote_wall, far_tray"):
        view_shot("ceiling", np.random.default_rng(0), Pose(), HW)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "portrait"), [("box", False), ("box", True), ("bottle", False)])
@pytest.mark.parametrize("k", range(REFERENCES))
def test_a_reference_picture_shows_the_whole_product_standing_on_the_sweep(
    k: int, kind: str, portrait: bool
) -> None:
    thing = product(kind, portrait=portrait)
    scene = reference_scene(thing, k, bodies)
    points = apply(
        scene.items[0].poses[0], bodies(thing, scene.items[0].form).parts[0].mesh.vertices
    )
    assert points[:, 2].min() == pytest.approx(0.0005, abs=1e-6)
    for hw in ((224, 224), (200, 320), (320, 200)):
        camera = reference_shot(k, np.random.default_rng(k), thing, hw).camera
        uv = project(camera, points)[:, :2]
        assert (uv > 0).all()
        assert (uv < (hw[1], hw[0])).all()
        assert np.ptp(uv, axis=0).max() > 0.38 * min(hw)


def test_front_and_back_show_opposite_faces() -> None:
    thing = product()
    turns = [matrix(reference_scene(thing, k, bodies).items[0].poses[0].quaternion) for k in (0, 1)]
    np.testing.assert_allclose(turns[0][:, 2], (0, -1, 0), atol=1e-9)
    np.testing.assert_allclose(turns[1][:, 2], (0, 1, 0), atol=1e-9)
    for m in turns:
        assert np.linalg.det(m) == pytest.approx(1)


def test_there_is_no_seventh_reference() -> None:
    with pytest.raises(ConfigError, match="want 0 to 5"):
        reference_scene(product(), 6, bodies)


def test_low_temperatures_are_warm() -> None:
    red, _, blue = warmth(2700)
    assert red > 1 > blue
    assert warmth(5500) == (1.0, 1.0, 1.0)
