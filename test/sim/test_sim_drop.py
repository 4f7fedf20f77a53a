"""Full totes: at rest, inside, carried by something, not overlapping, and the same every time."""

import subprocess
import sys

import mujoco
import numpy as np
import pytest

from robollm.core.errors import ConfigError
from robollm.sim.geometry import turn
from robollm.sim.physics.drop import Settled, capacity, fill, pack_copies, take_out
from robollm.sim.physics.engine import World
from robollm.sim.physics.heap import SPILL, bounds
from robollm.sim.physics.totes import TOTES
from robollm.sim.physics.totes_mesh import half_sides
from robollm.sim.world import KINDS, Body, Form, Pose, Product, Segment, Solid

LARGE, SMALL = TOTES["yellow_large"], TOTES["grey_small"]
SIZES = {"bottle": (0.16, 0.06, 0.06), "can": (0.11, 0.07, 0.07), "tube": (0.14, 0.04, 0.04)}


def a_product(kind: str, number: int = 0, scale: float = 1.0) -> Product:
    x, y, z = SIZES.get(kind, (0.18, 0.12, 0.03))
    size = (x * scale, y * scale, z * scale)
    return Product(f"B0{number:08d}", "f", kind, "b", "t", "d", size, 0.25, "train")  # type: ignore[arg-type]


def plain(product: Product, form: Form) -> Body:
    """A box, a lying cylinder, or a chain of three plates."""
    x, y, z = product.size_m
    if product.kind in SIZES:
        pose = Pose((0.0, 0.0, 0.0), turn((0.0, 1.0, 0.0), np.pi / 2))
        return Body((), (Solid("cylinder", (y / 2, x / 2, 0.0), pose),), 0.25)
    if product.kind not in ("polybag", "pouch", "clear_bag"):
        return Body((), (Solid("box", (x / 2, y / 2, z / 2)),), 0.25)
    at = [-x / 3, 0.0, x / 3]
    solids = tuple(
        Solid("box", (x / 6.2, y / 2, z / 2), Pose((a, 0.0, 0.0)), i) for i, a in enumerate(at)
    )
    chain = [Segment(i - 1, (at[i] - x / 6, 0.0, 0.0), None, 0.03, 0.005) for i in (1, 2)]
    return Body((), solids, 0.15, (Segment(), *chain))


def mixed(n: int) -> list[Product]:
    return [a_product(KINDS[k % len(KINDS)], k, 0.7 + 0.03 * (k % 9)) for k in range(n)]


@pytest.fixture(scope="module")
def full() -> Settled:
    return fill(mixed(16), LARGE, 3, body_of=plain)


def pairs(world: World) -> dict[tuple[int, int], float]:
    """The slow oracle: the distance of every two solids of different things, by geometry alone."""
    mujoco.mj_kinematics(world.model, world.data)
    owner = {g: i for i in range(len(world)) for g in world.geom_ids(i)}
    out: dict[tuple[int, int], float] = {}
    for a in range(world.model.ngeom):
        for b in range(a + 1, world.model.ngeom):
            i, j = sorted((owner.get(a, -1), owner.get(b, -1)))
            if i != j:
                d = mujoco.mj_geomDistance(world.model, world.data, a, b, 0.02, np.zeros(6))
                out[i, j] = min(out.get((i, j), 1.0), d)
    return out


def test_every_item_is_in_the_scene_once_or_named_as_dropped(full: Settled) -> None:
    ids = [p.id for p in mixed(16)]
    kept = [item.product.id for item in full.scene.items]
    assert kept == [p for k, p in enumerate(ids) if k not in full.dropped]
    assert [item.instance for item in full.scene.items] == list(range(1, len(kept) + 1))
    assert len(kept) >= 12
    assert full.scene.tote == LARGE


def test_nothing_overlaps_and_everything_is_carried_down_to_the_tote(full: Settled) -> None:
    world = World(full.scene.items, LARGE, body_of=plain)
    near = pairs(world)
    assert min(near.values()) > -0.002
    assert full.penetration_m <= 0.002
    carried, todo = {-1}, [-1]
    while todo:
        at = todo.pop()
        for pair, distance in near.items():
            if at in pair and distance < 0.0015:
                other = pair[pair[0] == at]
                if other not in carried:
                    carried.add(other)
                    todo.append(other)
    assert carried == set(range(-1, len(world)))


