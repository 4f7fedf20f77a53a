"""What is inside packages: where it lies, and the bodies of its pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from robollm.core.errors import ConfigError
from robollm.sim.geometry import F64, turn
from robollm.sim.products.damage_mesh import in_plane, lathe, moved, sheet, soft_block
from robollm.sim.products.multipack import units
from robollm.sim.world import U8, Body, Mesh, Part, Pose, Product, Rgb, Solid, Surface, Vec3

Sort = Literal[
    "inner_box", "flask", "sachet", "tissue", "block", "leaflet", "garment", "tray", "lid"
]
SORTS: tuple[Sort, ...] = get_args(Sort)

WALL_M = {"box": 0.0012, "carton": 0.003, "book": 0.0015}  # thickness of board
CLEAR_M = 0.002  # between content and walls


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing inside: `size` m along the product's axes, `centre` m in the product's frame."""

    sort: Sort
    size: Vec3
    centre: Vec3
    seed: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a package is open and what lies in it.

    `axis`, `sign`: the direction out of the opening, in the product's frame. `stuck` stays in,
    `loose` can fall out; loose pieces lie between what is stuck and the opening.
    """

    axis: int
    sign: int
    stuck: tuple[Piece, ...]
    loose: tuple[Piece, ...]


def dice(product: Product, *numbers: int) -> np.random.Generator:
    """Return random numbers that depend on a product's id and on integers, and on no run."""
    return np.random.default_rng([*product.id.encode(), *(int(n) & 0xFFFFFFFF for n in numbers)])


def check_severity(severity: float) -> None:
    """Raise ConfigError unless 0 <= severity <= 1."""
    if not 0.0 <= severity <= 1.0:
        raise ConfigError(
            f"severity is {severity}, wants 0 to 1", fix="0: barely visible, 1: worst"
        )


def layout(product: Product, seed: int, severity: float) -> Layout:
    """Return where a damaged copy of a product is open and what is in it.

    Raises:
        ConfigError: if `severity` is outside [0, 1], or the product is a multipack.
    """
    check_severity(severity)
    if units(product) > 1:
        raise ConfigError(
            f"{product.id} is a multipack, which doesn't open", fix="open a product of one unit"
        )
    rng = dice(product, seed, 101)
    if product.kind in ("box", "carton"):
        return _in_walls(product, rng, severity)
    if product.kind in ("polybag", "pouch", "clear_bag"):
        return _in_bag(product, rng, severity)
    if product.kind == "book":
        return _in_book(product, rng, severity)
    if product.kind == "blister":
        return _on_card(product, rng)
    return _in_vessel(product, rng)


def _count(rng: np.random.Generator, severity: float) -> int:
    return 1 + int(severity * rng.uniform(0.8, 4.0))


def _in_walls(product: Product, rng: np.random.Generator, severity: float) -> Layout:
    ends = ((0, 1), (0, -1), (2, 1), (1, 1)) if product.kind == "box" else ((2, 1), (0, 1), (0, -1))
    axis, sign = ends[int(rng.integers(len(ends)))]
    half = np.asarray(product.size_m) / 2 - WALL_M[product.kind] * 2 - CLEAR_M
    half = np.maximum(half, 0.003)
    depth = 2 * half[axis]
    filled = max(min(float(rng.uniform(0.7, 0.88)) * depth, depth - 0.006), 0.002)
    sorts: tuple[Sort, ...] = ("inner_box", "flask", "sachet", "block", "garment", "tray")
    sort = sorts[int(rng.integers(len(sorts)))]
    i, j, _ = in_plane(axis)
    if half[i] < half[j]:
        i, j = j, i
    many = int(rng.integers(1, 4)) if sort != "tray" else 1
    stuck = []
    cell = 2 * half[i] / many
    for k in range(many):
        size, centre = np.zeros(3), np.zeros(3)
        size[axis], size[i], size[j] = filled * rng.uniform(0.85, 1), cell * 0.94, 1.94 * half[j]
        centre[axis] = sign * (-half[axis] + size[axis] / 2)
        centre[i] = -half[i] + cell * (k + 0.5)
        stuck.append(_piece(sort, size, centre, rng))
    room = depth - filled - CLEAR_M
    n = _count(rng, severity)
    cell = 2 * half[i] / n
    loose = []
    for k in range(n):
        thin = room < 0.012
        menu: tuple[Sort, ...] = (
            ("leaflet", "sachet", "tissue")
            if thin
            else ("inner_box", "sachet", "block", "tissue", "leaflet", "flask")
        )
        small = 0.5 + 0.5 * severity
        size, centre = np.zeros(3), np.zeros(3)
        size[axis] = max(room * rng.uniform(0.6, 0.9), 0.001)
        size[i] = min(cell * rng.uniform(0.55, 0.85) * small, 0.16)
        size[j] = min(2 * half[j] * rng.uniform(0.5, 0.9) * small, 0.16)
        centre[axis] = sign * (-half[axis] + filled + CLEAR_M / 2 + size[axis] / 2)
        centre[i] = -half[i] + cell * (k + 0.5)
        loose.append(_piece(menu[int(rng.integers(len(menu)))], size, centre, rng))
    return Layout(axis, sign, tuple(stuck), tuple(loose))


