"""Where a suction gripper would take hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.sim.events.grasp import choose_target, find_grasp, gripper_pose, surface_points
from robollm.sim.geometry import apply, inverse, matrix, turn
from robollm.sim.products.damage_mesh import soft_block
from robollm.sim.world import (
    Body,
    Form,
    Item,
    Part,
    Pose,
    Product,
    Scene,
    Solid,
    Surface,
    Vec3,
)


def _product(number: int, size: Vec3) -> Product:
    return Product(f"B0{number:08d}", "f", "box", "b", "t", "d", size, 0.2, "train")


def block_of(product: Product, form: Form) -> Body:
    x, y, z = product.size_m
    part = Part(soft_block(product.size_m, 0.0, 2), Surface())
    return Body((part,), (Solid("box", (x / 2, y / 2, z / 2)),), product.weight_kg)


def _item(number: int, at: Vec3, size: Vec3 = (0.12, 0.1, 0.05), tilt: float = 0.0) -> Item:
    return Item(number, _product(number, size), (Pose(at, turn((0, 1, 0), tilt)),))


def test_the_target_is_the_topmost_of_a_stack() -> None:
    stack = Scene(tuple(_item(k, (0, 0, 0.025 + 0.05 * h)) for k, h in ((4, 0), (7, 2), (2, 1))))
    grasp = choose_target(stack, block_of, None, np.random.default_rng(0))
    assert grasp.instance == 7
    assert grasp.point == pytest.approx((0, 0, 0.15), abs=0.007)
    assert grasp.normal[2] > 0.999


def test_what_a_camera_does_not_see_is_not_chosen() -> None:
    scene = Scene((_item(1, (-0.2, 0, 0.2)), _item(2, (0.2, 0, 0.1))))
    assert choose_target(scene, block_of).instance == 1
    assert choose_target(scene, block_of, {1: 0.1, 2: 0.9}).instance == 2


def test_a_covered_or_steep_item_cannot_be_grasped() -> None:
    scene = Scene(
        (_item(1, (0, 0, 0.02), (0.1, 0.09, 0.04)), _item(2, (0, 0, 0.1), (0.3, 0.3, 0.05)))
    )
    assert find_grasp(scene, block_of, 1) is None
    steep = Scene((_item(3, (0, 0, 0.2), (0.2, 0.2, 0.004), tilt=1.2),))
    assert find_grasp(steep, block_of, 3) is None


def test_the_cup_sits_near_the_centre_on_the_surface() -> None:
    item = _item(3, (0.05, -0.02, 0.1), (0.2, 0.12, 0.06), tilt=0.3)
    grasp = find_grasp(Scene((item,)), block_of, 3)
    assert grasp is not None
    local = apply(inverse(item.poses[0]), np.asarray([grasp.point]))[0]
    assert abs(local[2] - 0.03) < 0.004
    assert np.linalg.norm(local[:2]) < 0.02
    assert np.dot(grasp.normal, matrix(item.poses[0].quaternion)[:, 2]) > 0.99


def test_the_gripper_looks_against_the_normal() -> None:
    grasp = find_grasp(Scene((_item(1, (0, 0, 0.1), tilt=0.2),)), block_of, 1)
    assert grasp is not None
    pose = gripper_pose(grasp)
    turned = matrix(pose.quaternion)
    assert np.allclose(turned[:, 2], -np.asarray(grasp.normal), atol=1e-6)
    assert np.linalg.det(turned) == pytest.approx(1)


def test_equal_tops_are_drawn_from_and_the_draw_is_repeatable() -> None:
    scene = Scene(tuple(_item(k, (0.15 * k - 0.3, 0, 0.05)) for k in range(1, 4)))
    drawn = [choose_target(scene, block_of, None, np.random.default_rng(s)) for s in range(12)]
    again = [choose_target(scene, block_of, None, np.random.default_rng(s)) for s in range(12)]
    assert drawn == again
    assert {g.instance for g in drawn} == {1, 2, 3}


def test_surface_points_leave_no_hole() -> None:
    item = _item(1, (0, 0, 0))
    points = surface_points(item, block_of(item.product, Form()), 0.006)
    rng = np.random.default_rng(2)
    spots = np.column_stack([rng.uniform(-0.055, 0.055, 50), rng.uniform(-0.045, 0.045, 50)])
    top = points[points[:, 2] > 0.02][:, :2]
    nearest = np.linalg.norm(spots[:, None] - top[None], axis=2).min(1)
    assert nearest.max() < 0.006


def test_an_empty_tote_and_one_without_a_flat_spot_are_errors() -> None:
    with pytest.raises(ConfigError, match="tote is empty"):
        choose_target(Scene(()), block_of)
    thin = replace(_item(1, (0, 0, 0.1), (0.2, 0.004, 0.003)))
    with pytest.raises(ConfigError, match="none of 1 items can be grasped"):
        choose_target(Scene((thin,)), block_of)
