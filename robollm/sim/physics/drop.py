"""Totes full of things: dropped at random, or packed in rows, then settled by physics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from robollm.core.errors import ConfigError
from robollm.sim.geometry import F64
from robollm.sim.physics import heap
from robollm.sim.physics.engine import BodyOf, UnstableError, World
from robollm.sim.physics.heap import Heap
from robollm.sim.physics.totes_mesh import CORNER, half_sides
from robollm.sim.world import Form, Item, Pose, Product, Scene, Tote

_LOOKS = 3  # how many differently worn copies of a product there are
_ATTEMPTS = 4
_TRIES = 2  # how often an item is put in at most
_WAVE = 10  # items let go at a time
_PROOF_S = 0.5  # what rests stays for so long
_LOOK_S = 0.1  # how often that is looked at
_PROOFS = 3
MOVED_M = 0.0015  # within this it has stayed
_ROLLING = ("bottle", "can", "tube")
_LIMP = ("polybag", "clear_bag", "pouch")


@dataclass(frozen=True, slots=True)
class Settled:
    """A scene at rest. `items[k]` of the scene has instance k + 1.

    `penetration_m`: the deepest overlap of two things. `dropped`: indices into the products asked
    for of those that found no room or fell out; the others are in the scene in the same order.
    `seconds`: simulated time.
    """

    scene: Scene
    penetration_m: float
    dropped: tuple[int, ...]
    seconds: float


def fill(
    products: Sequence[Product],
    tote: Tote,
    seed: int,
    *,
    max_penetration_m: float = 0.002,
    same_object: bool = False,
    body_of: BodyOf | None = None,
) -> Settled:
    """Drop products into a tote in waves, from just above the heap, and let them come to rest.

    Args:
        products: 1 to 40, in the order in which they are dropped.
        tote: the container.
        seed: of orientations, places and wear.
        max_penetration_m: the deepest overlap that is accepted.
        same_object: all products lie alike, as copies from one carton do.
        body_of: see `World`.

    Raises:
        UnstableError: no attempt came to rest within the tolerance. A bad scene is never returned.
    """
    if not products:
        raise ConfigError("no product to drop, wanted 1 to 40", fix="pass at least one")
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, 4001, attempt])
        world = _world(products, tote, rng, body_of)
        pile = Heap(world, tote)
        try:
            _drop(pile, list(range(len(products))), rng, alike=same_object)
            if _calm(pile, rng, max_penetration_m):
                return _settled(pile, products)
        except UnstableError:
            continue
    raise UnstableError(
        f"{len(products)} products in {tote.name} did not come to rest in {_ATTEMPTS} attempts "
        f"with overlaps under {max_penetration_m * 1e3:.1f} mm (seed {seed})",
        fix="another seed, fewer products or a larger max_penetration_m",
    )


def _world(
    products: Sequence[Product], tote: Tote, rng: np.random.Generator, body_of: BodyOf | None
) -> World:
    """Return a world with every product parked outside of it."""
    items = [
        Item(k + 1, product, (Pose(),), Form(seed=int(rng.integers(_LOOKS))))
        for k, product in enumerate(products)
    ]
    return World(items, tote, body_of=body_of, parked=True)


def _drop(pile: Heap, order: list[int], rng: np.random.Generator, *, alike: bool = False) -> None:
    """Drop items of a pile in waves; what finds no room, or fell out twice, stays parked."""
    world = pile.world
    common = int(rng.integers(1 << 31))
    tries = dict.fromkeys(order, 0)
    while order:
        taken = pile.boxes()
        wave: list[int] = []
        left: list[int] = []
        for i in order:
            if len(wave) == _WAVE:
                left.append(i)
                continue
            product = world.item(i).product
            chance = np.random.default_rng(common) if alike and rng.random() < 0.8 else rng
            turns = [heap.tumble(product, chance) for _ in range(2)]
            # What found no room or didn't stay is laid in flat, along the walls.
            quarter = float(rng.integers(2)) * np.pi / 2
            for yaw in (quarter, quarter + np.pi / 2) if tries[i] else (quarter,):
                turns.append(heap.yawed(heap.lying(0), yaw + float(rng.normal(0, 0.04))))
            if pile.add(i, turns, rng.random((4, 2)), taken):
                wave.append(i)
            elif tries[i] < _TRIES:
                tries[i] += 1
                left.append(i)
        world.run(0.30)
        for i in pile.escaped():
            if pile.over(i):
                continue  # it may still slide in
            world.park(i)
            tries[i] = tries.get(i, _TRIES) + 1
            if tries[i] < _TRIES:
                left.append(i)
        order = left


def _calm(pile: Heap, rng: np.random.Generator, max_penetration_m: float) -> bool:
    """Bring a pile to rest, nothing above the rim, nothing overlapping; return whether it is."""
    world = pile.world
    for thickness in (8.0, 16.0, 20.0, 20.0):
        # A little thicker every time: what trembles stops, what is out of balance still falls.
        world.thicken(thickness)
        resting = world.settle(1.5)
        world.thicken(0.0)
        gone = pile.escaped()
        for i in gone:
            world.remove(i)
        if gone:
            continue
        if resting and world.penetration_m() <= max_penetration_m and not pile.floating():
            if not world.items():
                return False
            if _stays(pile):
                return True
        world.shake(rng, 0.15)
    return False


def _stays(pile: Heap) -> bool:
    """Return whether a calm pile stays where it is without the drag that has calmed it.

    What slips a little mostly lies better afterwards, so it gets more than one chance.
    """
    world = pile.world
    for _ in range(_PROOFS):
        before = _places(world)
        world.halt()
        for _ in range(round(_PROOF_S / _LOOK_S)):
            world.run(_LOOK_S)
            if _moved(before, _places(world)) > MOVED_M:
                break
        else:
            return not pile.escaped()
    return False


def _places(world: World) -> F64:
    """Return the positions of all segments of all items that are there [N, 3], m."""
    return np.array([p.position for item in world.items() for p in item.poses])


def _moved(before: F64, after: F64) -> float:
    """Return how far the place that moved most has moved, m."""
    return float(np.linalg.norm(after - before, axis=1).max())


def take_out(scene: Scene, counts: Sequence[int], *, body_of: BodyOf | None = None) -> list[Scene]:
    """Take the highest items out of a tote, and let what lay on or against them come to rest.

    Args:
        scene: a settled tote.
        counts: how many items are gone in each result; 0 is the scene as it is.
        body_of: what makes an item's body; None: robollm.sim.bodies.body_of.

    Returns:
        One scene per count, in the order of `counts`. Items keep their instances.
    """
    if scene.tote is None or not any(counts):
        return [scene for _ in counts]
    world = World(scene.items, scene.tote, body_of=body_of)
    height = [max(p.position[2] for p in item.poses) for item in scene.items]
    order = sorted(range(len(scene.items)), key=lambda i: (-height[i], i))
    states = {0: scene}
    gone = 0
    for count in sorted(set(counts) - {0}):
        for i in order[gone:count]:
            world.remove(i)
        gone = count
        world.thicken(8.0)
        world.settle(1.0)
        world.thicken(0.0)
        world.halt()
        world.run(_LOOK_S)
        states[count] = replace(scene, items=world.items())
    return [states[count] for count in counts]


def _settled(pile: Heap, products: Sequence[Product]) -> Settled:
    """Return a calm pile as a result."""
    world = pile.world
    items = tuple(replace(item, instance=k + 1) for k, item in enumerate(world.items()))
    dropped = tuple(i for i in range(len(products)) if not world.present(i))
    scene = Scene(items, pile.tote)
    return Settled(scene, world.penetration_m(), dropped, float(world.data.time))


# -------------------------------------------------------------------------------- copies


@dataclass(frozen=True, slots=True)
class _Grid:
    """Copies in rows: how they lie, how many along x, y and z, and their pitch in m."""

    face: int
    yaw: int
    counts: tuple[int, int, int]
    pitch: tuple[float, float, float]

    @property
    def total(self) -> int:
        """How many there are room for."""
        return self.counts[0] * self.counts[1] * self.counts[2]


def _grids(product: Product, tote: Tote) -> list[_Grid]:
    """Return every way to lay out copies of a product in rows, the roomiest first."""
    hx, hy = half_sides(tote, 0.0)
    inset = 0.3 * CORNER[tote.style] + 0.001
    room = (2 * (hx - inset), 2 * (hy - inset), tote.inner_m[2] + 0.01)
    length, width, height = product.size_m
    out = []
    faces = (0,) if product.kind in _LIMP else (0, 1, 2)
    for face in faces:
        a, b, c = ((length, width, height), (length, height, width), (height, width, length))[face]
        for yaw in (0, 1):
            size = (b, a, c) if yaw else (a, b, c)
            pitch = tuple(s + 0.0025 for s in size)
            nx, ny, nz = (int(r / p) for r, p in zip(room, pitch, strict=True))
            if product.kind in _ROLLING and face != heap.upright(product):
                nz = min(nz, 1 if length <= room[2] else 2)  # a pile of them rolls apart
            if nx * ny * nz:
                out.append(_Grid(face, yaw, (nx, ny, nz), (pitch[0], pitch[1], pitch[2])))
    return sorted(out, key=lambda g: -g.total)


def capacity(product: Product, tote: Tote) -> int:
    """Return how many copies of a product fit into a tote in rows and layers."""
    grids = _grids(product, tote)
    return grids[0].total if grids else 0


def pack_copies(
    product: Product,
    n: int,
    tote: Tote,
    seed: int,
    *,
    max_penetration_m: float = 0.002,
    body_of: BodyOf | None = None,
) -> Settled:
    """Pack n copies of a product tightly in rows and layers, a few of them disturbed.

    Raises:
        ConfigError: n copies don't fit.
        UnstableError: no attempt came to rest with all n inside.
    """
    most = capacity(product, tote)
    if not 1 <= n <= most:
        size = "x".join(f"{100 * s:.0f}" for s in product.size_m)
        raise ConfigError(
            f"{n} copies of {product.id} ({size} cm) don't fit into {tote.name}; at most {most}",
            fix=f"ask for 1 to {most} copies" if most else "take a larger tote",
        )
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, 4002, attempt])
        world = _world([product] * n, tote, rng, body_of)
        pile = Heap(world, tote)
        fitting = [g for g in _grids(product, tote) if g.total >= n]
        grid = fitting[min(int(rng.exponential(0.8)), len(fitting) - 1)]
        # The last attempt is the neat one: nothing is disturbed, so nothing can fall out.
        loose = min(int(rng.integers(0, 4)), n // 4) if attempt < _ATTEMPTS - 1 else 0
        try:
            _stack(pile, grid, n - loose, rng, neat=attempt == _ATTEMPTS - 1)
            world.run(0.1)
            _drop(pile, list(range(n - loose, n)), rng)
            if _calm(pile, rng, max_penetration_m) and len(world.items()) == n:
                return _settled(pile, [product] * n)
        except UnstableError:
            continue
    raise UnstableError(
        f"{n} copies of {product.id} in {tote.name} did not come to rest in {_ATTEMPTS} attempts",
        fix=f"another seed, or fewer copies ({most} is the most that fit)",
    )


def _stack(pile: Heap, grid: _Grid, n: int, rng: np.random.Generator, *, neat: bool) -> None:
    """Put n copies into the cells of a grid, layer by layer, in the middle or against a wall."""
    hx, hy = half_sides(pile.tote, 0.0)
    inset = 0.3 * CORNER[pile.tote.style] + 0.001
    nx, ny, _ = grid.counts
    spare = np.array([2 * (hx - inset), 2 * (hy - inset)]) - np.multiply((nx, ny), grid.pitch[:2])
    start = spare * (0.5 if neat else rng.choice([0.0, 0.5, 1.0], 2)) - (hx - inset, hy - inset)
    for k in range(n):
        cell = np.array([k % nx, k // nx % ny, k // (nx * ny)])
        at = (cell + 0.5) * grid.pitch
        # Copies lie either way round, and a hair askew.
        half = float(rng.integers(2)) if not neat else 0.0
        yaw = (grid.yaw / 2 + half) * np.pi + (0.0 if neat else float(rng.normal(0, 0.002)))
        q = heap.yawed(heap.lying(grid.face), yaw)
        pose = Pose((float(start[0] + at[0]), float(start[1] + at[1]), float(at[2])), q)
        pile.world.place(k, [pose] * len(pile.world.body(k).segments))
