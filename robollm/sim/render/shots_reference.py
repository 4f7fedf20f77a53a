"""The catalogue's six pictures of a product: in a studio, not in a tote."""

from __future__ import annotations

import numpy as np

from robollm.core.errors import ConfigError
from robollm.sim.geometry import apply, compose, look_at, matrix, quaternion, turn
from robollm.sim.products.multipack import stands, units
from robollm.sim.render.mujoco_renderer import Bodies, default_bodies
from robollm.sim.render.shots import scaled, warmth
from robollm.sim.world import (
    WHOLE,
    Camera,
    Item,
    Lens,
    Light,
    Lighting,
    Pose,
    Product,
    Quat,
    Scene,
    Shot,
)

REFERENCES = 6

# Per picture: face to the camera (front or back), turn about the vertical, camera's elevation,
# and whether the thing lies instead of stands; degrees.
_POSES: tuple[tuple[bool, float, float, bool], ...] = (
    (True, 0.0, 4.0, False),
    (False, 0.0, 4.0, False),
    (True, 36.0, 18.0, False),
    (True, -38.0, 24.0, False),
    (True, 28.0, 52.0, True),
    (False, -33.0, 20.0, False),
)


def reference_scene(product: Product, k: int, bodies: Bodies | None = None) -> Scene:
    """Return a product alone on the sweep, in the pose of its k-th picture.

    Args:
        product: what to show, whole.
        k: 0 front, 1 back, 2 to 5 three-quarter views.
        bodies: as for MujocoRenderer.

    Raises:
        ConfigError: if `k` is not 0 to 5.
    """
    front, yaw, _, lying = _pose(k)
    body = (bodies or default_bodies)(product, WHOLE)
    turned = matrix(turn((0.0, 0.0, 1.0), np.radians(yaw))) @ matrix(_facing(product, front, lying))
    base = Pose(quaternion=quaternion(turned))
    points = np.concatenate([apply(base, part.mesh.vertices) for part in body.parts])
    pose = compose(Pose((0.0, 0.0, -float(points[:, 2].min()) + 0.0005)), base)
    items = (Item(1, product, (pose,) * len(body.segments)),)
    return Scene(items, backdrop="sweep", backdrop_seed=sum(map(ord, product.id)) % 1000)


def reference_shot(k: int, rng: np.random.Generator, product: Product, hw: tuple[int, int]) -> Shot:
    """Draw the k-th catalogue photograph of a product: soft, bright, a long lens.

    Args:
        k: 0 to 5, as for `reference_scene`.
        rng: source of all that varies.
        product: what `reference_scene` shows.
        hw: size of the picture, px.

    Raises:
        ConfigError: if `k` is not 0 to 5.
    """
    _, _, elevation, lying = _pose(k)
    length, width, height = product.size_m
    wide, tall = (length, width) if lying or not _upright(product) else (width, length)
    depth, tall = (tall, height) if lying else (height, tall)
    middle = tall / 2
    fovy = float(rng.uniform(19, 26))
    fill = float(rng.uniform(0.66, 0.82))
    reach = float(np.linalg.norm([max(wide, 1.15 * tall), 0.6 * depth, 0.25 * min(wide, tall)]))
    distance = reach / fill / (2 * np.tan(np.radians(fovy) / 2)) * max(1.0, hw[0] / hw[1])
    e = np.radians(elevation + rng.normal(0, 1.5))
    a = np.radians(-90 + rng.normal(0, 3))
    aim = (0.0, 0.0, middle)
    eye = (
        float(distance * np.cos(e) * np.cos(a)),
        float(distance * np.cos(e) * np.sin(a)),
        aim[2] + float(distance * np.sin(e)),
    )
    side = float(rng.choice([-1.0, 1.0]))
    key = Light((-0.55 * side, 0.62, -0.65), scaled(warmth(rng.uniform(5000, 6000)), 0.42))
    fill_light = Light((0.7 * side, 0.5, -0.45), scaled(warmth(rng.uniform(5000, 6000)), 0.2))
    lighting = Lighting((key, fill_light), (0.62, 0.62, 0.62), 0.85)
    lens = Lens(focus_px=0.45, noise=0.5, jpeg_quality=int(rng.integers(90, 97)))
    camera = Camera(look_at(eye, aim, (0.0, 0.0, 1.0)), fovy, hw)
    return Shot(camera, lighting, lens, int(rng.integers(2**31)))


def _pose(k: int) -> tuple[bool, float, float, bool]:
    if not 0 <= k < REFERENCES:
        raise ConfigError(f"reference picture {k}, want 0 to {REFERENCES - 1}")
    return _POSES[k]


def _upright(product: Product) -> bool:
    """Say whether it stands on its end: as its shape wants, or as its print reads."""
    if units(product) > 1:
        return stands(product)
    return product.kind in ("bottle", "can", "tube") or stands(product)


def _facing(product: Product, front: bool, lying: bool) -> Quat:
    """Turn the largest face to a camera at -y, or up when lying; bottles stand on their end."""
    if lying:
        return (1.0, 0.0, 0.0, 0.0)
    # Columns: where the product's x, y and z axes go.
    if _upright(product):
        columns = (
            [(0, 0, 1), (-1, 0, 0), (0, -1, 0)] if front else [(0, 0, 1), (1, 0, 0), (0, 1, 0)]
        )
    else:
        columns = (
            [(1, 0, 0), (0, 0, 1), (0, -1, 0)] if front else [(1, 0, 0), (0, 0, -1), (0, 1, 0)]
        )
    return quaternion(np.array(columns, np.float64).T)
