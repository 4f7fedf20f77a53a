"""A heap of items that grows in a tote: where the next one can go, what has left, what is stuck."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robollm.sim.geometry import F64, apply, matrix, quaternion, turn
from robollm.sim.physics.engine import World
from robollm.sim.physics.totes_mesh import CORNER, half_sides
from robollm.sim.world import Body, Kind, Pose, Product, Quat, Solid, Tote

GAP = 0.004  # m between things when they are put in
_OVER = 0.08  # m above the rim: from this high things are still let go
SPILL = 0.06  # m, how far above the rim a thing may stand out

# How a thing of each kind comes to lie: on its largest face, on its long side, on its end.
_FACES: dict[Kind, tuple[float, float, float]] = {
    "box": (0.70, 0.20, 0.10),
    "carton": (0.68, 0.22, 0.10),
    "book": (0.88, 0.09, 0.03),
    "polybag": (1.0, 0.0, 0.0),
    "pouch": (0.94, 0.06, 0.0),
    "clear_bag": (1.0, 0.0, 0.0),
    "blister": (0.92, 0.06, 0.02),
    "bottle": (0.80, 0.0, 0.20),
    "can": (0.45, 0.0, 0.55),
    "tube": (0.95, 0.0, 0.05),
}


def corners(solid: Solid) -> F64:
    """Return points [N, 3] around a solid, in the rest product frame, m: it is in their hull.

    Boxes: their corners. Round things: two rings of a twelve-cornered prism.
    """
    a, b, c = solid.size
    if solid.shape in ("box", "ellipsoid"):
        signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
        return apply(solid.pose, signs * (a, b, c))
    angle = (np.arange(12) + 0.5) * np.pi / 6
    ring = np.stack([np.cos(angle), np.sin(angle), np.ones(12)], axis=1) / np.cos(np.pi / 12)
    half = (b if solid.shape == "cylinder" else a + b) * np.cos(np.pi / 12)
    return apply(solid.pose, np.concatenate([ring * (a, a, half), ring * (a, a, -half)]))


def bounds(body: Body, poses: Sequence[Pose]) -> F64:
    """Return what a posed body's solids lie in: lowest and highest corner [2, 3], m, world."""
    points = np.concatenate([apply(poses[s.segment], corners(s)) for s in body.solids])
    return np.stack([points.min(axis=0), points.max(axis=0)])


def upright(product: Product) -> int:
    """Return the face (see `lying`) on which a round thing stands; flat tins stand on face 0."""
    length, width, height = product.size_m
    return 0 if width > 0.98 * length and height < 0.98 * width else 2


