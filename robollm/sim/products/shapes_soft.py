"""Bags and pouches: pillows that bend, as chains of segments along x."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.sim.products.artwork import Atlas
from robollm.sim.products.artwork_pack import Rect
from robollm.sim.products.shapes_mesh import grid, join, uv_of
from robollm.sim.products.shapes_things import thing
from robollm.sim.world import Body, Mesh, Part, Pose, Product, Segment, Solid, Surface

F64 = NDArray[np.float64]
_FILM = 0.0006  # half thickness of a seam, m


@dataclass(frozen=True, slots=True)
class Pillow:
    """A bag's form at rest, symmetric about z = 0.

    `size` is the bounding box. Seams stand out by `seams` = (x-, x+, y) m; from their inner edge
    the film rises over `edge` m; `dome` m more in the middle; `taper`: share of the thickness
    that is lost towards x+.
    """

    size: tuple[float, float, float]
    seams: tuple[float, float, float]
    edge: float
    dome: float
    taper: float = 0.0
    gain: float = 1.0  # set by `fitted`

    def half(self, x: F64, y: F64) -> F64:
        """Return half the thickness, m, at points."""
        a, b, c = (v / 2 for v in self.size)
        left, right, side = self.seams
        lean = 1 - self.taper * np.clip((x + a) / (2 * a), 0, 1) ** 1.5
        dx = np.minimum(x + a - left, a - right - x)
        dy = b - side - np.abs(y)
        k = 0.004  # m, rounds the corners
        h = np.clip(0.5 + 0.5 * (dy - dx) / k, 0, 1)
        d = dy * (1 - h) + dx * h - k * h * (1 - h)
        rise = np.sqrt(np.clip(1 - (1 - np.clip(d / self.edge, 0, 1)) ** 2, 0, 1))
        bx, by = np.clip(dx / (a * 0.55), 0, 1), np.clip(dy / (b * 0.55), 0, 1)
        swell = np.sin(np.pi / 2 * bx) * np.sin(np.pi / 2 * by)
        thick = self.gain * lean * ((c - self.dome) * rise + self.dome * swell * rise)
        out: F64 = np.maximum(_FILM, thick)
        return out

    def fitted(self) -> Pillow:
        """Return the pillow that is as thick as its bounding box at the thickest place."""
        x = self.size[0] * (np.arange(201) / 200 - 0.5)
        thickest = float(self.half(x, np.zeros_like(x)).max())
        return replace(self, gain=self.size[2] / 2 / thickest)


def polybag(product: Product, atlas: Atlas, seed: int) -> Body:
    """Make a mailer: welded seams, wrinkled film, soft goods."""
    x, y, z = product.size_m
    pillow = Pillow((x, y, z), (0.012, 0.018, 0.007), 0.5 * z, min(0.2 * z, 0.0045))
    skin = _skin(pillow, atlas, seed, wrinkle=0.0016)
    surface = Surface(atlas.texture, specular=0.35, shininess=0.35)
    return _chain(product, pillow, (Part(skin, surface, None),), 0.035)


def pouch(product: Product, atlas: Atlas, seed: int) -> Body:
    """Make a stand-up pouch (thick at the bottom, x-) or a pillow pouch, with crimped seals."""
    x, y, z = product.size_m
    if product.look["shape"]["pillow"]:
        pillow = Pillow((x, y, z), (0.012, 0.012, 0.0), 0.62 * z, min(0.2 * z, 0.0045))
    else:
        pillow = Pillow((x, y, z), (0.004, 0.022, 0.006), 0.6 * z, min(0.16 * z, 0.005), 0.45)
    pillow = pillow.fitted()
    skin = _skin(pillow, atlas, seed, wrinkle=0.0011)
    surface = Surface(atlas.texture, specular=0.55, shininess=0.55)
    return _chain(product, pillow, (Part(skin, surface, None),), 0.06)


def clear_bag(product: Product, atlas: Atlas, seed: int) -> Body:
    """Make a clear film bag with a printed header, things showing through."""
    x, y, z = product.size_m
    header = 0.34 * x
    pillow = Pillow((x, y, z), (0.006, 0.9 * header, 0.004), 0.5 * z, min(0.15 * z, 0.004))
    film = _skin(pillow, None, seed, wrinkle=0.0012)
    room = (0.8 * (x - header), 0.78 * y, 0.72 * z)
    at = (-x / 2 + 0.006 + (x - header) / 2, 0.0, 0.0)
    goods = thing(int(product.look["shape"]["things"]), room, at, atlas.faces["thing"])
    cards = join([
        _card(x / 2 - header, x / 2, y, side, atlas.faces["front" if side > 0 else "back"])
        for side in (1.0, -1.0)
    ])  # fmt: skip
    parts = (
        Part(goods, Surface(atlas.texture, specular=0.3), None),
        Part(cards, Surface(atlas.texture, specular=0.25), None),
        Part(film, Surface(None, (0.94, 0.96, 0.97, 0.2), 0.95, 0.75), None),
    )
    return _chain(product, pillow, parts, 0.05)


def _card(x1: float, x2: float, y: float, side: float, rect: Rect) -> Mesh:
    """Return one face of the folded header, which stands a little off the film."""
    xs, ys = np.linspace(x1, x2, 5), np.linspace(-y / 2, y / 2, 5)
    if side < 0:
        ys = ys[::-1]
    gx, gy = np.meshgrid(xs, ys)
    z = np.full_like(gx, side * (_FILM + 0.0006))
    right, down = (gx - x1) / (x2 - x1), 0.5 - side * gy / y
    return grid(np.stack([gx, gy, z], -1), uv_of(rect, right, down))


def _lines(low: float, high: float, start: float, stop: float, edge: float, count: int) -> F64:
    """Return grid lines that are dense where the film rises, from low to high."""
    t = edge * np.array([0.0, 0.06, 0.25, 0.6])
    middle = np.linspace(low + start + edge, high - stop - edge, count)
    left, right = low + start + t, high - stop - t[::-1]
    ends = [np.array([low])] if start > 0.001 else []
    tail = [np.array([high])] if stop > 0.001 else []
    return np.concatenate([*ends, left, middle, right, *tail])


def _skin(pillow: Pillow, atlas: Atlas | None, seed: int, wrinkle: float) -> Mesh:
    """Return both sheets of a bag, wrinkled inwards by up to `wrinkle` m."""
    rng = np.random.default_rng([22, seed])
    a, b = pillow.size[0] / 2, pillow.size[1] / 2
    left, right, side = pillow.seams
    edge = min(pillow.edge, 0.4 * (b - side), 0.3 * a)
    fine = atlas is not None  # clear film shows what is inside, so fewer points do
    xs = _lines(-a, a, left, right, edge, 15 if fine else 9)
    ys = _lines(-b, b, side, side, edge, 11 if fine else 7)
    gx, gy = np.meshgrid(xs, ys)
    half = pillow.half(gx, gy)
    sheets = []
    for sign, name in ((1.0, "front"), (-1.0, "back")):
        noise = cv2.resize(rng.standard_normal((6, 8)).astype(np.float32), (len(xs), len(ys)),
                           interpolation=cv2.INTER_CUBIC)  # fmt: skip
        folds = np.abs(np.sin(3 * noise + float(rng.uniform(0, 6)) + 40 * gx * rng.uniform(0, 2)))
        off = wrinkle * folds * np.clip(half / (0.5 * pillow.size[2]), 0, 1)
        z = sign * np.maximum(half - np.where(half > 2 * _FILM, off, 0.0), _FILM)
        points = np.stack([gx, gy, z], axis=-1)
        right_, down = (gx + a) / (2 * a), 0.5 - sign * gy / (2 * b)
        uv = (uv_of(atlas.faces[name], right_, down) if atlas is not None
              else np.zeros((*gx.shape, 2)))  # fmt: skip
        if sign < 0:
            points, uv = points[::-1], uv[::-1]
        sheets.append(grid(points, uv))
    return join([*sheets, *_rim(sheets[0], sheets[1], len(xs), len(ys))])


def _rim(top: Mesh, bottom: Mesh, columns: int, rows: int) -> list[Mesh]:
    """Return the four narrow strips that close the two sheets."""
    up = top.vertices.reshape(rows, columns, 3).astype(np.float64)
    low = bottom.vertices.reshape(rows, columns, 3)[::-1].astype(np.float64)
    uv = top.uv.reshape(rows, columns, 2).astype(np.float64)
    strips = []
    for pick in (
        (slice(0, 1), slice(None)),
        (slice(rows - 1, rows), slice(None, None, -1)),
        (slice(None, None, -1), slice(0, 1)),
        (slice(None), slice(columns - 1, columns)),
    ):
        u, w, t = up[pick].reshape(-1, 3), low[pick].reshape(-1, 3), uv[pick].reshape(-1, 2)
        strips.append(grid(np.stack([w, u]), np.stack([t, t])))
    return strips


def _chain(product: Product, pillow: Pillow, parts: tuple[Part, ...], stiffness: float) -> Body:
    """Return the body: three or four segments with ball joints, wrapped in stacks of boxes."""
    a = pillow.size[0] / 2
    count = 4 if pillow.size[0] > 0.28 else 3
    cuts = np.linspace(-a, a, count + 1)
    give = stiffness * product.weight_kg / 0.3
    give = float(np.clip(give, 0.01, 0.1))
    segments = [Segment()]
    segments += [
        Segment(i - 1, (float(cuts[i]), 0.0, 0.0), None, give, 0.08 * give) for i in range(1, count)
    ]
    solids: list[Solid] = []
    for i in range(count):
        solids += _boxes(pillow, float(cuts[i]), float(cuts[i + 1]), i)
    return Body(parts, tuple(solids), product.weight_kg, tuple(segments), friction=0.6)


def _boxes(pillow: Pillow, x1: float, x2: float, segment: int) -> list[Solid]:
    """Return a stack of boxes that wraps the pillow between x1 and x2, the thickest first.

    Each box reaches down the slope until its upper edge would stand off by more than `off`; the
    next one begins a little below, where film would stick out of it by no more than `out`.
    """
    off, out = 0.0027, 0.0009
    xs = np.linspace(x1, x2, 81)
    ys = np.linspace(0, pillow.size[1] / 2, 121)
    field = pillow.half(*np.meshgrid(xs, ys))
    top = float(field.max())

    def footprint(level: float) -> F64:
        """The largest rectangle (x1, x2, y half) in which the pillow is at least so thick."""
        inside = field >= min(level, top) - 1e-9
        row = inside.any(axis=1)
        left = xs[inside.argmax(axis=1)]
        right = xs[len(xs) - 1 - inside[:, ::-1].argmax(axis=1)]
        best = int(np.argmax(np.where(row, (right - left + 1e-6) * (ys + 1e-6), -1.0)))
        return np.array([left[best], right[best], ys[best]])

    boxes: list[Solid] = []

    def add(rect: F64, half: float) -> None:
        size = (float(rect[1] - rect[0]) / 2, float(rect[2]), half)
        at = (float(rect[0] + rect[1]) / 2, 0.0, 0.0)
        boxes.append(Solid("box", size, Pose(at), segment))

    z, rect = top, footprint(top)
    while z > 2.5 * _FILM:
        edge, level = footprint(z), z
        while level > 2 * _FILM:
            lower = footprint(level - 0.0004)
            if level - 0.0004 < z - off and np.abs(lower - edge).max() > off:
                break
            level, rect = level - 0.0004, lower
        add(rect, z)
        z = level - out
    whole = np.array([x1, x2, pillow.size[1] / 2])
    if not boxes or np.abs(whole - rect).max() > 0.0015:
        add(whole, 0.001)
    return boxes