def test_nothing_is_outside_of_the_tote_or_far_above_its_rim(full: Settled) -> None:
    for item in full.scene.items:
        box = bounds(plain(item.product, item.form), item.poses)
        assert box[0, 2] > -0.002  # round things have a hull of twelve corners
        assert box[1, 2] < LARGE.inner_m[2] + SPILL
        centre = np.abs(box.mean(axis=0)[:2])
        assert (centre < half_sides(LARGE, LARGE.inner_m[2])).all()


def test_a_settled_scene_stays_as_it_is(full: Settled) -> None:
    world = World(full.scene.items, LARGE, body_of=plain)
    world.run(0.3)
    for item, poses in zip(full.scene.items, world.poses(), strict=True):
        assert np.abs(np.subtract(item.poses[0].position, poses[0].position)).max() < 0.01


def test_what_lay_on_things_that_were_taken_out_comes_to_rest(full: Settled) -> None:
    scene = full.scene
    same, fewer, least = take_out(scene, [0, 3, 6], body_of=plain)
    assert same is scene
    numbers = [{i.instance for i in s.items} for s in (scene, fewer, least)]
    assert [len(n) for n in numbers] == [len(scene.items) - k for k in (0, 3, 6)]
    assert numbers[2] < numbers[1] < numbers[0]
    top = {i.instance: max(p.position[2] for p in i.poses) for i in scene.items}
    gone = numbers[0] - numbers[1]
    assert min(top[n] for n in gone) >= max(top[n] for n in numbers[1])
    for state in (fewer, least):
        world = World(state.items, LARGE, body_of=plain)
        world.run(0.3)
        for item, poses in zip(state.items, world.poses(), strict=True):
            assert np.abs(np.subtract(item.poses[0].position, poses[0].position)).max() < 0.01


def test_the_same_seed_gives_the_same_poses_and_another_one_does_not() -> None:
    scenes = [fill(mixed(6), SMALL, seed, body_of=plain).scene for seed in (1, 1, 2)]
    assert scenes[0] == scenes[1]
    assert scenes[0] != scenes[2]


def test_another_process_gives_the_same_poses() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_sim_drop as t;"
        "print(t.fill(t.mixed(6), t.SMALL, 1, body_of=t.plain).scene.items)"
    )
    here = __file__.rpartition("/")[0]
    run = subprocess.run(
        [sys.executable, "-c", code, here], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == str(fill(mixed(6), SMALL, 1, body_of=plain).scene.items)


def test_one_item_is_enough_and_none_is_not() -> None:
    assert len(fill(mixed(1), SMALL, 1, body_of=plain).scene.items) == 1
    with pytest.raises(ConfigError, match="wanted 1 to 40"):
        fill([], SMALL, 1, body_of=plain)


@pytest.mark.parametrize("kind", ["box", "can", "polybag", "bottle"])
def test_as_many_copies_as_fit_are_packed_and_rest(kind: str) -> None:
    product = a_product(kind)
    n = capacity(product, SMALL)
    packed = pack_copies(product, n, SMALL, 4, body_of=plain)
    assert len(packed.scene.items) == n
    assert packed.dropped == ()
    assert min(pairs(World(packed.scene.items, SMALL, body_of=plain)).values()) > -0.002


def test_an_impossible_pack_says_how_many_fit() -> None:
    product = a_product("box")
    most = capacity(product, SMALL)
    with pytest.raises(
        ConfigError, match=rf"400 copies of .* don't fit into grey_small; at most {most}"
    ):
        pack_copies(product, 400, SMALL, 1, body_of=plain)
    assert capacity(a_product("box", scale=4.0), SMALL) == 0
    with pytest.raises(ConfigError, match="at most 0"):
        pack_copies(a_product("box", scale=4.0), 1, SMALL, 1, body_of=plain)
