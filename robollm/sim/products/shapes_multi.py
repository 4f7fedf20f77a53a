"""Multipacks: the units' own bodies, held together by shrink film, a printed band, or both."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.sim.geometry import compose
from robollm.sim.products.artwork import Atlas, atlas
from robollm.sim.products.damage_mesh import moved
from robollm.sim.products.multipack import FILM_M, WORDS, bundle, unit_of, units
from robollm.sim.products.shapes_mesh import grid, join, uv_of
from robollm.sim.world import Body, Mesh, Part, Pose, Product, Solid, Surface

F64 = NDArray[np.float64]
_BAND_SHARE = {"band": 0.36, "both": 0.26}  # of the length that is wrapped
_BAND_M = 0.0004  # thickness of the band, and how far it lies off
_REPEATS = 2  # of the band's print on its way around
_FILM = Surface(None, (0.92, 0.95, 0.98, 0.24), 0.95, 0.7)


def printed(product: Product, seed: int) -> Atlas:
    """Print a multipack's unit, and as the face `wrapper` what is on its band or sticker."""
    unit = product.look["unit"]
    size = np.asarray(unit["size_m"])
    axis, along = _axis(product), int(unit["along"])
    words = [WORDS[units(product)], product.look["amount"]]
    if unit["wrap"] == "film":
        wide, high, share = *_sticker_size(product), 1.0
    else:
        size[along] += np.ptp([p.position[along] for p in bundle(product).places])
        seen = along if along != axis else 0  # what the band is read along
        wide = float(size.sum() - size[axis])  # half the way round
        high, share = _BAND_SHARE[unit["wrap"]] * unit["size_m"][axis], float(size[seen]) / wide
    single = unit_of(product)
    single = replace(single, look={**single.look, "banner": [*words, share]})
    return atlas(single, seed, {"wrapper": (wide, high)})


def multipack(product: Product, unit: Body, printed: Atlas, seed: int) -> Body:
    """Make a multipack.

    Args:
        product: the whole.
        unit: the body of one unit, in its own frame.
        printed: what `printed` returned.
        seed: of the copy; film wrinkles differently.
    """
    plan = bundle(product)
    wrap, along = product.look["unit"]["wrap"], int(product.look["unit"]["along"])
    parts = [
        replace(p, mesh=join([moved(p.mesh, place) for place in plan.places])) for p in unit.parts
    ]
    solids = [replace(s, pose=compose(p, s.pose)) for p in plan.places for s in unit.solids]
    axis = _axis(product)
    x1, x2 = _wrapped(unit, axis)
    points = np.concatenate([p.mesh.vertices for p in parts]).astype(np.float64)
    if product.kind != "bottle":
        x1, x2 = float(points[:, axis].min()), float(points[:, axis].max())
    points = points[(points[:, axis] > x1 - 0.002) & (points[:, axis] < x2 + 0.002)]
    hull = _hull(points[:, _across(axis)])
    if wrap != "band":
        ring = _ring(_grown(hull, FILM_M), 0)
        film = _film(ring, (x1 - FILM_M, x2 + FILM_M), axis, seed)
        solids += _bridge(hull, plan.places, (x1, x2), axis, product)
    if wrap == "film":
        label = _sticker(product, hull, plan.places, (x1 + x2) / 2, axis, printed)
    else:
        middle, half = (x1 + x2) / 2, _BAND_SHARE[wrap] * (x2 - x1) / 2
        off = 2 * FILM_M + (0.0002 if wrap == "both" else 0.0)
        start = int(_across(axis).index(along)) if along != axis else 0
        label = _band(hull, off, (middle - half, middle + half), axis, start, printed)
    parts.append(Part(label, Surface(printed.texture, specular=0.35, shininess=0.4)))
    if wrap != "band":
        parts.append(Part(film, _FILM))  # what can be seen through comes last
    turned = Pose(quaternion=plan.turned)
    return Body(
        tuple(replace(p, mesh=moved(p.mesh, turned)) for p in parts),
        tuple(replace(s, pose=compose(turned, s.pose)) for s in solids),
        product.weight_kg,
        friction=unit.friction,
    )


def _axis(product: Product) -> int:
    """Return the bundle's axis that film and band go around."""
    return 2 if product.kind == "can" and product.look["shape"]["flat"] else 0


