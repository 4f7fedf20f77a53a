"""What lies around and below, and the gripper. All of it has label 0."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from robollm.sim.render.backdrop_mesh import box, lathe, merge, moved, turned
from robollm.sim.world import F32, U8, Body, Mesh, Part, Rgb, Surface

FLOOR_Z = -0.022  # m; what a tote stands on, except on the sweep, where things stand on z = 0
GLOW = -1.0
"""A surface with this `specular` shows its own colour, whatever the lamps: far, unsharp walls."""


@dataclass(frozen=True, slots=True)
class BackdropKey:
    """Which surroundings."""

    name: str
    seed: int


@dataclass(frozen=True, slots=True)
class GripperKey:
    """Which gripper."""

    cups: int
    colour: Rgb


@lru_cache(maxsize=16)
def backdrop_body(key: BackdropKey) -> Body:
    """Return the surroundings, in the world's frame. Same key, same pixels."""
    names = ("cell", "conveyor", "concrete", "sweep")
    rng = np.random.default_rng([71, names.index(key.name), key.seed])
    make = {"cell": _cell, "conveyor": _conveyor, "concrete": _concrete, "sweep": _sweep}
    return Body(tuple(make[key.name](rng)), (), 0.0)


@lru_cache(maxsize=16)
def gripper_body(key: GripperKey) -> Body:
    """Return arm, body and bellows cups in the frame of the cups' lips (z away from the arm)."""
    pitch = 0.042
    cup = lathe(
        [(0.009, -0.045), (0.009, -0.036), (0.0165, -0.031), (0.011, -0.026), (0.018, -0.020),
         (0.0125, -0.015), (0.0175, -0.008), (0.0205, 0.0), (0.0195, 0.0008), (0.013, -0.006)],
        sides=32,
    )  # fmt: skip
    stem = lathe([(0.006, -0.085), (0.006, -0.045), (0.0098, -0.045), (0.0098, -0.036)], sharp=True)
    wide = key.cups > 2
    grid = [(0.0, 0.0)] if key.cups == 1 else [(-pitch / 2, 0.0), (pitch / 2, 0.0)]
    if wide:
        grid = [(x, y) for y in (-pitch / 2, pitch / 2) for x in (-pitch / 2, pitch / 2)][
            : key.cups
        ]
    cups = merge([moved(cup, (x, y, 0.0)) for x, y in grid])
    stems = merge([moved(stem, (x, y, 0.0)) for x, y in grid])
    half = pitch * (1.0 if key.cups > 1 else 0.62)
    plate = merge([
        box((2 * half, 2 * half if wide else 0.05, 0.012), (0.0, 0.0, -0.089)),
        box((1.2 * half, 0.045, 0.04), (0.0, 0.0, -0.115)),
    ])  # fmt: skip
    tube = lathe(
        [(0.0, -0.62), (0.024, -0.62), (0.024, -0.19), (0.038, -0.19), (0.038, -0.172),
         (0.024, -0.172), (0.024, -0.135), (0.034, -0.135), (0.034, -0.122), (0.0, -0.122)],
        sides=36, sharp=True,
    )  # fmt: skip
    hose = _hose(half)
    metal, dark = (0.62, 0.63, 0.65, 1.0), (0.16, 0.165, 0.18, 1.0)
    return Body(
        (
            Part(cups, Surface(None, (*key.colour, 1.0), 0.25, 0.25)),
            Part(stems, Surface(None, metal, 0.7, 0.5)),
            Part(plate, Surface(_brushed(0.55), (1, 1, 1, 1), 0.5, 0.4)),
            Part(tube, Surface(_brushed(0.72), (1, 1, 1, 1), 0.6, 0.45)),
            Part(hose, Surface(None, dark, 0.35, 0.3)),
        ),
        (),
        0.0,
    )


