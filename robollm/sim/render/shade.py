"""Light in image space: soft shadows, sky occlusion, bounce and shine over plain colours.

MuJoCo's own shadows have hard stair-stepped edges and its lamps know no bounce. So its OpenGL only
draws what is where (colour, normal, depth), and the light is computed here from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from robollm.sim.geometry import matrix
from robollm.sim.render.shade_maps import Blocker, seen
from robollm.sim.world import F32, U8, Camera, Light, Lighting

_DECODE = ((np.arange(256) / 255.0) ** 2.2).astype(np.float32)
_RINGS_M = (0.004, 0.008, 0.014, 0.021, 0.029)
_SPOKES = 5
_KNEE = 0.72  # brighter than this the film saturates slowly


@dataclass(frozen=True, slots=True, eq=False)
class GBuffer:
    """What is where, at twice the picture's size [2H, 2W].

    `albedo` uint8 RGB without light; `normals` float32, world, unit or 0; `depth` float32 m, 0
    where nothing is. `specular`, `shininess`: float32 [H, W], as in world.Surface.
    """

    albedo: U8
    normals: F32
    depth: F32
    specular: F32
    shininess: F32


def shade(
    g: GBuffer,
    camera: Camera,
    lighting: Lighting,
    lamps: Sequence[Blocker],
    sky: Sequence[tuple[Blocker, float]],
) -> U8:
    """Light a picture.

    Args:
        g: what is where.
        camera: where `g` was taken from; its `hw` is the size of the result.
        lighting: lamps and ambient light.
        lamps: a depth map for each lamp, in order.
        sky: depth maps of the directions ambient light comes from, with weights of sum 1.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    depth, normals = g.depth[::2, ::2], np.ascontiguousarray(g.normals[::2, ::2])
    points, rays = _unproject(camera, depth)
    normals = _facing(normals, rays)
    linear = _f32(cv2.LUT(g.albedo, _DECODE))
    albedo = linear[::2, ::2]

    sky_light, crevice, open_sky = _from_everywhere(points, normals, depth, camera, sky)
    light = sky_light[..., None] * np.asarray(lighting.ambient, np.float32)
    power = np.float32(6) * np.exp2(g.shininess * np.float32(6.5))
    shine = np.zeros(depth.shape, np.float32)  # white: lamps' tints hardly show in highlights
    for lamp, blocker in zip(lighting.lamps, lamps, strict=True):
        towards, strength = _towards(lamp, blocker, points)
        cosine = np.clip(_dot(normals, towards), 0, 1)
        passed = seen(blocker, points, normals) * strength
        passed *= 0.4 + 0.6 * crevice
        colour = np.asarray(lamp.colour, np.float32)
        light += (passed * cosine)[..., None] * colour
        shine += passed * _highlight(towards, rays, normals, power) * np.float32(colour.mean())
    light += _bounce(albedo * light, open_sky, camera.hw[1]) * crevice[..., None]
    shine *= g.specular
    shine += _mirrored(rays, normals, open_sky, g) * np.float32(np.mean(lighting.ambient))
    glow = g.specular < 0  # backdrop.GLOW: out of focus, with light of its own
    light[glow], shine[glow] = 1, 0
    both = enlarge(np.dstack([light, shine]), g.depth, g.normals)
    linear *= both[..., :3]
    linear += both[..., 3:]
    small = cv2.resize(linear, camera.hw[::-1], interpolation=cv2.INTER_AREA)
    return develop_film(np.asarray(small, np.float32))


def develop_film(linear: F32) -> U8:
    """Return 8-bit sRGB of linear light [H, W, 3]; highlights saturate softly."""
    over = np.maximum(linear - np.float32(_KNEE), 0)
    soft = np.minimum(linear, np.float32(_KNEE)) + np.float32(1 - _KNEE) * (
        1 - np.exp(over * np.float32(-1 / (1 - _KNEE)))
    )
    out: U8 = np.clip(
        np.power(np.maximum(soft, 0), np.float32(1 / 2.2)) * 255 + 0.5, 0, 255
    ).astype(np.uint8)
    return out


