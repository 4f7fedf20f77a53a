from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.sim.geometry import apply, compose, look_at, project, turn
from robollm.sim.render.backdrop_mesh import box
from robollm.sim.render.mujoco_renderer import MujocoRenderer
from robollm.sim.world import (
    TOTE_LABEL,
    Body,
    Camera,
    Form,
    Item,
    Light,
    Lighting,
    Mesh,
    Part,
    Pose,
    Product,
    Scene,
    Segment,
    Shot,
    Surface,
    Tote,
)

HW = (96, 128)
LIGHT = Lighting((Light((0.2, 0.3, -1.0), (0.5, 0.5, 0.5)),), (0.4, 0.4, 0.4))
DOWN = Camera(look_at((0.0, 0.0, 0.6), (0.0, 0.0, 0.0)), 40.0, HW)
SHOT = Shot(DOWN, LIGHT)


def quarters() -> np.ndarray:
    """Red top left, green top right, blue bottom left, grey bottom right; odd sides."""
    texture = np.full((62, 61, 3), 128, np.uint8)
    texture[:31, :31], texture[:31, 31:], texture[31:, :31] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    return texture


def sheet(half: float) -> Mesh:
    """A square in the xy plane, finely cut along x, that shows a texture upright from above."""
    x = np.linspace(-half, half, 25)
    vertices = [(a, b, 0.0) for b in (half, -half) for a in x]
    uv = [(k / 24, v) for v in (0.0, 1.0) for k in range(25)]
    k = np.arange(24)
    faces = np.concatenate([np.stack([k, k + 25, k + 26], 1), np.stack([k, k + 26, k + 1], 1)])
    return Mesh(np.array(vertices, np.float32), faces.astype(np.int32), np.array(uv, np.float32))


def made(kind: str) -> Body:
    size = (0.1, 0.08, 0.06)
    if kind == "blister":  # a grey core in a clear shell
        core = Part(box((0.05, 0.04, 0.03)), Surface(None, (0.3, 0.3, 0.3, 1.0)))
        return Body((core, Part(box(size), Surface(None, (0.9, 0.9, 1.0, 0.2)))), (), 0.1)
    if kind == "pouch":  # bends in the middle
        part = Part(sheet(0.1), Surface(quarters()), None)
        return Body((part,), (), 0.1, (Segment(), Segment(0, (0.0, 0.0, 0.0))))
    if kind == "book":
        return Body((Part(sheet(0.1), Surface(quarters())),), (), 0.1)
    return Body((Part(box(size), Surface(quarters())),), (), 0.1)


def bodies(product: Product, form: Form) -> Body:
    return made(product.kind)


def product(kind: str = "box") -> Product:
    return Product("B0RENDER01", "f", kind, "b", "t", "d", (0.1, 0.08, 0.06), 0.1, "train")  # type: ignore[arg-type]


def item(instance: int, kind: str = "box", pose: Pose = Pose()) -> Item:  # noqa: B008
    return Item(instance, product(kind), (pose,) * len(made(kind).segments))


@pytest.fixture(scope="module")
def renderer() -> Iterator[MujocoRenderer]:
    with MujocoRenderer(bodies) as r:
        yield r


def test_the_corners_of_a_cube_are_where_the_camera_model_says(renderer: MujocoRenderer) -> None:
    pose = Pose((0.03, -0.05, 0.1), turn((1.0, 2.0, 3.0), 0.8))
    camera = replace(DOWN, pose=look_at((0.2, -0.3, 0.5), (0.0, 0.0, 0.1)))
    scene = Scene((item(7, pose=pose),))
    renderer.load(scene)
    labels = renderer.shoot(scene, replace(SHOT, camera=camera)).labels
    corners = made("box").parts[0].mesh.vertices
    spots = project(camera, apply(pose, corners))
    y, x = np.nonzero(labels == 7)
    # A pixel counts if its centre is inside, so the outermost ones end within a pixel.
    assert abs(x.min() - spots[:, 0].min()) <= 1
    assert abs(x.max() + 1 - spots[:, 0].max()) <= 1
    assert abs(y.min() - spots[:, 1].min()) <= 1
    assert abs(y.max() + 1 - spots[:, 1].max()) <= 1