def _across(axis: int) -> tuple[int, int]:
    """Return the two other axes, so that all three are right-handed."""
    return ((axis + 1) % 3, (axis + 2) % 3)


def _wrapped(unit: Body, axis: int) -> tuple[float, float]:
    """Return from where to where along its axis a unit is about as wide as anywhere."""
    points = np.concatenate([p.mesh.vertices for p in unit.parts]).astype(np.float64)
    wide = np.abs(points[:, _across(axis)[0]])
    at = points[wide > 0.97 * wide.max(), axis]
    return float(at.min()), float(at.max())


def _hull(points: F64) -> F64:
    """Return the convex outline [K, 2] of points [N, 2], counter-clockwise."""
    found = cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)
    x, y = found.T
    if float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) < 0:
        found = found[::-1]
    keep = np.linalg.norm(found - np.roll(found, 1, axis=0), axis=1) > 2e-4
    return np.asarray(found[keep], np.float64)


def _grown(hull: F64, by: float) -> F64:
    """Return a convex outline whose edges lie `by` m further out."""
    edge = np.roll(hull, -1, axis=0) - hull
    normal = np.stack([edge[:, 1], -edge[:, 0]], 1) / np.linalg.norm(edge, axis=1, keepdims=True)
    before = np.roll(normal, 1, axis=0)
    both = normal + before
    grown: F64 = hull + by * both / np.maximum((both * normal).sum(1, keepdims=True), 0.5)
    return grown


def _ring(hull: F64, start: int, step: float = 0.02) -> F64:
    """Return an outline in short steps, closed [K, 2].

    It begins where the coordinate `start` is lowest, at the middle of the other one.
    """
    other = 1 - start
    middle = (hull[:, other].min() + hull[:, other].max()) / 2
    a, b = hull, np.roll(hull, -1, axis=0)
    cut = (a[:, other] - middle) * (b[:, other] - middle) <= 0
    low = np.where(cut, a[:, start] + b[:, start], np.inf)
    k = int(np.argmin(low))
    reach = b[k, other] - a[k, other]
    share = (middle - a[k, other]) / reach if abs(reach) > 1e-9 else 0.5
    first = a[k] + share * (b[k] - a[k])
    loop = np.concatenate([first[None], np.roll(hull, -k - 1, axis=0), first[None]])
    out = [loop[:1]]
    for p, q in pairwise(loop):
        n = max(1, int(np.ceil(np.linalg.norm(q - p) / step)))
        out.append(p + (q - p) * (np.arange(1, n + 1) / n)[:, None])
    return np.concatenate(out)


def _placed(ring: F64, at: F64, axis: int) -> F64:
    """Return points [len(at), K, 3]: an outline at places along an axis."""
    points = np.zeros((len(at), len(ring), 3))
    points[..., list(_across(axis))] = ring
    points[..., axis] = at[:, None]
    return points


def _film(ring: F64, ends: tuple[float, float], axis: int, seed: int) -> Mesh:
    """Return film all around, closed at both ends, with faint wrinkles along its axis."""
    rng = np.random.default_rng([32, seed])
    at = np.asarray(np.linspace(*ends, 9), np.float64)
    points = _placed(ring, at, axis)
    centre = ring[:-1].mean(axis=0)
    out = ring - centre
    out = out / np.linalg.norm(out, axis=1)[:, None]
    folds = rng.uniform(0, 1, (len(at), len(ring))) ** 3
    folds[[0, -1]] = 0.0
    folds[:, -1] = folds[:, 0]
    points[..., list(_across(axis))] += 0.0005 * folds[..., None] * out
    blank = np.zeros((*points.shape[:2], 2))
    tips = _placed(centre + 0.02 * (ring - centre), np.asarray(ends), axis)
    return join([
        grid(points, blank),
        grid(np.stack([tips[0], points[0]]), blank[:2]),
        grid(np.stack([points[-1], tips[1]]), blank[:2]),
    ])  # fmt: skip


