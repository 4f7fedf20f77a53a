"""The world of rigid bodies: it falls, rests, measures and repeats itself to the last bit."""

import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.sim.geometry import apply, turn
from robollm.sim.physics.engine import World
from robollm.sim.physics.totes import TOTES
from robollm.sim.world import Body, Form, Item, Pose, Product, Segment, Solid

TOTE = TOTES["grey_large"]


def a_product(kind: str, size: tuple[float, float, float], number: int = 0) -> Product:
    return Product(f"B0{number:08d}", "f", kind, "b", "t", "d", size, 0.3, "train")  # type: ignore[arg-type]


def plain(product: Product, form: Form) -> Body:
    """A box, a lying cylinder, or a chain of four plates."""
    x, y, z = product.size_m
    if product.kind == "can":
        pose = Pose((0.0, 0.0, 0.0), turn((0.0, 1.0, 0.0), np.pi / 2))
        return Body((), (Solid("cylinder", (y / 2, x / 2, 0.0), pose),), 0.3)
    if product.kind != "polybag":
        return Body((), (Solid("box", (x / 2, y / 2, z / 2)),), 0.3)
    step = x / 4
    at = [-x / 2 + (i + 0.5) * step for i in range(4)]
    solids = tuple(
        Solid("box", (step * 0.49, y / 2, z / 2), Pose((a, 0.0, 0.0)), i) for i, a in enumerate(at)
    )
    chain = [Segment(i - 1, (at[i] - step / 2, 0.0, 0.0), None, 0.02, 0.004) for i in range(1, 4)]
    return Body((), solids, 0.2, (Segment(), *chain))


def item(number: int, kind: str, size: tuple[float, float, float], pose: Pose) -> Item:
    count = 4 if kind == "polybag" else 1
    return Item(number, a_product(kind, size, number), (pose,) * count)


def a_few() -> list[Item]:
    return [
        item(1, "box", (0.12, 0.1, 0.08), Pose((0.0, 0.0, 0.06))),
        item(2, "can", (0.12, 0.07, 0.07), Pose((0.12, 0.05, 0.10), turn((0, 0, 1), 0.4))),
        item(3, "polybag", (0.24, 0.14, 0.02), Pose((0.02, 0.0, 0.16), turn((0, 0, 1), 0.2))),
    ]


def test_a_box_comes_to_rest_on_the_floor_and_stays_there() -> None:
    box = item(1, "box", (0.2, 0.1, 0.06), Pose((0.0, 0.0, 0.1), turn((0, 0, 1), 0.3)))
    world = World([box], TOTE, body_of=plain)
    assert world.settle(2.0)
    (pose,) = world.poses()[0]
    assert pose.position[2] == pytest.approx(0.03, abs=0.0007)
    assert world.penetration_m() < 0.0005
    assert world.speed(0) < 0.01
    world.run(0.5)
    assert world.poses()[0][0].position == pytest.approx(pose.position, abs=2e-4)


def test_the_same_world_moves_to_the_same_bit() -> None:
    ends = []
    for _ in range(2):
        world = World(a_few(), TOTE, body_of=plain)
        world.run(0.6)
        ends.append(world.poses())
    assert ends[0] == ends[1]


def test_a_bag_sags_over_what_it_lies_on_and_its_segments_hold_together() -> None:
    world = World(a_few(), TOTE, body_of=plain)
    world.thicken(8.0)
    world.settle(2.5)
    poses = world.poses()[2]
    heights = [
        apply(p, np.array([[x, 0.0, 0.0]]))[0, 2]
        for p, x in zip(poses, (-0.09, -0.03, 0.03, 0.09), strict=True)
    ]
    assert max(heights) > min(heights) + 0.01
    body = world.body(2)
    for k, segment in enumerate(body.segments[1:], start=1):
        ends = [apply(poses[n], np.array([segment.anchor])) for n in (k - 1, k)]
        assert np.abs(ends[0] - ends[1]).max() < 1e-9


def test_segment_poses_put_in_come_out_again() -> None:
    world = World(a_few(), TOTE, body_of=plain)
    world.run(0.5)
    poses = world.poses()
    again = World(world.items(), TOTE, body_of=plain).poses()
    for mine, other in zip(poses, again, strict=True):
        for a, b in zip(mine, other, strict=True):
            assert a.position == pytest.approx(b.position, abs=1e-9)
            assert abs(np.dot(a.quaternion, b.quaternion)) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("gap", [0.05, 0.002, 0.0, -0.004])
def test_the_distance_of_two_boxes_is_the_gap_between_their_faces(gap: float) -> None:
    size = (0.12, 0.10, 0.08)
    boxes = [
        item(1, "box", size, Pose((0.0, 0.0, 0.1))),
        item(2, "box", size, Pose((0.12 + gap, 0.01, 0.11))),
    ]
    world = World(boxes, body_of=plain)
    assert world.distance_m(0, 1) == pytest.approx(gap, abs=2e-5)
    assert world.distance_m(1, 0) == pytest.approx(gap, abs=2e-5)
    assert world.touching(0, 1) is (gap <= 0.001)
    assert world.penetration_m() == pytest.approx(max(0.0, -gap), abs=2e-5)


def test_what_is_removed_is_gone_and_what_lay_on_it_falls() -> None:
    low = item(1, "box", (0.2, 0.15, 0.06), Pose((0.0, 0.0, 0.032)))
    high = item(2, "box", (0.1, 0.1, 0.06), Pose((0.0, 0.0, 0.094)))
    world = World([low, high], TOTE, body_of=plain)
    world.settle(1.0)
    assert world.touching(0, 1)
    world.remove(0)
    assert world.settle(2.0)
    assert world.poses()[1][0].position[2] == pytest.approx(0.03, abs=0.001)
    assert [i.instance for i in world.items()] == [2]
    assert not world.present(0)
    with pytest.raises(ConfigError, match="item 0 was removed"):
        world.place(0, low.poses)


def test_a_parked_item_waits_until_it_is_placed() -> None:
    box = item(1, "box", (0.1, 0.1, 0.06), Pose((0.0, 0.0, 0.1)))
    world = World([box], TOTE, body_of=plain, parked=True)
    before = world.poses()
    world.run(0.4)
    assert world.poses()[0][0].position == pytest.approx(before[0][0].position, abs=1e-6)
    assert world.items() == ()
    world.place(0, box.poses)
    assert world.settle(2.0)
    assert world.items()[0].poses[0].position[2] == pytest.approx(0.03, abs=0.001)
