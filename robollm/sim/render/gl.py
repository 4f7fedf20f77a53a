"""The one place that touches MuJoCo's OpenGL: a context, and passes over a list of geoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.sim.geometry import F64, matrix
from robollm.sim.world import F32, U8, Camera, Pose

NEAR_M, FAR_M = 0.04, 12.0
_SIGNED = (np.arange(256) / 127.5 - 1).astype(np.float32)


def import_mujoco() -> Any:
    """Import mujoco late, so that a missing library is an error of its first use.

    Raises:
        ConfigError: if mujoco or the OpenGL library isn't there.
    """
    from robollm.sim.mj import mujoco

    return mujoco


def _no_context(reason: object) -> Exception:
    from robollm.sim.mj import no_context

    return no_context(reason)


@dataclass(slots=True, eq=False)
class Geom:
    """One mesh to draw: where, and as what.

    `mesh`, `material`: indices in the model. `position` [3] and `rotation` [3, 3]: of the mesh as
    MuJoCo keeps it. `rgba`: with an alpha below 1 it is blended over what is behind. `sheet`: the
    mesh has the backs of its faces too.
    """

    mesh: int
    material: int
    position: F64
    rotation: F64
    rgba: tuple[float, float, float, float]
    sheet: bool = False


@dataclass(frozen=True, slots=True)
class Ortho:
    """A parallel projection: a square of `width` m around the axis of `pose`'s optical frame."""

    pose: Pose
    width: float
    near: float
    far: float