def test_a_texture_stands_upright_seen_from_its_front(renderer: MujocoRenderer) -> None:
    scene = Scene((item(1, "book"),))
    renderer.load(scene)
    rgb = renderer.shoot(scene, SHOT).rgb.astype(int)
    (h, w), d = HW, 12
    assert rgb[h // 2 - d, w // 2 - d].argmax() == 0
    assert rgb[h // 2 - d, w // 2 + d].argmax() == 1
    assert rgb[h // 2 + d, w // 2 - d].argmax() == 2
    assert np.ptp(rgb[h // 2 + d, w // 2 + d]) < 30


def test_depth_is_the_distance_along_the_optical_axis(renderer: MujocoRenderer) -> None:
    scene = Scene((item(1, "book"),))
    renderer.load(scene)
    level = renderer.shoot(scene, SHOT)
    on = level.labels == 1
    np.testing.assert_allclose(level.depth[on], 0.6, atol=1e-4)

    camera = replace(DOWN, pose=look_at((0.3, 0.0, 0.5), (0.0, 0.0, 0.0)))
    tilted = renderer.shoot(scene, replace(SHOT, camera=camera))
    y, x = np.nonzero(tilted.labels == 1)
    z = tilted.depth[y, x].astype(float)
    focal = HW[0] / 2 / np.tan(np.radians(20))
    local = np.stack([(x + 0.5 - HW[1] / 2) / focal * z, (y + 0.5 - HW[0] / 2) / focal * z, z], 1)
    assert np.abs(apply(camera.pose, local)[:, 2]).max() < 1e-3  # the sheet lies in z = 0


def test_the_same_scene_gives_the_same_bytes_in_another_renderer(renderer: MujocoRenderer) -> None:
    scene = Scene((item(1), item(2, "blister", Pose((0.05, 0.05, 0.05)))), backdrop="concrete")
    renderer.load([Scene((item(5, "book"),)), scene])
    first = renderer.shoot(scene, SHOT)
    again = renderer.shoot(scene, SHOT)
    with MujocoRenderer(bodies) as other:
        other.load(scene)
        fresh = other.shoot(scene, SHOT)
    for p in (again, fresh):
        np.testing.assert_array_equal(p.rgb, first.rgb)
        np.testing.assert_array_equal(p.labels, first.labels)
        np.testing.assert_array_equal(p.depth, first.depth)


def test_a_clear_shell_belongs_to_its_item_and_shows_what_is_inside(
    renderer: MujocoRenderer,
) -> None:
    scene = Scene((item(3, "blister"),), backdrop="sweep")
    whole = Scene((item(4),), backdrop="sweep")
    renderer.load([scene, whole])
    clear, solid = renderer.shoot(scene, SHOT), renderer.shoot(whole, SHOT)
    np.testing.assert_array_equal(clear.labels == 3, solid.labels == 4)
    h, w = HW
    assert clear.rgb[h // 2, w // 2].mean() < clear.rgb[h // 2, w // 2 + 10].mean() - 25


def test_what_a_scene_leaves_out_is_not_drawn(renderer: MujocoRenderer) -> None:
    tote = Tote("t", (0.1, 0.2, 0.6), (0.36, 0.26, 0.2))
    full = Scene((item(1), item(2, pose=Pose((0.08, 0.0, 0.1)))), tote)
    less = replace(full, items=full.items[:1])
    renderer.load(full)
    before = renderer.shoot(full, SHOT)
    after = renderer.shoot(less, SHOT)
    assert set(np.unique(before.labels)) == {0, 1, 2, TOTE_LABEL}  # 0: past the rim
    assert set(np.unique(after.labels)) == {0, 1, TOTE_LABEL}
    assert (before.rgb != after.rgb).any()
    renderer.load(less)
    np.testing.assert_array_equal(renderer.shoot(less, SHOT).rgb, after.rgb)


def test_a_bag_that_bends_later_looks_as_if_it_had_been_loaded_so(
    renderer: MujocoRenderer,
) -> None:
    flat = item(1, "pouch")
    hinge = compose(Pose((0.02, 0.0, 0.05)), Pose(quaternion=turn((0, 1, 0), -0.7)))
    bent = replace(flat, poses=(Pose((0.02, 0.0, 0.05)), hinge))
    renderer.load(Scene((flat,)))
    before = renderer.shoot(Scene((flat,)), SHOT)
    moved = renderer.shoot(Scene((bent,)), SHOT)
    back = renderer.shoot(Scene((flat,)), SHOT)
    renderer.load(Scene((bent,)))
    loaded = renderer.shoot(Scene((bent,)), SHOT)
    np.testing.assert_array_equal(back.labels, before.labels)
    assert (moved.labels != before.labels).sum() > 20
    assert (moved.labels != loaded.labels).sum() <= 4
    np.testing.assert_allclose(moved.depth, loaded.depth, atol=2e-3)
    assert np.abs(moved.rgb.astype(int) - loaded.rgb).mean() < 0.5


def test_a_scene_that_was_not_loaded_is_refused(renderer: MujocoRenderer) -> None:
    renderer.load(Scene((item(1),)))
    with pytest.raises(ConfigError, match="was not loaded"):
        renderer.shoot(Scene((item(2),)), SHOT)
    with pytest.raises(ConfigError, match="texture_scale is 2"):
        renderer.load(Scene((item(1),)), texture_scale=2.0)


@pytest.mark.parametrize("gl", ["osmesa", "disable"])
def test_without_opengl_the_error_names_the_package(gl: str) -> None:
    hidden = (
        "import ctypes.util, ctypes, sys\n"
        "find, load = ctypes.util.find_library, ctypes.CDLL.__init__\n"
        "ctypes.util.find_library = lambda n: None if 'OSMesa' in n else find(n)\n"
        "def CDLL(self, name, *a, **k):\n"
        "    if 'OSMesa' in str(name): raise OSError('no such file: libOSMesa.so')\n"
        "    load(self, name, *a, **k)\n"
        "ctypes.CDLL.__init__ = CDLL\n"
    )
    code = (hidden if gl == "osmesa" else "") + (
        "from robollm.core.errors import ConfigError\n"
        "from robollm.sim.render.mujoco_renderer import MujocoRenderer\n"
        "try:\n    MujocoRenderer()\n"
        "except ConfigError as e:\n    print(e)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MUJOCO_GL": gl},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "can't make an off-screen OpenGL context" in run.stdout, run.stderr
    assert "sudo apt-get install libosmesa6" in run.stdout


def test_memory_stays_flat_over_many_loads(renderer: MujocoRenderer) -> None:
    scene = Scene((item(1), item(2, "pouch"), item(3, "blister")), backdrop="sweep")

    def resident_kb() -> int:
        with open("/proc/self/statm") as f:  # noqa: PTH123
            return int(f.read().split()[1]) * 4

    def work(times: int) -> int:
        for _ in range(times):
            renderer.load(scene)
            renderer.shoot(scene, SHOT)
        return resident_kb()

    start = work(15)
    assert work(30) - start < 8_000
