"""Where the cameras hang and how the light is, drawn anew for every picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from robollm.core.errors import ConfigError
from robollm.sim.geometry import compose, look_at, turn
from robollm.sim.render.lens import random_lens
from robollm.sim.world import (
    Camera,
    Light,
    Lighting,
    Pose,
    Rgb,
    Shot,
    Tote,
    Vec3,
)

ViewName = Literal["on_arm_low", "tote_wall", "far_tray"]
VIEWS: tuple[ViewName, ...] = ("on_arm_low", "tote_wall", "far_tray")

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a tote camera's parameters are drawn from, uniformly.

    `fovy_deg`; `height_m` of the camera over the tote's rim; `cover`: share of the picture that
    the tote's outline takes (before tilt); `elevation_deg` of the lamps over the horizon;
    `kelvin` of the lamps; `softness` of their shadows.
    """

    fovy_deg: Range
    height_m: Range
    cover: Range
    elevation_deg: Range
    kelvin: Range
    softness: Range
    lamps: tuple[int, int]


TRAINED = Recipe((31.0, 40.0), (0.40, 0.98), (0.62, 0.90), (52.0, 84.0), (3900.0, 7200.0),
                 (0.15, 0.70), (1, 3))  # fmt: skip
ZOOMED_OUT = Recipe((43.0, 56.0), (1.05, 1.25), (0.26, 0.38), (26.0, 46.0), (2500.0, 3600.0),
                    (0.75, 0.95), (1, 2))  # fmt: skip
"""Disjoint from `TRAINED` in every range but the number of lamps."""

_WALL_M = 0.022  # from the inside of a tote's rim to its outside


def tote_shot(
    rng: np.random.Generator, tote: Tote, hw: tuple[int, int], *, zoomed_out: bool = False
) -> Shot:
    """Draw a photograph of a tote from above.

    Args:
        rng: source of all that varies.
        tote: what to look at.
        hw: size of the picture, px.
        zoomed_out: higher, wider, in other light than any training picture.

    Returns:
        A shot whose tote fills most of the picture, or (zoomed out) 25 to 45 % of it.
    """
    recipe = ZOOMED_OUT if zoomed_out else TRAINED
    h, w = hw
    length, width, depth = tote.inner_m
    length, width = length + 2 * _WALL_M, width + 2 * _WALL_M
    cover = rng.uniform(*recipe.cover)
    # Side of the tote's picture: no more than the picture's own, but for a sliver.
    scale = min(np.sqrt(cover * h * w / (length * width)), 1.01 * w / length, 1.01 * h / width)
    if zoomed_out:
        height = float(rng.uniform(*recipe.height_m))
        fovy = float(np.degrees(2 * np.arctan(h / 2 / (scale * height))))
    else:
        fovy = float(rng.uniform(*recipe.fovy_deg))
    fovy = float(np.clip(fovy, *recipe.fovy_deg))
    height = h / 2 / np.tan(np.radians(fovy / 2)) / scale
    height = float(np.clip(height, *recipe.height_m))

    slack = 0.02 if not zoomed_out else 0.07
    aim = (float(rng.normal(0, slack)), float(rng.normal(0, slack)), depth * 0.6)
    lean = np.radians(rng.uniform(0, 7))
    towards = rng.uniform(0, 2 * np.pi)
    away = height + depth * 0.4
    eye = (
        aim[0] + float(away * np.sin(lean) * np.cos(towards)),
        aim[1] + float(away * np.sin(lean) * np.sin(towards)),
        aim[2] + float(away * np.cos(lean)),
    )
    roll = float(np.radians(rng.normal(0, 2.0)) + (np.pi if rng.random() < 0.5 else 0))
    up = (float(np.sin(roll)), float(np.cos(roll)), 0.0)
    camera = Camera(look_at(eye, aim, up), fovy, hw)
    lighting = room_light(rng, recipe)
    return Shot(camera, lighting, random_lens(rng, 0.8), int(rng.integers(2**31)))