class Canvas:
    """An OpenGL context with a model's meshes and textures in it. Free it, or use `with`."""

    def __init__(self) -> None:
        self._mj = import_mujoco()
        context_class = getattr(self._mj, "GLContext", None)
        if context_class is None:  # MUJOCO_GL=disable
            raise _no_context("mujoco was imported without OpenGL")
        try:
            self._gl = context_class(64, 64)  # everything is drawn into MuJoCo's own buffer
            self._gl.make_current()
        except Exception as e:  # a foreign border: PyOpenGL raises half a dozen kinds
            raise _no_context(e) from e
        self._con: Any = None
        self._scn: Any = None
        self._hw = (0, 0)
        self.model: Any = None

    def __enter__(self) -> Canvas:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back; the canvas can't be used afterwards."""
        self._drop_model()
        if self._gl is not None:
            self._gl.free()
            self._gl = None

    def _drop_model(self) -> None:
        if self._con is not None:
            self._gl.make_current()
            self._con.free()
        self._con = self._scn = self.model = None

    def load(self, model: Any, max_geoms: int) -> None:
        """Upload a compiled model's meshes and textures; what was there before is freed."""
        mj = self._mj
        self._drop_model()
        self._gl.make_current()
        self.model = model
        self._con = mj.MjrContext(model, mj.mjtFontScale.mjFONTSCALE_50)
        mj.mjr_setBuffer(mj.mjtFramebuffer.mjFB_OFFSCREEN, self._con)
        if self._con.currentBuffer != mj.mjtFramebuffer.mjFB_OFFSCREEN:
            raise _no_context("no off-screen frame buffer")
        self._con.readDepthMap = mj.mjtDepthMap.mjDEPTH_ZEROFAR
        self._hw = (model.vis.global_.offheight, model.vis.global_.offwidth)
        self._scn = mj.MjvScene(model, maxgeom=max_geoms)
        self._scn.flags[:] = 0

    def upload_mesh(self, mesh: int) -> None:
        """Send one mesh of the model again, after its vertices or normals were changed."""
        self._gl.make_current()
        self._mj.mjr_uploadMesh(self.model, self._con, mesh)

    def place(self, geoms: list[Geom]) -> None:
        """Set what the next passes draw."""
        mj, scn = self._mj, self._scn
        for i, geom in enumerate(geoms):
            g = scn.geoms[i]
            mj.mjv_initGeom(
                g,
                int(mj.mjtGeom.mjGEOM_MESH),
                np.ones(3),
                geom.position,
                geom.rotation.ravel(),
                np.asarray(geom.rgba, np.float32),
            )
            g.dataid = 2 * geom.mesh  # the odd ones are convex hulls
            g.objtype, g.objid, g.segid = mj.mjtObj.mjOBJ_GEOM, i, i
            g.category = mj.mjtCatBit.mjCAT_DYNAMIC
            g.texcoord = 1
            g.specular = g.shininess = g.reflectance = 0
        scn.ngeom = len(geoms)

    def albedo(self, camera: Camera, hw: tuple[int, int], geoms: list[Geom]) -> U8:
        """Return colours without any light, [H, W, 3]; transparent geoms are blended."""
        for i, geom in enumerate(geoms):
            g = self._scn.geoms[i]
            g.emission, g.matid = 0.0, geom.material
            # MuJoCo draws what is transparent twice, and a sheet's faces are there twice.
            g.rgba = (*geom.rgba[:3], 1 - (1 - geom.rgba[3]) ** (0.25 if geom.sheet else 0.5))
            g.transparent = geom.rgba[3] < 1
            offset = geom.position - np.asarray(camera.pose.position)
            g.camdist = float(np.linalg.norm(offset))
        self._lamps([(0, 0, 1)], ambient=1.0, strength=0.0)
        film = any(geom.rgba[3] < 1 for geom in geoms)  # its inside is seen
        return self._draw(camera, hw, (), depth=False, cull=not film)[0]

    def normals(self, camera: Camera, hw: tuple[int, int], geoms: list[Geom]) -> tuple[F32, F32]:
        """Return world normals [H, W, 3] and depth [H, W] m (0 where nothing is drawn)."""
        self._solid(geoms)
        # Lamps along the six axes, half of them with negative light: colour = (1 + normal) / 2.
        axes = [tuple(sign * row) for row in np.eye(3) for sign in (1.0, -1.0)]
        self._lamps(axes, ambient=0.5, strength=0.5)
        rgb, depth = self._draw(camera, hw, (), depth=True)
        return np.asarray(cv2.LUT(rgb, _SIGNED), np.float32), depth

    def ids(
        self, camera: Camera, hw: tuple[int, int], geoms: list[Geom]
    ) -> tuple[NDArray[np.int32], F32]:
        """Return [H, W] 1 + index of the geom in front (0: none), exact; and depth [H, W] m."""
        self._solid(geoms)
        self._scn.nlight = 0
        flag = self._mj.mjtRndFlag
        rgb, depth = self._draw(camera, hw, (flag.mjRND_SEGMENT, flag.mjRND_IDCOLOR), depth=True)
        r, g, b = (rgb[..., k].astype(np.int32) for k in range(3))
        return r | g << 8 | b << 16, depth

    def depth(self, view: Ortho, side: int, geoms: list[Geom]) -> F32:
        """Return depth [side, side] of the first geoms, m along the axis; `far` where none is."""
        self._solid(geoms)
        scn, flag = self._scn, self._mj.mjtRndFlag
        scn.nlight, everything = 0, scn.ngeom
        scn.ngeom = len(geoms)
        flags = (flag.mjRND_SEGMENT, flag.mjRND_IDCOLOR)  # the cheapest fragments
        try:
            return self._draw(view, (side, side), flags, depth=True)[1]
        finally:
            scn.ngeom = everything

    def _lamps(self, axes: Sequence[tuple[float, ...]], *, ambient: float, strength: float) -> None:
        """Lamps that shine against `axes`, each with the light `strength` * axis."""
        self._scn.nlight = len(axes)
        for i, axis in enumerate(axes):
            lamp = self._scn.lights[i]
            lamp.type = self._mj.mjtLightType.mjLIGHT_DIRECTIONAL
            lamp.dir = [-v for v in axis]
            lamp.pos, lamp.attenuation = (0, 0, 0), (1, 0, 0)
            lamp.ambient = (ambient if i == 0 else 0,) * 3
            lamp.diffuse = [strength * v for v in axis]
            lamp.specular = (0, 0, 0)
            lamp.headlight = lamp.castshadow = 0

    def _solid(self, geoms: list[Geom]) -> None:
        for i in range(len(geoms)):
            g = self._scn.geoms[i]
            g.emission, g.matid, g.rgba, g.transparent = 0.0, -1, (1, 1, 1, 1), 0

    def _draw(
        self,
        view: Camera | Ortho,
        hw: tuple[int, int],
        flags: tuple[int, ...],
        *,
        depth: bool,
        cull: bool = True,
    ) -> tuple[U8, F32]:
        mj, scn = self._mj, self._scn
        self._gl.make_current()
        if hw[0] > self._hw[0] or hw[1] > self._hw[1]:
            self._hw = (max(hw[0], self._hw[0]), max(hw[1], self._hw[1]))
            mj.mjr_resizeOffscreen(self._hw[1], self._hw[0], self._con)
            mj.mjr_setBuffer(mj.mjtFramebuffer.mjFB_OFFSCREEN, self._con)
        near, far = _aim(scn, view, hw)
        scn.flags[:] = 0
        scn.flags[mj.mjtRndFlag.mjRND_CULL_FACE] = cull
        for flag in flags:
            scn.flags[flag] = 1
        box = mj.MjrRect(0, 0, hw[1], hw[0])
        mj.mjr_render(box, scn, self._con)
        rgb = np.empty((*hw, 3), np.uint8)
        z = np.empty(hw, np.float32) if depth else None
        mj.mjr_readPixels(rgb, z, box, self._con)
        if z is None:
            return rgb[::-1], np.empty((0, 0), np.float32)
        near_one = z[::-1]  # 1 at near, 0 at far
        if isinstance(view, Ortho):
            return rgb[::-1], far + (near - far) * near_one
        distance = np.float32(near * far) / (near + near_one * np.float32(far - near))
        distance[near_one == 0] = 0
        return rgb[::-1], distance


def _aim(scn: Any, view: Camera | Ortho, hw: tuple[int, int]) -> tuple[float, float]:
    """Point both eyes of the scene; return the clip distances, m."""
    axes = matrix(view.pose.quaternion)
    if isinstance(view, Ortho):
        near, far, top = view.near, view.far, view.width / 2
    else:
        near, far = NEAR_M, FAR_M
        top = near * float(np.tan(np.radians(view.fovy_deg) / 2))
    for eye in scn.camera:
        eye.pos, eye.forward, eye.up = view.pose.position, axes[:, 2], -axes[:, 1]
        eye.orthographic = int(isinstance(view, Ortho))
        eye.frustum_near, eye.frustum_far, eye.frustum_center = near, far, 0
        eye.frustum_width = top * hw[1] / hw[0]
        eye.frustum_bottom, eye.frustum_top = -top, top
    return near, far