def _band(
    hull: F64, off: float, ends: tuple[float, float], axis: int, start: int, printed: Atlas
) -> Mesh:
    """Return a band around an outline: printed outside, with an inside and two edges."""
    at = np.asarray(ends)
    outer = _ring(_grown(hull, off), start)
    middle = outer[:-1].mean(axis=0)
    inner = outer - _BAND_M * (outer - middle) / np.linalg.norm(outer - middle, axis=1)[:, None]
    rect = printed.faces["wrapper"]
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(outer, axis=0), axis=1))])
    turns = _REPEATS * length / length[-1]
    sheets = []
    for k in range(_REPEATS):
        t = np.unique(np.concatenate([[k, k + 1], turns[(turns > k) & (turns < k + 1)]]))
        ring = np.stack([np.interp(t, turns, outer[:, i]) for i in range(2)], axis=1)
        uv = uv_of(rect, np.broadcast_to(t - k, (2, len(t))), np.array([[1.0], [0.0]]))
        sheets.append(grid(_placed(ring, at, axis), uv))
    blank = uv_of(rect, np.full((2, len(outer)), 0.01), np.full((2, len(outer)), 0.01))
    high, low = _placed(outer, at, axis), _placed(inner, at, axis)
    sheets.append(grid(low[::-1], blank))
    sheets.append(grid(np.stack([low[0], high[0]]), blank))
    sheets.append(grid(np.stack([high[1], low[1]]), blank))
    return join(sheets)


def _sticker_size(product: Product) -> tuple[float, float]:
    """Return width and height of the sticker on film, m."""
    unit = product.look["unit"]
    wide = float(np.clip(0.7 * unit["size_m"][int(unit["along"])], 0.03, 0.075))
    return wide, min(0.62 * wide, 0.4 * unit["size_m"][_axis(product)])


def _sticker(
    product: Product,
    hull: F64,
    places: tuple[Pose, ...],
    middle: float,
    axis: int,
    printed: Atlas,
) -> Mesh:
    """Return stickers on the film, across the first gap, in front and behind."""
    along = int(product.look["unit"]["along"])
    out = next(i for i in _across(axis) if i != along)
    wide, high = _sticker_size(product)
    at = np.zeros(3)
    at[along] = (places[0].position[along] + places[1].position[along]) / 2
    at[axis] = middle
    up = np.eye(3)[axis]
    points = np.array([[[-1, -1, 0], [1, -1, 0]], [[-1, 1, 0], [1, 1, 0]]]) / 2
    uv = uv_of(printed.faces["wrapper"], np.array([[0.0, 1.0]]), np.array([[1.0], [0.0]]))
    side = hull[:, _across(axis).index(out)]
    sheets = []
    for normal, level in ((np.eye(3)[out], side.max()), (-np.eye(3)[out], -side.min())):
        frame = np.stack([np.cross(up, normal) * wide, up * high, normal])
        front = points @ frame + at + (level + FILM_M + 0.0007) * normal
        sheets.append(grid(front, uv))
        sheets.append(grid((front - 0.0003 * normal)[:, ::-1], uv[:, ::-1]))
    return join(sheets)


def _bridge(
    hull: F64, places: tuple[Pose, ...], ends: tuple[float, float], axis: int, product: Product
) -> list[Solid]:
    """Return what film over the valleys between round units feels like: a block between axes."""
    if product.kind not in ("bottle", "can"):
        return []
    along = int(product.look["unit"]["along"])
    if along == axis:
        return []
    size, centre = np.zeros(3), np.zeros(3)
    first, last = places[0].position[along], places[-1].position[along]
    other = next(i for i in _across(axis) if i != along)
    side = hull[:, _across(axis).index(other)]
    straight = _straight(product)
    size[along], centre[along] = (last - first) / 2 + straight, (first + last) / 2
    size[axis], centre[axis] = (ends[1] - ends[0]) / 2, (ends[0] + ends[1]) / 2
    size[other], centre[other] = np.ptp(side) / 2, (side.min() + side.max()) / 2
    h, c = [float(v) for v in size], [float(v) for v in centre]
    return [Solid("box", (h[0], h[1], h[2]), Pose((c[0], c[1], c[2])))]


def _straight(product: Product) -> float:
    """Return how far a unit's side is flat on either side of its axis, m."""
    if product.kind != "bottle":
        return 0.0
    _, y, z = product.look["unit"]["size_m"]
    return 0.0 if product.look["unit"]["along"] == 2 else float(y - z) / 2
