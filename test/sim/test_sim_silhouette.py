from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from robollm.sim.geometry import look_at, turn
from robollm.sim.render.backdrop_mesh import box, lathe
from robollm.sim.render.mujoco_renderer import MujocoRenderer
from robollm.sim.render.silhouette import amodal, visibility
from robollm.sim.world import (
    Body,
    Camera,
    Form,
    Item,
    Light,
    Lighting,
    Part,
    Pose,
    Product,
    Scene,
    Shot,
    Surface,
)

CAMERA = Camera(look_at((0.05, -0.1, 1.0), (0.0, 0.0, 0.3)), 36.0, (150, 200))
SHOT = Shot(CAMERA, Lighting((Light((0.0, 0.0, -1.0), (0.5, 0.5, 0.5)),)))


def bodies(product: Product, form: Form) -> Body:
    if product.kind == "bottle":  # not convex: a dumb-bell
        mesh = lathe([(0.0, 0.08), (0.04, 0.08), (0.012, 0.02), (0.012, -0.02), (0.04, -0.08),
                      (0.0, -0.08)])  # fmt: skip
        return Body((Part(mesh, Surface()),), (), 0.1)
    return Body((Part(box((0.12, 0.09, 0.05)), Surface()),), (), 0.1)


def item(instance: int, kind: str, position: tuple[float, float, float], seed: int) -> Item:
    rng = np.random.default_rng(seed)
    x, y, z = (float(v) for v in rng.normal(size=3))
    product = Product("B0SHADE001", "f", kind, "b", "t", "d", (0.16, 0.1, 0.05), 0.1, "train")  # type: ignore[arg-type]
    return Item(instance, product, (Pose(position, turn((x, y, z), float(rng.uniform(0, 3)))),))


SCENE = Scene(
    (
        item(1, "box", (-0.03, 0.0, 0.35), 1),
        item(2, "bottle", (0.03, 0.02, 0.42), 2),
        item(3, "box", (0.04, -0.02, 0.3), 3),
        item(4, "bottle", (0.24, 0.1, 0.35), 4),  # leaves the picture
        item(5, "box", (0.9, 0.0, 0.3), 5),  # outside
    ),
    backdrop="sweep",
)


@pytest.fixture(scope="module")
def renderer() -> Iterator[MujocoRenderer]:
    with MujocoRenderer(bodies) as r:
        r.load(SCENE)
        yield r


def test_boxes_and_counts_are_those_of_each_item_rendered_alone(renderer: MujocoRenderer) -> None:
    found = amodal(SCENE, CAMERA, bodies)
    assert set(found) == {1, 2, 3, 4}
    for thing in SCENE.items[:4]:
        labels = renderer.shoot(replace(SCENE, items=(thing,)), SHOT).labels
        y, x = np.nonzero(labels == thing.instance)
        (x1, y1, x2, y2), count = found[thing.instance]
        outline = 2 * (np.ptp(x) + np.ptp(y))
        assert abs(count - len(x)) <= max(3, 0.09 * outline)
        np.testing.assert_allclose(
            (x1, y1, x2, y2), (x.min(), y.min(), x.max() + 1, y.max() + 1), atol=1.0
        )


def test_visibility_is_what_is_left_of_an_item_among_the_others(renderer: MujocoRenderer) -> None:
    labels = renderer.shoot(SCENE, SHOT).labels
    seen = visibility(labels, amodal(SCENE, CAMERA, bodies))
    for thing in SCENE.items[:4]:
        alone = renderer.shoot(replace(SCENE, items=(thing,)), SHOT).labels
        share = (labels == thing.instance).sum() / (alone == thing.instance).sum()
        assert seen[thing.instance] == pytest.approx(share, abs=0.03)
    assert min(seen.values()) < 0.8
    assert seen[2] > 0.9


def test_a_package_and_its_content_are_one_instance() -> None:
    pair = (item(9, "box", (-0.1, 0.0, 0.3), 1), item(9, "box", (0.1, 0.0, 0.3), 1))
    both = amodal(Scene(pair), CAMERA, bodies)
    halves = [amodal(Scene((one,)), CAMERA, bodies)[9] for one in pair]
    assert both[9][1] == sum(count for _, count in halves)
    assert both[9][0][0] == min(box_[0] for box_, _ in halves)
    assert both[9][0][2] == max(box_[2] for box_, _ in halves)


def test_what_is_behind_the_camera_is_not_in_the_picture() -> None:
    behind = Scene((item(1, "box", (0.0, -0.3, 2.3), 1),))
    assert amodal(behind, CAMERA, bodies) == {}
    assert visibility(np.zeros((4, 4), np.uint16), {}) == {}