def tumble(product: Product, rng: np.random.Generator, wild: float = 0.08) -> Quat:
    """Return a random orientation as things have that are tossed into a tote.

    Args:
        product: bags and books mostly lie flat, bottles may stand.
        rng: where chance comes from.
        wild: the share of things that come in any orientation (bags never do).
    """
    kind = product.kind
    flat, side, end = _FACES[kind]
    if kind == "can" and upright(product) == 0:
        flat, side, end = 0.9, 0.1, 0.0
    if rng.random() < wild and flat < 0.94:
        q = rng.normal(size=4)
        w, x, y, z = (float(v) for v in q / np.linalg.norm(q))
        return (w, x, y, z)
    face = int(rng.choice(3, p=[flat, side, end]))
    upside = np.pi if rng.random() < 0.35 else 0.0
    if face == 2 and kind in ("bottle", "tube"):
        upside = 0.0  # neither stands on the wrong end
    yaw = float(rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.35:  # as packed by hand: along the walls
        yaw = float(rng.integers(4)) * np.pi / 2 + float(rng.normal(0, 0.05))
    lean = matrix(turn((1.0, 0.0, 0.0), float(rng.normal(0, 0.10))))
    lean = lean @ matrix(turn((0.0, 1.0, 0.0), float(rng.normal(0, 0.10))))
    return quaternion(matrix(turn((0.0, 0.0, 1.0), yaw)) @ lean @ matrix(lying(face, upside)))


def lying(face: int, upside: float = 0.0) -> Quat:
    """Return the turn that lays a thing on face 0 (largest), 1 (its long side) or 2 (+x up)."""
    if face == 0:
        return turn((1.0, 0.0, 0.0), upside)
    if face == 1:
        return turn((1.0, 0.0, 0.0), np.pi / 2 + upside)
    return turn((0.0, 1.0, 0.0), -np.pi / 2 + upside)


def yawed(q: Quat, radians: float) -> Quat:
    """Return a turn followed by one about the world's z."""
    return quaternion(matrix(turn((0.0, 0.0, 1.0), radians)) @ matrix(q))


class Heap:
    """The things in a world's tote."""

    def __init__(self, world: World, tote: Tote) -> None:
        self.world = world
        self.tote = tote
        self.depth = tote.inner_m[2]

    def boxes(self) -> dict[int, F64]:
        """Return the bounds [2, 3] of every item that takes part."""
        poses = self.world.poses()
        return {
            i: bounds(self.world.body(i), poses[i])
            for i in range(len(self.world))
            if self.world.present(i)
        }

    def add(
        self, i: int, turns: Sequence[Quat], spots: F64, taken: dict[int, F64], speed: float = 0.5
    ) -> bool:
        """Hang item i over the heap, clear of everything, where it gets deepest, and let it go.

        Args:
            i: the item.
            turns: orientations to try, one after the other.
            spots: [N, 2] 0 to 1: where in the free floor to try each orientation.
            taken: bounds of what is there; item i's are added.
            speed: downwards, m/s.

        Returns:
            Whether there was room for it.
        """
        body = self.world.body(i)
        there = np.array([*taken.values()]).reshape(-1, 2, 3)
        best: tuple[float, Pose, F64] | None = None
        for q in turns:
            box = bounds(body, [Pose((0.0, 0.0, 0.0), q)] * len(body.segments))
            for spot in spots:
                found = self._rest(box, spot, there)
                if found is None:
                    continue
                # Low, and rather flat than on end.
                cost = float(found[2] + box[0, 2] + 0.6 * (box[1, 2] - box[0, 2]))
                if best is None or cost < best[0]:
                    x, y, z = (float(v) for v in found)
                    best = (cost, Pose((x, y, z), q), box + found)
        if best is None:
            return False
        self.world.place(i, [best[1]] * len(body.segments), (0.0, 0.0, -speed))
        taken[i] = best[2]
        return True

    def _rest(self, box: F64, spot: F64, there: F64) -> F64 | None:
        """Return where [3] a thing with these bounds hangs free; None: too high, too large.

        `there`: bounds [N, 2, 3] of what is in the way.
        """
        z = GAP
        place = np.zeros(3)
        for _ in range(8):
            room = np.array(half_sides(self.tote, min(z, self.depth)))
            inset = 0.3 * CORNER[self.tote.style] + 0.002
            low, high = -room + inset - box[0, :2], room - inset - box[1, :2]
            if (low > high).any():
                if z > self.depth * 0.4:
                    return None
                z += 0.04  # the tote is wider further up
                continue
            place = np.array([*(low + (high - low) * spot), z - box[0, 2]])
            here = box + place
            over = (there[:, 0, :2] < here[1, :2] + 0.001).all(axis=1)
            over &= (there[:, 1, :2] > here[0, :2] - 0.001).all(axis=1)
            over &= (there[:, 1, 2] + GAP > z + 1e-9) & (there[:, 0, 2] < here[1, 2] + GAP)
            if not over.any():
                break
            z = float(there[over, 1, 2].max()) + GAP
        else:
            return None
        return place if z < self.depth + _OVER else None

    def over(self, i: int) -> bool:
        """Whether item i's middle is over the tote's opening, or in it."""
        x, y, z = bounds(self.world.body(i), self.world.poses()[i]).mean(axis=0)
        hx, hy = half_sides(self.tote, self.depth)
        return bool(abs(x) < hx and abs(y) < hy and z > 0)

    def escaped(self) -> list[int]:
        """Return the items that take part but are not in the tote: beside it, or on its rim."""
        out = []
        hx, hy = half_sides(self.tote, self.depth)
        for i, box in self.boxes().items():
            centre = box.mean(axis=0)
            inside = abs(centre[0]) < hx and abs(centre[1]) < hy and centre[2] < self.depth
            over = np.abs(box[:, :2]).max(axis=0) > np.array([hx, hy])
            hanging = bool(over.any()) and box[1, 2] > self.depth + 0.005
            if not inside or hanging or box[1, 2] > self.depth + SPILL or box[0, 2] < -0.01:
                out.append(i)
        return out

    def floating(self, within_m: float = 0.0015) -> list[int]:
        """Return the items that nothing carries: no chain of contacts leads to the tote."""
        near: dict[int, set[int]] = {}
        for a, b, d in self.world.contacts():
            if d <= within_m:
                near.setdefault(a, set()).add(b)
                near.setdefault(b, set()).add(a)
        seen, todo = {-1}, [-1]
        while todo:
            for n in sorted(near.get(todo.pop(), ())):
                if n not in seen:
                    seen.add(n)
                    todo.append(n)
        return [i for i in range(len(self.world)) if self.world.present(i) and i not in seen]