def view_shot(
    name: ViewName, rng: np.random.Generator, hold_pose: Pose, hw: tuple[int, int]
) -> Shot:
    """Draw a photograph of what hangs under the gripper.

    Args:
        name: `on_arm_low` looks up at it from below, `tote_wall` from the side, `far_tray` from
            farther away and above.
        rng: source of all that varies.
        hold_pose: frame of the cups' lips (Gripper.pose).
        hw: size of the picture, px.

    Raises:
        ConfigError: if there is no such camera.
    """
    if name not in VIEWS:
        raise ConfigError(f"no camera {name!r}", fix=f"one of {', '.join(VIEWS)}")
    azimuth, elevation, distance, fovy, below = {
        "on_arm_low": (-112.0, -36.0, 0.62, 41.0, 0.06),
        "tote_wall": (-78.0, -3.0, 0.74, 33.0, 0.075),
        "far_tray": (38.0, 27.0, 1.35, 20.0, 0.075),
    }[name]
    a = np.radians(azimuth + rng.normal(0, 5))
    e = np.radians(elevation + rng.normal(0, 3))
    d = distance * float(np.exp(rng.normal(0, 0.05)))
    x, y, z = hold_pose.position
    aim = (x + float(rng.normal(0, 0.012)), y + float(rng.normal(0, 0.012)), z - below)
    eye = (
        aim[0] + float(d * np.cos(e) * np.cos(a)),
        aim[1] + float(d * np.cos(e) * np.sin(a)),
        aim[2] + float(d * np.sin(e)),
    )
    roll = float(np.radians(rng.normal(0, 1.5)))
    pose = compose(look_at(eye, aim, (0.0, 0.0, 1.0)), Pose(quaternion=turn((0, 0, 1), roll)))
    camera = Camera(pose, fovy + float(rng.normal(0, 1.5)), hw)
    facing = (eye[0] - aim[0], eye[1] - aim[1], eye[2] - aim[2] + 0.1)
    lighting = room_light(rng, TRAINED, towards=facing)
    return Shot(camera, lighting, random_lens(rng, 0.8), int(rng.integers(2**31)))


def room_light(rng: np.random.Generator, recipe: Recipe, towards: Vec3 | None = None) -> Lighting:
    """Draw lamps of a hall; the total is what a well exposed picture needs, but for a third.

    Args:
        rng: source of all that varies.
        recipe: how low, soft and warm they are, and how many.
        towards: a lamp beside the camera, from where the picture is taken.
    """
    count = int(rng.integers(recipe.lamps[0], recipe.lamps[1] + 1))
    shares = rng.dirichlet(np.full(count, 2.5))
    level = 0.92 * float(np.exp(rng.normal(0, 0.13)))
    around = float(rng.uniform(0.30, 0.58))  # share of the light that comes from everywhere
    lamps = []
    for share in shares:
        e, a = np.radians(rng.uniform(*recipe.elevation_deg)), rng.uniform(0, 2 * np.pi)
        direction = (
            float(-np.cos(e) * np.cos(a)),
            float(-np.cos(e) * np.sin(a)),
            float(-np.sin(e)),
        )
        strength = float(level * (1 - around) * share * 1.35)
        lamps.append(Light(direction, scaled(warmth(rng.uniform(*recipe.kelvin)), strength)))
    if towards is not None:
        x, y, z = (float(-v) for v in np.asarray(towards) / np.linalg.norm(towards))
        lamps.append(Light((x, y, z), scaled(warmth(rng.uniform(*recipe.kelvin)), 0.55 * level)))
    sky = scaled(warmth(rng.uniform(*recipe.kelvin)), level * around)
    return Lighting(tuple(lamps), sky, float(rng.uniform(*recipe.softness)))


def warmth(kelvin: float) -> Rgb:
    """Return the colour of light of a temperature, green 1; a camera balances half of it away."""
    t = 0.5 * np.log(kelvin / 5500.0)
    return (float(np.exp(-0.42 * t)), 1.0, float(np.exp(0.62 * t)))


def scaled(colour: Rgb, strength: float) -> Rgb:
    """Return a colour times a number."""
    return (colour[0] * strength, colour[1] * strength, colour[2] * strength)
