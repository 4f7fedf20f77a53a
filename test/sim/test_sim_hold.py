"""What is held swings, touches, opens and falls, as the simulator says."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.sim.bodies import body_of
from robollm.sim.events.grasp import Grasp, surface_points
from robollm.sim.events.hold import HOLD_M, Held, hold, is_outside
from robollm.sim.events.hold_attach import MANNERS, nearest_segment
from robollm.sim.geometry import F64, apply, compose, inverse
from robollm.sim.products import damage
from robollm.sim.products.catalogue import make_catalogue
from robollm.sim.world import WHOLE, Body, Form, Item, Kind, Part, Pose, Product, Solid, Surface


def _one(kind: Kind, number: int = 0) -> Product:
    return [p for p in make_catalogue(3, 120, "train") if p.kind == kind][number]


def _lying(product: Product, number: int = 1, form: Form = WHOLE) -> tuple[Item, Grasp]:
    """A product that lies flat, and a grasp on the middle of its upper side."""
    z = product.size_m[2] / 2
    body = body_of(product, form)
    item = Item(number, product, damage.rest_poses(body, Pose((0.0, 0.0, z))), form)
    return item, Grasp(number, (0.0, 0.0, 2 * z), (0.0, 0.0, 1.0), 1)


@lru_cache(maxsize=8)
def _pair(manner: str) -> Held:
    target, grasp = _lying(_one("carton"))
    other = _one("box")
    second = Item(2, other, (Pose(),))
    return hold(target, grasp, 5, second=second, manner=manner, frames=10)


def test_same_seed_gives_the_same_hold_to_the_last_bit() -> None:
    target, grasp = _lying(_one("polybag"))
    assert hold(target, grasp, 3) == hold(target, grasp, 3)
    assert hold(target, grasp, 3) != hold(target, grasp, 4)


@pytest.mark.parametrize("frames", [10, 15])
def test_a_hold_has_as_many_rising_stamps_as_asked(frames: int) -> None:
    target, grasp = _lying(_one("box"))
    held = hold(target, grasp, 1, frames=frames)
    stamps = [f.t_ns for f in held.frames]
    assert len(stamps) == frames
    assert all(a < b for a, b in pairwise(stamps))


def test_the_swing_swings_and_the_cups_hold() -> None:
    target, grasp = _lying(_one("carton"))
    held = hold(target, grasp, 2)
    relative, slips = [], []
    for frame in held.frames:
        assert frame.scene.gripper is not None
        lips = frame.scene.gripper.pose
        root = frame.scene.items[0].poses[0]
        relative.append(compose(inverse(lips), root).quaternion)
        on_item = apply(compose(root, inverse(target.poses[0])), np.asarray([grasp.point]))[0]
        slips.append(float(np.linalg.norm(on_item - lips.position)))
    turns = [abs(float(np.dot(a, b))) for a, b in pairwise(relative)]
    assert min(turns) < np.cos(np.radians(1) / 2)
    assert max(slips) < 0.004


def test_the_hold_ends_near_its_place() -> None:
    target, grasp = _lying(_one("can"))
    last = hold(target, grasp, 2).frames[-1].scene
    assert last.gripper is not None
    assert np.linalg.norm(np.subtract(last.gripper.pose.position, HOLD_M)) < 0.06


def _least_gap(first: F64, second: F64) -> float:
    """The least distance of two clouds [N, 3], m, to within 5 mm; infinite where both are far."""
    first, second = (np.unique(np.round(c / 0.002), axis=0) * 0.002 for c in (first, second))
    low, high = first.min(0) - 0.01, first.max(0) + 0.01
    second = second[((second > low) & (second < high)).all(1)]
    if not len(second):
        return float("inf")
    low, high = second.min(0) - 0.01, second.max(0) + 0.01
    first = first[((first > low) & (first < high)).all(1)]
    return min(float(np.linalg.norm(first - p, axis=1).min()) for p in second[::3])


@pytest.mark.parametrize("manner", MANNERS[:-1])
def test_a_second_product_touches_by_two_ways_of_measuring(manner: str) -> None:
    held = _pair(manner)
    assert held.manner == manner
    for frame in held.frames[::6]:
        assert frame.distance_m is not None
        assert -0.002 < frame.distance_m <= 0.001
        first, second = frame.scene.items
        clouds = [surface_points(i, body_of(i.product, i.form), 0.004) for i in (first, second)]
        gap = _least_gap(*clouds)
        # Points are up to 4 mm apart on either surface.
        assert gap < 0.008


def test_a_second_product_sways_on_its_own() -> None:
    held = _pair("corner")
    own = [compose(inverse(f.scene.items[0].poses[0]), f.scene.items[1].poses[0])
           for f in held.frames]  # fmt: skip
    turns = [abs(float(np.dot(a.quaternion, b.quaternion))) for a, b in pairwise(own)]
    assert min(turns) < np.cos(np.radians(0.5) / 2)


def test_a_product_may_hang_on_another_one_of_its_kind() -> None:
    target, grasp = _lying(_one("box"))
    second = Item(2, target.product, (Pose(),), Form(seed=7))
    held = hold(target, grasp, 1, second=second, manner="side")
    assert all(f.distance_m is not None and f.distance_m <= 0.001 for f in held.frames)


def test_flaps_move_with_the_swing() -> None:
    form = Form("open", damage.VARIANT, 0.8)
    target, grasp = _lying(_one("carton"), form=form)
    held = hold(target, grasp, 6)
    angles = np.array([f.angles_rad for f in held.frames])
    assert angles.shape[1] == len(body_of(target.product, form).segments) - 1
    assert np.ptp(angles, axis=0).max() > np.radians(2)
    assert all(f.gap_m > 0.003 for f in held.frames)
    first = held.frames[0].scene.items[0]
    assert held.frames[0].angles_rad == damage.hinge_angles(
        body_of(target.product, form), first.poses
    )


@pytest.mark.parametrize("kind", ["carton", "polybag", "bottle"])
def test_content_falls_out_and_never_comes_back(kind: Kind) -> None:
    product = _one(kind)
    found = [
        s * damage.VARIANT
        for s in range(1, 9)
        if damage.mouth(product, s * damage.VARIANT)[2] < 0.5
    ]
    form = Form("open", found[0], 0.9)
    target, grasp = _lying(product, form=form)
    held = hold(target, grasp, 3, falling=True)
    outside = [f.outside for f in held.frames]
    assert outside[0] == 0
    assert outside[-1] >= 1
    assert all(a <= b for a, b in pairwise(outside))
    assert all(len(f.scene.items) == 1 + len(held.released_ns) for f in held.frames)
    assert {i.instance for i in held.frames[-1].scene.items} == {target.instance}
    heights = [min(i.poses[0].position[2] for i in f.scene.items[1:]) for f in held.frames]
    assert heights[-1] < heights[0] - 0.3


def test_outside_means_outside_the_box_in_its_own_frame() -> None:
    product = _one("box")
    package = Item(1, product, (Pose((0, 0, 1), (0.6, 0.8, 0, 0)),))
    inside = Item(1, product, (compose(package.poses[0], Pose((0.01, 0, 0))),))
    beyond = Pose((product.size_m[0] / 2 + 0.006, 0, 0))
    assert not is_outside(package, inside)
    assert is_outside(package, Item(1, product, (compose(package.poses[0], beyond),)))


def test_cups_hold_the_segment_under_them() -> None:
    solids = (
        Solid("box", (0.05, 0.05, 0.01), Pose((-0.05, 0, 0)), 0),
        Solid("box", (0.05, 0.05, 0.01), Pose((0.05, 0, 0)), 1),
    )
    block = Part(_one_mesh(), Surface())
    body = Body((block,), solids, 0.1)
    poses = (Pose(), Pose((0, 0, -0.02)))
    assert nearest_segment(body, poses, (-0.03, 0, 0.01)) == 0
    assert nearest_segment(body, poses, (0.06, 0, -0.01)) == 1


def _one_mesh():  # type: ignore[no-untyped-def]
    return body_of(_one("box"), Form()).parts[0].mesh


def test_impossible_requests_say_what_is_wrong() -> None:
    target, grasp = _lying(_one("box"))
    with pytest.raises(ConfigError, match="frames is 9, wants 10 to 15"):
        hold(target, grasp, 1, frames=9)
    with pytest.raises(ConfigError, match="fps is 0"):
        hold(target, grasp, 1, fps=0)
    with pytest.raises(ConfigError, match="can't fall from a whole package"):
        hold(target, grasp, 1, falling=True)
    with pytest.raises(ConfigError, match="without a second product"):
        hold(target, grasp, 1, manner="side")
    second = Item(2, target.product, (Pose(),))
    with pytest.raises(ConfigError, match="manner is 'glued'"):
        hold(target, grasp, 1, second=second, manner="glued")


def test_the_arm_moves_alike_whether_something_falls_or_nothing_is_wrong() -> None:
    product = _one("carton")
    seed = next(
        s * damage.VARIANT
        for s in range(1, 9)
        if abs(damage.mouth(product, s * damage.VARIANT)[2]) < 0.5
    )
    paths = []
    for kind, falling in (("open", True), ("open", False), ("closed", False)):
        form = Form(kind, seed, 0.9)  # type: ignore[arg-type]
        target, grasp = _lying(product, form=form)
        held = hold(target, grasp, 3, falling=falling)
        paths.append([f.scene.gripper.pose.quaternion for f in held.frames if f.scene.gripper])
    target, grasp = _lying(product)
    sound = hold(target, grasp, 3, mouth_seed=seed)
    paths.append([f.scene.gripper.pose.quaternion for f in sound.frames if f.scene.gripper])
    # The path's moments are drawn after its springs, whose number depends on what hangs there.
    leans = [[2 * (q[1] ** 2 + q[2] ** 2) for q in path] for path in paths]
    assert np.ptp([lean[-1] for lean in leans]) < 0.02