def crevices(points: F32, normals: F32, focal: float) -> F32:
    """Return how open a point's near surroundings are, 0 to 1 [H, W].

    Neighbours within 3 cm that rise above the tangent plane take light away; what is
    further off does not count, so there are no halos around things that stand far in front.

    Args:
        points: float32 [H, W, 3] world, m.
        normals: float32 [H, W, 3], unit.
        focal: px per m at a distance of 1 m, divided by the scene's usual distance.
    """
    h, w = points.shape[:2]
    reach = int(np.clip(_RINGS_M[-1] * focal, 1.0, 0.08 * w)) + 2
    wide = _f32(cv2.copyMakeBorder(points, reach, reach, reach, reach, cv2.BORDER_REPLICATE))
    there = [_plane(wide, k) for k in range(3)]
    here = [_plane(points, k) for k in range(3)]
    n = [_plane(normals, k) for k in range(3)]
    lost = np.zeros((h, w), np.float32)
    for ring, radius in enumerate(_RINGS_M):
        px = float(np.clip(radius * focal, 1.0, 0.08 * w))
        for k in range(_SPOKES):  # every ring is turned, or the taps would draw ghost outlines
            angle = 2 * np.pi * (k + 0.38 * ring) / _SPOKES
            x, y = reach + round(px * np.cos(angle)), reach + round(px * np.sin(angle))
            d = [there[a][y : y + h, x : x + w] - here[a] for a in range(3)]
            square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2] + np.float32(1e-9)
            rise = (d[0] * n[0] + d[1] * n[1] + d[2] * n[2]) / np.sqrt(square)
            near = 1 + square * np.float32(1 / (1.6 * radius) ** 2)
            lost += np.maximum(rise - np.float32(0.12), 0) / (near * near)
    lost *= np.float32(3.3 / (_SPOKES * len(_RINGS_M)))
    out: F32 = np.power(np.clip(1 - lost, 0, 1), np.float32(1.4))
    return out


def _plane(a: F32, k: int) -> F32:
    return np.ascontiguousarray(a[..., k])


def _unproject(camera: Camera, depth: F32) -> tuple[F32, F32]:
    """World points and unit rays [H, W, 3] of the top left quarters of the picture's pixels."""
    h, w = depth.shape
    focal = h / 2 / np.tan(np.radians(camera.fovy_deg) / 2)
    u = ((np.arange(w) + 0.25 - w / 2) / focal).astype(np.float32)
    v = ((np.arange(h) + 0.25 - h / 2) / focal).astype(np.float32)
    local = np.dstack([*np.meshgrid(u, v), np.ones((h, w), np.float32)])
    rays = _f32(cv2.transform(local, matrix(camera.pose.quaternion).astype(np.float32)))
    points = rays * depth[..., None] + np.asarray(camera.pose.position, np.float32)
    rays /= np.sqrt(_dot(rays, rays))[..., None]
    return points, rays


def _f32(a: Any) -> F32:
    """cv2's results by their type."""
    return np.asarray(a, np.float32)


def _facing(normals: F32, rays: F32) -> F32:
    """Unit normals that look at the camera: sheets have two sides."""
    length = np.sqrt(_dot(normals, normals))
    sign = np.where(_dot(normals, rays) > 0, np.float32(-1), np.float32(1))
    out: F32 = normals * (sign / np.maximum(length, np.float32(1e-3)))[..., None]
    return out


def _dot(a: F32, b: F32) -> F32:
    if b.ndim == 1:
        return _f32(cv2.transform(a, b[None]))
    return _f32(cv2.transform(a * b, np.ones((1, 3), np.float32)))


def _towards(lamp: Light, blocker: Blocker, points: F32) -> tuple[F32, F32 | np.float32]:
    """Unit vectors to a lamp, [3] or [H, W, 3], and its strength relative to the middle."""
    if lamp.position is None:
        return np.asarray(blocker.towards, np.float32), np.float32(1)
    d = np.asarray(lamp.position, np.float32) - points
    square = np.maximum(_dot(d, d), np.float32(0.01))
    middle = np.asarray(blocker.view.pose.position) + matrix(blocker.view.pose.quaternion)[:, 2] * (
        blocker.view.far / 2
    )
    reference = np.float32(np.sum((np.asarray(lamp.position) - middle) ** 2))
    # Half of inverse-square: a lamp is a panel, not a point.
    return d / np.sqrt(square)[..., None], np.minimum(np.sqrt(reference / square), np.float32(3))


def _from_everywhere(
    points: F32,
    normals: F32,
    depth: F32,
    camera: Camera,
    sky: Sequence[tuple[Blocker, float]],
) -> tuple[F32, F32, F32]:
    """Sky light, openness of the near surroundings, seen share of the sky; each [H, W].

    All of it is smooth on a surface, so a quarter of the pixels will do.
    """
    p, n = np.ascontiguousarray(points[::2, ::2]), np.ascontiguousarray(normals[::2, ::2])
    valid = depth > 0
    usual = float(np.median(depth[valid])) if valid.any() else 1.0
    focal = len(p) / 2 / np.tan(np.radians(camera.fovy_deg) / 2) / usual
    crevice = crevices(p, n, focal)
    total = np.zeros(p.shape[:2], np.float32)
    share = np.zeros_like(total)
    for blocker, weight in sky:
        passed = seen(blocker, p, n, rough=True) * np.float32(weight)
        share += passed
        wrapped = (_dot(n, np.asarray(blocker.towards, np.float32)) + np.float32(0.3)) / 1.3
        total += passed * np.clip(wrapped, 0, 1)
    from_below = 0.10 + 0.06 * np.clip(-n[..., 2], 0, 1)
    light = (1.45 * total + from_below * (0.3 + 0.7 * share)) * crevice
    large = enlarge(np.dstack([light, crevice, share]), depth, normals)
    return _plane(large, 0), _plane(large, 1), _plane(large, 2)