def _hose(half: float) -> Mesh:
    """A vacuum hose from the plate up along the tube."""
    t = np.linspace(0, 1, 26)
    spine = np.stack(
        [half * 0.6 + 0.05 * np.sin(np.pi * t**0.7), 0.012 * np.sin(5 * t), -0.1 - 0.45 * t], axis=1
    )
    ring, sides = [], 10
    for j, centre in enumerate(spine):
        ahead = spine[min(j + 1, 25)] - spine[max(j - 1, 0)]
        ahead /= np.linalg.norm(ahead)
        u = np.cross(ahead, (0, 1, 0))
        u /= np.linalg.norm(u)
        w = np.cross(ahead, u)
        turn = np.linspace(0, 2 * np.pi, sides + 1)[:, None]
        ring.append(centre + 0.006 * (np.cos(turn) * u + np.sin(turn) * w))
    count, k = sides + 1, np.arange(sides)
    faces = []
    for i in range(len(spine) - 1):
        a, b = i * count + k, (i + 1) * count + k
        faces += [np.stack([a, a + 1, b + 1], axis=1), np.stack([a, b + 1, b], axis=1)]
    vertices = np.concatenate(ring).astype(np.float32)
    return Mesh(
        vertices, np.concatenate(faces).astype(np.int32), np.zeros((len(vertices), 2), np.float32)
    )


