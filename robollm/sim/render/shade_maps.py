"""Soft shadows: how much of a lamp, or of a patch of sky, a point sees.

From each direction that light comes from there is a depth map. Its first two moments, blurred,
bound the share of the light that passes (Donnelly and Lauritzen, "Variance shadow maps", 2006).
How far to blur follows from the distance between what casts the shadow and what it falls on, so
that shadows are sharp where things touch and soft far away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.sim.geometry import look_at, matrix
from robollm.sim.render.gl import Ortho
from robollm.sim.world import F32, Lighting, Vec3

LAMP_SIDE, SKY_SIDE = 288, 112  # px of a depth map
SKY_SPREAD = 0.38  # tangent of a sky patch's half angle

_BIAS_M = 0.0025
_LEAK = 0.22  # shares below are taken for 0: what variance shadow maps let through wrongly
_SHARP = 4.0  # px; blurs wider than this are made on a smaller map
_FADE = 0.06  # share of the map's width at its border where it fades to "sees the lamp"


@dataclass(frozen=True, slots=True, eq=False)
class Blocker:
    """What stands between a direction and the scene.

    `towards`: unit vector to the light. `depth` float32 [S, S] along `view`. `spread`: tangent
    of the light's half angle.
    """

    towards: Vec3
    view: Ortho
    depth: F32
    spread: float


def aim(towards: Vec3, centre: Vec3, radius: float) -> Ortho:
    """Return a parallel view along a light's rays over a ball of `radius` m."""
    d = np.asarray(towards, np.float64)
    d /= np.linalg.norm(d)
    eye = np.asarray(centre) + d * (1.2 * radius)
    up = (0.0, 1.0, 0.0) if abs(d[1]) < 0.9 else (1.0, 0.0, 0.0)
    pose = look_at((float(eye[0]), float(eye[1]), float(eye[2])), centre, up)
    return Ortho(pose, 2.1 * radius, 0.05 * radius, 2.4 * radius)


def sky_directions() -> list[tuple[Vec3, float]]:
    """Return where light "from everywhere" comes from: (direction to it, weight), sum 1.

    One straight above, three around at 54 degrees, three low ones between them.
    """
    out: list[tuple[Vec3, float]] = [((0.02, 0.01, 1.0), 0.24)]
    for count, elevation, share, twist in ((3, 54.0, 0.44, 0.3), (3, 24.0, 0.32, 0.8)):
        e = np.radians(elevation)
        for k in range(count):
            a = 2 * np.pi * (k + twist) / count
            x, y = np.cos(a) * np.cos(e), np.sin(a) * np.cos(e)
            out.append(((float(x), float(y), float(np.sin(e))), share / count))
    return out


def lamp_spread(lighting: Lighting) -> float:
    """Return the tangent of the half angle of a lamp."""
    return 0.02 + 0.38 * float(lighting.softness * np.sqrt(lighting.softness))


def seen(blocker: Blocker, points: F32, normals: F32, *, rough: bool = False) -> F32:
    """Return the share of a light that points see.

    Args:
        blocker: a direction's depth map.
        points: float32 [H, W, 3] world, m.
        normals: float32 [H, W, 3]; points are lifted off their surface along them.
        rough: one blur for all distances; enough for one of many patches of sky.

    Returns:
        float32 [H, W], 0 to 1. The cosine to the normal is not in it.
    """
    view, side = blocker.view, blocker.depth.shape[0]
    texel = view.width / side
    turn = matrix(view.pose.quaternion)
    # Pixel centres of the map are at half-integers; cv2.remap counts from the centre of pixel 0.
    to_map = np.array([turn[:, 0] / texel, turn[:, 1] / texel, turn[:, 2]])
    shift = -to_map @ np.asarray(view.pose.position) + [side / 2 - 0.5, side / 2 - 0.5, 0]
    lifted = points + normals * np.float32(0.6 * texel + _BIAS_M / 2)
    project = np.column_stack([to_map, shift]).astype(np.float32)
    uv = np.asarray(cv2.transform(lifted, project[:2]), np.float32)
    z = np.asarray(cv2.transform(lifted, project[2:]), np.float32)

    middle = np.float32((view.near + view.far) / 2)  # moments about it lose fewer bits
    depth = blocker.depth - middle
    moments = cv2.merge([depth, depth * depth])
    reach = max(1.0, 0.055 * blocker.spread / 0.2 / texel)  # px; the widest blur
    sigmas = (0.5 * reach,) if rough else (0.7, 0.7 + 0.3 * reach, 0.7 + reach)
    np.minimum(z, np.float32(view.far), out=z)  # an empty map's depth: nothing is in front
    z -= middle
    z -= np.float32(_BIAS_M)
    looked = [_look(moments, sigma, uv) for sigma in sigmas]
    shares = [_passes(mean, square, z) for mean, square in looked]
    if rough:
        return shares[0]
    # What blocks lies this far in front (mean over the wider blurs), so the edge is this wide:
    gap = z - np.minimum(looked[2][0], looked[1][0])
    width = np.clip(gap * np.float32(blocker.spread / texel / reach), 0, 1)
    low = np.minimum(width / np.float32(0.3), 1)
    high = np.maximum((width - np.float32(0.3)) / np.float32(0.7), 0)
    share = shares[0] + low * (shares[1] - shares[0]) + high * (shares[2] - shares[1])
    centre: Any = (side / 2, side / 2, 0, 0)  # one value per channel, as the stubs don't know
    off = cv2.absdiff(uv, centre)
    rim = np.float32(side / 2) - np.maximum(off[..., 0], off[..., 1])
    inside = np.clip(rim / np.float32(_FADE * side), 0, 1)
    out: F32 = 1 - inside * (1 - share)
    return out


def _look(moments: Any, sigma: float, uv: F32) -> tuple[F32, F32]:
    """Both moments, blurred, at places `uv` px of the map."""
    shrink = 1
    while sigma / shrink > _SHARP and moments.shape[0] % 2 == 0:  # wide blurs need few samples
        shrink *= 2
        moments = cv2.resize(moments, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    layer = cv2.GaussianBlur(moments, (0, 0), sigma / shrink, borderType=cv2.BORDER_REPLICATE)
    if shrink > 1:
        uv = uv * np.float32(1 / shrink) + np.float32(0.5 / shrink - 0.5)
    nothing: Any = None  # the stubs don't know that one map of pairs is enough
    layer = cv2.remap(layer, uv, nothing, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mean, square = cv2.split(layer)
    return np.asarray(mean, np.float32), np.asarray(square, np.float32)


def _passes(mean: F32, square: F32, z: F32) -> NDArray[np.float32]:
    """Chebyshev's bound on the share of the depth map's neighbourhood that lies behind z."""
    variance = square - mean * mean
    np.maximum(variance, np.float32(1e-6), out=variance)
    behind = np.maximum(z - mean, 0)
    behind *= behind
    share = variance / (variance + behind)
    share -= np.float32(_LEAK)
    share *= np.float32(1 / (1 - _LEAK))
    out: F32 = np.maximum(share, 0, out=share)
    return out