def _in_bag(product: Product, rng: np.random.Generator, severity: float) -> Layout:
    length, width, height = product.size_m
    sign = 1 if rng.random() < 0.5 else -1
    sorts: tuple[Sort, ...] = ("garment", "inner_box", "sachet", "block")
    sort = sorts[int(rng.integers(len(sorts)))]
    out = 0.5 * length + severity * min(0.22 * length, 0.07) - 0.004  # how far it peeks
    back = 0.30 * length
    size = np.array([out - back, width * (0.25 + 0.3 * severity), height * 0.32])
    stuck = _piece(sort, size, np.array([sign * (out + back) / 2, 0, 0]), rng)
    n = _count(rng, severity)
    loose = []
    for k in range(n):
        small = 0.5 + 0.5 * severity
        size = np.array([0.2 * length, width * 0.5 / n, height * 0.3]) * small
        size *= rng.uniform(0.8, 1.1)
        size = np.minimum(size, 0.12)
        y = (k - (n - 1) / 2) * width * 0.5 / n
        menu: tuple[Sort, ...] = ("sachet", "block", "leaflet", "inner_box", "tissue")
        centre = np.array([sign * (0.26 * length - size[0] / 2), y, 0.0])
        loose.append(_piece(menu[int(rng.integers(len(menu)))], size, centre, rng))
    return Layout(0, sign, (stuck,), tuple(loose))


def _in_book(product: Product, rng: np.random.Generator, severity: float) -> Layout:
    length, width, height = product.size_m
    sign = 1 if rng.random() < 0.5 else -1
    loose = []
    for k in range(_count(rng, severity)):
        small = rng.uniform(0.3, 0.5) + 0.45 * severity
        size = np.array([length * small, width * small, 0.001])
        z = sign * (height / 2 - 0.004 - 0.001 * k)
        at = (rng.uniform(-0.02, 0.02), rng.uniform(-0.02, 0.02), z)
        loose.append(_piece("leaflet", size, np.array(at), rng))
    return Layout(2, sign, (), tuple(loose))


def _on_card(product: Product, rng: np.random.Generator) -> Layout:
    # The goods of the whole product; their place is in its body (see damage.content).
    goods = _piece("block", np.full(3, 0.03), np.zeros(3), rng)
    return Layout(2, -1, (), (goods,))


def _in_vessel(product: Product, rng: np.random.Generator) -> Layout:
    # What comes off is the whole product's own cap or lid (see damage.content).
    axis, sign, _ = cap_place(product)
    return Layout(axis, sign, (), (_piece("lid", np.full(3, 0.02), np.zeros(3), rng),))


def cap_place(product: Product) -> tuple[int, int, float]:
    """Return a bottle's, tube's or can's axis, the sign of its top, and where its cap begins, m.

    Bottles end in their cap at +x, tubes at -x, cans in a lid at +x (flat cans: +z).
    """
    shape = product.look.get("shape", {})
    axis = 2 if product.kind == "can" and shape.get("flat") else 0
    extent = product.size_m[axis]
    share = 0.02 if product.kind == "can" else float(shape.get("cap", 0.15))
    return axis, -1 if product.kind == "tube" else 1, extent / 2 - max(share * extent, 0.003)


def _piece(sort: Sort, size: F64, centre: F64, rng: np.random.Generator) -> Piece:
    x, y, z = (float(max(s, 0.0008)) for s in size)
    cx, cy, cz = (float(c) for c in centre)
    return Piece(sort, (x, y, z), (cx, cy, cz), int(rng.integers(1 << 31)))