def _noise(rng: np.random.Generator, h: int, w: int, grain: float) -> F32:
    """Smooth noise of mean 0 and sigma 1 [h, w]; `grain`: sigma of the blur, px."""
    shrink = max(1, int(grain / 3))  # what is coarse needs few samples
    field = rng.standard_normal((-(-h // shrink), -(-w // shrink)), np.float32)
    if grain > 0:
        field = np.asarray(cv2.GaussianBlur(field, (0, 0), grain / shrink), np.float32)
    if shrink > 1:
        field = np.asarray(cv2.resize(field, (w, h), interpolation=cv2.INTER_CUBIC), np.float32)
    out: F32 = (field - field.mean()) / (field.std() + 1e-6)
    return out


def _painted(base: F32 | Rgb, field: F32) -> U8:
    """Colours 0 to 1, lightened and darkened by a field [h, w], as a texture."""
    colour = np.asarray(base, np.float32) * (1 + field[..., None])
    out: U8 = np.clip(colour * 255, 0, 255).astype(np.uint8)
    return out


def _brushed(grey: float) -> U8:
    rng = np.random.default_rng([71, 900])
    field = cv2.GaussianBlur(rng.standard_normal((128, 64)).astype(np.float32), (31, 1), 9)
    return _painted((grey, grey, grey * 1.02), 0.10 * np.asarray(field, np.float32))


def _ground(
    rng: np.random.Generator, colour: Rgb, rough: float, scratches: int, side: int = 768
) -> U8:
    """A worn floor: stains, grain, scratches."""
    field = 0.10 * _noise(rng, side, side, 60) + 0.05 * _noise(rng, side, side, 9)
    field += rough * _noise(rng, side, side, 0.8)
    for _ in range(scratches):
        x, y = (int(v) for v in rng.integers(0, side, 2))
        a, length = rng.uniform(0, np.pi), rng.uniform(15, 130)
        end = (int(x + length * np.cos(a)), int(y + length * np.sin(a)))
        tone = float(rng.uniform(-0.25, 0.3))
        cv2.line(field, (x, y), end, tone, 1, cv2.LINE_AA)
    return _painted(colour, np.clip(field, -0.6, 0.8))


def _room(rng: np.random.Generator, floor: Part, bright: float) -> list[Part]:
    """A hall far around, out of focus: posts, shelves, signs, lamps overhead."""
    wall: F32 = np.empty((256, 512, 3), np.float32)
    wall[:] = rng.uniform(0.18, 0.5) * bright * np.array([1.0, 1.0, rng.uniform(0.94, 1.08)])
    wall *= np.linspace(1.15, 0.75, 256)[:, None, None]
    for _ in range(46):
        x, y = int(rng.integers(-40, 512)), int(rng.integers(20, 256))
        tone = rng.uniform(0.05, 0.75) * bright
        colour = tone * rng.uniform(0.8, 1.0, 3)
        if rng.random() < 0.08:
            colour = bright * np.array(
                [[0.75, 0.55, 0.08], [0.1, 0.25, 0.55]][int(rng.integers(2))]
            )
        size = (int(rng.integers(6, 80)), int(rng.integers(6, 60)))
        cv2.rectangle(wall, (x, y), (x + size[0], y + size[1]), colour.tolist(), -1)
    for _ in range(9):  # posts and beams
        x, tone = int(rng.integers(0, 512)), float(rng.uniform(0.1, 0.6) * bright)
        cv2.rectangle(wall, (x, 0), (x + int(rng.integers(3, 10)), 256), (tone,) * 3, -1)
    wall = np.asarray(cv2.GaussianBlur(wall, (0, 0), 6.0), np.float32)
    ceiling: F32 = np.full((256, 256, 3), 0.12 * bright, np.float32)
    for y in range(int(rng.integers(10, 40)), 256, int(rng.integers(48, 80))):
        cv2.rectangle(ceiling, (20, y), (236, y + 9), (1.0, 1.0, 0.97), -1)
    ceiling = np.asarray(cv2.GaussianBlur(ceiling, (0, 0), 3.0), np.float32)
    room = box((7.0, 7.0, 4.2), (0.0, 0.0, 1.2), inward=True)
    # Sides come in the order +x, -x, +y, -y, +z, -z; four vertices, two faces each.
    around = Mesh(room.vertices[:16], room.faces[:8], room.uv[:16])
    above = Mesh(room.vertices[16:20], room.faces[8:10] - 16, room.uv[16:20])
    return [
        floor,
        Part(around, Surface(_u8(wall), specular=GLOW)),
        Part(above, Surface(_u8(ceiling), specular=GLOW)),
    ]


def _u8(colours: F32) -> U8:
    out: U8 = np.clip(colours * 255, 0, 255).astype(np.uint8)
    return out


def _plate(side: float, z: float, texture: U8, repeat: float, specular: float) -> Part:
    mesh = box((side, side, 0.002), (0.0, 0.0, z - 0.001))
    top = Mesh(mesh.vertices[16:20], mesh.faces[8:10] - 16, mesh.uv[16:20] * np.float32(repeat))
    return Part(top, Surface(texture, specular=specular, shininess=0.35))


def _frame(rng: np.random.Generator, y: float, z: float) -> list[Part]:
    """Two side rails with bolts along a conveyor."""
    height = float(rng.uniform(0.05, 0.11))
    tone = float(rng.uniform(0.45, 0.75))
    painted = (tone, tone, tone * 1.03)
    if rng.random() < 0.35:
        painted = [(0.72, 0.55, 0.05), (0.10, 0.22, 0.48), (0.12, 0.35, 0.2)][int(rng.integers(3))]
    steel = _ground(rng, painted, 0.02, 50)
    rails, bolts = [], []
    for sign in (-1.0, 1.0):
        rails.append(box((2.6, 0.035, height), (0.0, sign * y, z - height / 2 + 0.03)))
        rails.append(box((2.6, 0.012, 0.03), (0.0, sign * (y + 0.03), z)))
        for x in np.arange(-1.2, 1.25, 0.15):
            cap = lathe([(0.0, 0.004), (0.006, 0.004), (0.006, 0.0)], sides=6, sharp=True)
            bolts.append(moved(cap, (float(x), sign * y, z + 0.03)))
    return [
        Part(merge(rails), Surface(steel, specular=0.35, shininess=0.4)),
        Part(merge(bolts), Surface(None, (0.5, 0.5, 0.5, 1.0), 0.6, 0.5)),
    ]


def _cell(rng: np.random.Generator) -> list[Part]:
    """Rollers in a frame over a dark floor, a few things beside."""
    shade = float(rng.uniform(0.10, 0.3))
    tint = rng.uniform(0.9, 1.1, 3)
    floor = _ground(rng, (shade * tint[0], shade * tint[1], shade * tint[2]), 0.05, 120)
    parts = _room(rng, _plate(6.9, -0.8, floor, 4.0, 0.15), float(rng.uniform(0.6, 1.1)))
    y = float(rng.uniform(0.33, 0.40))
    pitch, radius = float(rng.uniform(0.065, 0.1)), 0.025
    roller = turned(lathe([(radius, y), (radius, -y)], sides=16, sharp=True), 1)
    start = float(rng.uniform(0, pitch))
    row = [
        moved(roller, (float(x), 0.0, FLOOR_Z - radius))
        for x in np.arange(-1.25 + start, 1.25, pitch)
    ]
    parts.append(
        Part(
            merge(row),
            Surface(_brushed(float(rng.uniform(0.4, 0.75))), specular=0.6, shininess=0.45),
        )
    )
    parts += _frame(rng, y + 0.02, FLOOR_Z)
    return parts + _things(rng, y + 0.1, -0.4)


def _conveyor(rng: np.random.Generator) -> list[Part]:
    """A belt between rails."""
    shade = float(rng.uniform(0.05, 0.16))
    belt = _ground(rng, (shade, shade, shade * 1.05), 0.12, 60)
    y = float(rng.uniform(0.32, 0.42))
    strip = box((6.0, 2 * y, 0.01), (0.0, 0.0, FLOOR_Z - 0.005))
    top = Mesh(
        strip.vertices[16:20],
        strip.faces[8:10] - 16,
        strip.uv[16:20] * np.array([8, 1], np.float32),
    )
    floor = _ground(rng, (0.33, 0.33, 0.32), 0.04, 90)
    parts = _room(rng, _plate(6.9, -0.8, floor, 4.0, 0.1), float(rng.uniform(0.7, 1.2)))
    parts.append(Part(top, Surface(belt, specular=0.12, shininess=0.2)))
    parts += _frame(rng, y + 0.02, FLOOR_Z)
    return parts + _things(rng, y + 0.12, -0.3)


def _concrete(rng: np.random.Generator) -> list[Part]:
    """A bare floor, perhaps with a painted line."""
    shade = float(rng.uniform(0.38, 0.62))
    floor = _ground(rng, (shade, shade * 0.99, shade * 0.96), 0.035, 40)
    parts = _room(rng, _plate(6.9, FLOOR_Z, floor, 3.0, 0.08), float(rng.uniform(0.8, 1.2)))
    if rng.random() < 0.6:
        y = float(rng.choice([-1, 1]) * rng.uniform(0.36, 0.6))
        line = box((6.0, 0.07, 0.0006), (0.0, y, FLOOR_Z + 0.0003))
        colour = [(0.80, 0.62, 0.06, 1.0), (0.8, 0.8, 0.78, 1.0)][int(rng.integers(2))]
        parts.append(Part(line, Surface(None, colour, 0.15, 0.3)))
    return parts


def _things(rng: np.random.Generator, y: float, z: float) -> list[Part]:
    """Boxes and posts beside the line, well below a tote's rim."""
    parts = []
    for _ in range(int(rng.integers(2, 6))):
        size = (
            float(rng.uniform(0.1, 0.5)),
            float(rng.uniform(0.08, 0.3)),
            float(rng.uniform(0.1, 0.35)),
        )
        sign = float(rng.choice([-1, 1]))
        spot = (
            float(rng.uniform(-1.1, 1.1)),
            sign * (y + size[1] / 2 + float(rng.uniform(0, 0.3))),
            z,
        )
        tone = rng.uniform(0.08, 0.6) * rng.uniform(0.75, 1.0, 3)
        texture = _ground(rng, (float(tone[0]), float(tone[1]), float(tone[2])), 0.03, 2, 256)
        parts.append(Part(box(size, spot), Surface(texture, specular=0.2)))
    return parts


def _sweep(rng: np.random.Generator) -> list[Part]:
    """A studio's paper: flat, then curved up behind (+y), white to mid grey."""
    t = np.linspace(0, np.pi / 2, 14)
    flat = [(-3.0, 0.0), (-1.0, 0.0), (0.4, 0.0)]
    curve = [(0.4 + 0.6 * float(np.sin(a)), 0.6 - 0.6 * float(np.cos(a))) for a in t]
    line = np.array([*flat, *curve[1:], (1.0, 3.0)])
    vertices = np.concatenate([np.column_stack([np.full(len(line), x), line]) for x in (-4.0, 4.0)])
    k, n = np.arange(len(line) - 1), len(line)
    faces = np.concatenate(
        [np.stack([k, k + n, k + n + 1], axis=1), np.stack([k, k + n + 1, k + 1], axis=1)]
    )
    tone = float(rng.uniform(0.80, 0.97))
    tint = rng.uniform(0.985, 1.0, 3) * tone
    mesh = Mesh(
        vertices.astype(np.float32),
        faces.astype(np.int32),
        np.zeros((len(vertices), 2), np.float32),
    )
    colour = (float(tint[0]), float(tint[1]), float(tint[2]), 1.0)
    return [Part(mesh, Surface(None, colour, 0.0, 0.0))]
