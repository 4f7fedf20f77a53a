"""From parts to a MuJoCo model that only serves to be drawn: no joints, no collisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from robollm.sim.geometry import F64, matrix
from robollm.sim.render.gl import import_mujoco
from robollm.sim.world import F32, I32, U8, Mesh, Surface

_TEXELS_MIN = 4  # a smaller side is not worth shrinking to


@dataclass(frozen=True, slots=True, eq=False)
class Asset:
    """A mesh with its look, as it goes into the model. `vertices` may differ from `mesh`'s.

    `sheet`: its back can be seen.
    """

    mesh: Mesh
    surface: Surface
    vertices: F32
    sheet: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """Where an asset went. `position` [3], `rotation` [3, 3]: MuJoCo's mesh frame in ours."""

    mesh: int
    material: int
    position: F64
    rotation: F64


def is_open(mesh: Mesh) -> bool:
    """Return whether a surface has a border, or one that is not joined within a hundredth of mm."""
    spots = np.round(mesh.vertices.astype(np.float64) * 1e5).astype(np.int64)
    _, weld = np.unique(spots @ (1, 1 << 21, 1 << 42), return_inverse=True)
    a, b, c = weld[mesh.faces].T
    flat = (a == b) | (b == c) | (c == a)
    start = np.concatenate([a[~flat], b[~flat], c[~flat]])
    end = np.concatenate([b[~flat], c[~flat], a[~flat]])
    # Around a closed surface every edge is walked as often forth as back.
    forth, back = (start << 32) + end, (end << 32) + start
    return not np.array_equal(np.sort(forth), np.sort(back))


def smooth_normals(vertices: F32, faces: I32) -> F32:
    """Return unit normals [N, 3], the mean of the faces around, weighted by their area.

    Vertices that no face uses, or only faces without area, get (0, 0, 1).
    """
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    across = np.cross(b - a, c - a)
    count = len(vertices)
    corners = faces.T.ravel()
    sums = np.stack(
        [np.bincount(corners, np.tile(across[:, k], 3), count) for k in range(3)], axis=1
    )
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    good = length[:, 0] > 1e-14
    sums[good] /= length[good]
    sums[~good] = (0, 0, 1)
    return sums.astype(np.float32)


def build(assets: Sequence[Asset], texture_scale: float) -> tuple[Any, list[Slot]]:
    """Compile a model with all assets.

    Args:
        assets: what to draw; the same texture array is uploaded once.
        texture_scale: factor on the sides of all textures, > 0, at most 1.

    Returns:
        The MjModel, and a slot for each asset.
    """
    mj = import_mujoco()
    spec = mj.MjSpec()
    spec.visual.quality.shadowsize = 0  # light is made in shade.py
    spec.visual.quality.offsamples = 0
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 640, 480
    materials: dict[int, int] = {}
    for i, asset in enumerate(assets):
        _add_mesh(mj, spec, i, asset)
        texture = asset.surface.texture
        if texture is not None and id(texture) not in materials:
            materials[id(texture)] = len(materials)
            _add_texture(mj, spec, materials[id(texture)], texture, texture_scale)
    model = spec.compile()
    slots = []
    for i, asset in enumerate(assets):
        texture = asset.surface.texture
        w, x, y, z = (float(v) for v in model.mesh_quat[i])
        slots.append(
            Slot(
                mesh=i,
                material=-1 if texture is None else materials[id(texture)],
                position=model.mesh_pos[i].copy(),
                rotation=matrix((w, x, y, z)),
            )
        )
    return model, slots


def rewrite(model: Any, slot: Slot, asset: Asset) -> None:
    """Replace a mesh's vertices in the model by the asset's; normals are made anew."""
    adr = int(model.mesh_vertadr[slot.mesh])
    local = (asset.vertices - slot.position) @ slot.rotation
    model.mesh_vert[adr : adr + len(local)] = local
    adr = int(model.mesh_normaladr[slot.mesh])
    normals = smooth_normals(asset.vertices, asset.mesh.faces)
    model.mesh_normal[adr : adr + len(normals)] = normals @ slot.rotation


def _add_mesh(mj: Any, spec: Any, i: int, asset: Asset) -> None:
    mesh = spec.add_mesh(name=f"mesh{i}")
    faces = np.ascontiguousarray(asset.mesh.faces, np.int32)
    mesh.uservert = asset.vertices.astype(np.float64).ravel()
    sides = [faces, faces[:, ::-1]] if asset.sheet else [faces]  # backs of faces are not drawn
    mesh.userface = np.concatenate(sides).ravel()
    mesh.usernormal = smooth_normals(asset.vertices, faces).ravel()
    mesh.usertexcoord = asset.mesh.uv.astype(np.float64).ravel()
    mesh.inertia = mj.mjtMeshInertia.mjMESH_INERTIA_SHELL  # open and flat ones are welcome
    # An unused mesh is as good as a used one: geoms are made by hand when a scene is drawn.


def _add_texture(mj: Any, spec: Any, i: int, texture: U8, scale: float) -> None:
    h, w = texture.shape[:2]
    if scale < 1:
        h, w = (max(_TEXELS_MIN, round(side * scale)) for side in (h, w))
        texture = np.asarray(cv2.resize(texture, (w, h), interpolation=cv2.INTER_AREA), np.uint8)
    made = spec.add_texture(
        name=f"texture{i}", type=mj.mjtTexture.mjTEXTURE_2D, width=w, height=h, nchannel=3
    )
    made.data = np.ascontiguousarray(texture).tobytes()
    material = spec.add_material(name=f"material{i}")
    material.textures[mj.mjtTextureRole.mjTEXROLE_RGB] = f"texture{i}"