def _bounce(radiance: F32, open_sky: F32, width: int) -> F32:
    """Light from lit neighbours [H, W, 3]: their colour, where the sky is covered."""
    small = cv2.resize(radiance, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    near = cv2.GaussianBlur(small, (0, 0), 0.008 * width)
    far = cv2.GaussianBlur(small, (0, 0), 0.026 * width)
    mixed = cv2.resize(0.5 * near + 0.5 * far, radiance.shape[1::-1])
    out: F32 = mixed * (np.float32(0.75) * (1.08 - open_sky))[..., None]
    return out


def _highlight(towards: F32, rays: F32, normals: F32, power: F32) -> F32:
    """Blinn and Phong, normalised so that narrow ones are bright."""
    half = towards - rays
    cosine = _dot(normals, half) / np.sqrt(_dot(half, half))
    lobe = np.exp(power * np.log(np.clip(cosine, np.float32(1e-4), np.float32(1))))
    lobe *= power + np.float32(8)
    lobe *= np.float32(0.016)
    return _f32(lobe)


def _mirrored(rays: F32, normals: F32, open_sky: F32, g: GBuffer) -> F32:
    """What glossy things mirror of a hall's ceiling [H, W]: rows of panels, dimmer around."""
    against = _dot(rays, normals)
    mirror = rays - 2 * against[..., None] * normals
    up = np.clip(mirror[..., 2], 0.05, 1)
    across = mirror[..., 0] / up
    sharp = 2 + 10 * g.shininess
    panel = 1 / (1 + np.exp(-sharp * (np.cos(across * np.float32(3.1) + 0.6) - 0.55)))
    ceiling = (0.45 + 1.9 * panel) * np.clip(mirror[..., 2] * 3, 0, 1) + 0.15
    fresnel = 0.045 + 0.6 * np.clip(1 + against, 0, 1) ** 5
    out: F32 = g.specular * fresnel * ceiling * open_sky * np.float32(2.2)
    return out


def enlarge(light: F32, depth: F32, normals: F32) -> F32:
    """Return light [H, W, C] at twice the size: linear on a surface, never across an edge.

    Args:
        light: its sample (i, j) belongs to pixel (2i, 2j) of the others.
        depth: float32 [2H, 2W] (or one row or column less), m.
        normals: float32 of that size, 3 channels.
    """
    hw = depth.shape
    doubled = _double(light, hw)
    # Where the same interpolation fails for depth or normals there is an edge; take the value
    # of the one of four neighbours that is most alike there.
    z, n = depth[::2, ::2], np.ascontiguousarray(normals[::2, ::2])
    edge = np.abs(_double(z, hw) - depth) > 0.006 * depth
    turned = _double(n, hw)
    turned -= normals
    turned *= turned
    edge |= cv2.transform(turned, np.ones((1, 3), np.float32)) > 0.02
    at = np.flatnonzero(edge)
    y, x = np.divmod(at, np.int64(hw[1]))
    z_here, n_here = depth[y, x], normals[y, x]
    h, w, channels = light.shape
    best, nearest = np.full(len(at), np.inf, np.float32), at
    z, n = np.ascontiguousarray(z).ravel(), n.reshape(-1, 3)
    for dy in (0, 1):
        for dx in (0, 1):
            place = np.minimum(y // 2 + dy, h - 1) * w + np.minimum(x // 2 + dx, w - 1)
            unlike = np.abs(z.take(place) - z_here)
            unlike *= np.float32(8)
            turn = np.abs(n.take(place, axis=0) - n_here)
            unlike += turn[:, 0] + turn[:, 1] + turn[:, 2]
            nearest = np.where(unlike < best, place, nearest)
            best = np.minimum(unlike, best)
    doubled[y, x] = light.reshape(-1, channels).take(nearest, axis=0)
    return doubled


def _double(a: F32, hw: tuple[int, ...]) -> F32:
    """Twice as large, linear, with sample (i, j) at (2i, 2j); cut to `hw`."""
    grid = np.array([[0.5, 0, 0], [0, 0.5, 0]], np.float32)
    out = cv2.warpAffine(
        a,
        grid,
        (hw[1], hw[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return _f32(out).reshape(*hw, *a.shape[2:])