def paper(rng: np.random.Generator, sort: Sort, tint: Rgb, side: int = 96) -> U8:
    """Return the print of a piece of content, uint8 [side, side, 3]."""
    white = np.array([0.93, 0.92, 0.9])
    colour = np.asarray(tint)
    image = np.ones((side, side, 3)) * (white if sort != "garment" else colour)
    if sort in ("leaflet", "tissue"):
        if sort == "leaflet":
            for row in range(6, side - 6, int(rng.integers(4, 7))):
                end = int(rng.uniform(0.5, 0.94) * side)
                image[row : row + 2, 6:end] *= 0.45
            image[6:18, 6 : side // 2] = colour
        return np.asarray(image * 255, np.uint8)
    if sort == "garment":
        fold = np.cumsum(rng.normal(0, 0.02, side))
        image *= np.clip(0.95 + fold - fold.mean(), 0.6, 1.15)[:, None, None]
        if rng.random() < 0.5:
            image[:, :: int(rng.integers(6, 14))] *= 0.7
        return np.asarray(np.clip(image, 0, 1) * 255, np.uint8)
    cut = int(rng.uniform(0.3, 0.65) * side)
    image[:cut] = colour
    for row in range(cut + 8, side - 14, 6):
        image[row : row + 2, 8 : int(rng.uniform(0.5, 0.9) * side)] *= 0.4
    word = int(rng.uniform(0.35, 0.8) * side)
    image[cut // 3 : cut // 3 + max(3, cut // 4), 8:word] = white if colour.mean() < 0.6 else 0.15
    bars = np.repeat(rng.random(20) < 0.5, 2)
    image[-12:-4, -44:-4][:, bars] = 0.08
    return np.asarray(np.clip(image, 0, 1) * 255, np.uint8)


def piece_mesh(piece: Piece) -> tuple[Mesh, Surface, Solid]:
    """Return a piece's mesh, look and collision primitive, in its own frame (m, centred)."""
    rng = np.random.default_rng([piece.seed, 7])
    red, green, blue = (float(v) for v in rng.choice(_TINTS))
    tint = (red, green, blue)
    x, y, z = piece.size
    box = Solid("box", (x / 2, y / 2, z / 2))
    if piece.sort == "flask":
        return _round(piece, rng, tint)
    if piece.sort in ("leaflet", "tissue"):
        order = np.argsort(piece.size)[::-1]  # the thinnest side is the sheet's normal
        deep = piece.size[order[2]] * 0.9
        crumple = deep if piece.sort == "tissue" else min(deep, 0.004)
        flat = sheet((piece.size[order[0]], piece.size[order[1]]), crumple, rng)
        vertices = np.zeros_like(flat.vertices)
        vertices[:, order] = flat.vertices
        even = (int(order[0]), int(order[1]), int(order[2])) in ((0, 1, 2), (1, 2, 0), (2, 0, 1))
        faces = flat.faces if even else np.ascontiguousarray(flat.faces[:, ::-1])
        mesh = Mesh(vertices, faces, flat.uv)
        return mesh, Surface(paper(rng, piece.sort, tint), specular=0.0), box
    if piece.sort == "tray":
        return soft_block(piece.size, 0.06), Surface(None, (0.9, 0.9, 0.88, 1), 0.1), box
    if piece.sort == "block":
        return soft_block(piece.size, 0.35), Surface(None, (*tint, 1.0), 0.6, 0.6), box
    if piece.sort == "sachet":
        look = Surface(paper(rng, "sachet", tint), specular=0.9, shininess=0.7)
        return soft_block(piece.size, 0.75), look, box
    roundness = 0.5 if piece.sort == "garment" else 0.03
    return soft_block(piece.size, roundness), Surface(paper(rng, piece.sort, tint)), box


_TINTS = (
    (0.82, 0.12, 0.12),
    (0.1, 0.3, 0.62),
    (0.12, 0.45, 0.25),
    (0.93, 0.72, 0.12),
    (0.12, 0.12, 0.13),
    (0.55, 0.57, 0.6),
    (0.75, 0.4, 0.6),
    (0.85, 0.45, 0.12),
    (0.35, 0.2, 0.5),
    (0.2, 0.55, 0.6),
)


def _round(piece: Piece, rng: np.random.Generator, tint: Rgb) -> tuple[Mesh, Surface, Solid]:
    """A flask, its axis along the piece's longest side."""
    long = int(np.argmax(piece.size))
    half = piece.size[long] / 2
    r = min(s for k, s in enumerate(piece.size) if k != long) / 2
    profile = [
        (-half, 0.0),
        (-half, r * 0.94),
        (-half * 0.95, r),
        (half * 0.5, r),
        (half * 0.66, r * 0.5),
        (half, r * 0.5),
        (half, 0.0),
    ]
    look = Surface(paper(rng, "flask", tint), specular=0.5, shininess=0.5)
    turns = {
        0: turn((1, 0, 0), 0.0),
        1: turn((0, 0, 1), np.pi / 2),
        2: turn((0, 1, 0), -np.pi / 2),
    }
    mesh = moved(lathe(profile), Pose((0, 0, 0), turns[long]))
    upright = {0: turn((0, 1, 0), np.pi / 2), 1: turn((1, 0, 0), -np.pi / 2), 2: turns[0]}
    return mesh, look, Solid("cylinder", (r, half, 0.0), Pose((0, 0, 0), upright[long]))


def piece_body(piece: Piece) -> Body:
    """Return a piece as a body of its own, in its own frame."""
    mesh, look, solid = piece_mesh(piece)
    x, y, z = piece.size
    light = {"tissue": 60.0, "leaflet": 700.0, "garment": 150.0, "tray": 80.0}
    mass = float(np.clip(x * y * z * light.get(piece.sort, 350.0), 0.002, 0.8))
    # A sheet's primitive gets a little thickness, or it falls through things between two steps.
    if solid.shape == "box":
        a, b, c = (max(s, 0.0015) for s in solid.size)
        solid = Solid("box", (a, b, c))
    return Body((Part(mesh, look),), (solid,), mass)


def stuck_parts(pieces: tuple[Piece, ...], segment: int = 0) -> tuple[Part, ...]:
    """Return pieces as parts of the package that holds them."""
    out = []
    for piece in pieces:
        mesh, look, _ = piece_mesh(piece)
        out.append(Part(moved(mesh, Pose(piece.centre)), look, segment))
    return tuple(out)
