"""The path-traced renderer: colours from Blender Cycles, labels and depth from MuJoCo.

bpy is under the GPL-3 and is neither linked nor shipped: cycles_worker.py runs as a separate
program in an environment of its own (see cycles_env.py) and talks JSON lines and files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError
from robollm.sim.render.cycles_env import find_python
from robollm.sim.render.cycles_process import RenderError, Servant
from robollm.sim.render.mujoco_renderer import MujocoRenderer, default_bodies
from robollm.sim.render.scene_files import export_scene
from robollm.sim.render.shade import develop_film
from robollm.sim.render.shade_maps import lamp_spread
from robollm.sim.world import (
    F32,
    Body,
    Camera,
    Form,
    Light,
    Lighting,
    Picture,
    Product,
    Scene,
    Shot,
)

WORKER = Path(__file__).with_name("cycles_worker.py")
_RANGE = 4.0  # the brightest light that the picture of the other side can hold
_SIZE_M = 1.8  # how far a lamp with a position usually is, for its size


class CyclesRenderer:
    """Photographs scenes as render.MujocoRenderer does, slowly and near to a photograph.

    Camera, labels and depth are the same as MujocoRenderer's; so is the light's strength, and
    the film. A context manager: it holds a child process and an OpenGL context.

    Args:
        python: the interpreter with bpy; see cycles_env.find_python.
        samples: paths per pixel before denoising, 1 to 4096.
        bodies: what a product looks like in a form; by default bodies.body_of.
        threads: of the child; 0 is one per core.
        timeout_s: for one picture, or for loading one scene.

    Raises:
        ConfigError: if there is no such interpreter, `samples` is out of range, or OpenGL is
            missing.
        RenderError: if the child can't import bpy.
    """

    def __init__(
        self,
        python: Path | None = None,
        samples: int = 8,
        *,
        bodies: Callable[[Product, Form], Body] | None = None,
        threads: int = 0,
        timeout_s: float = 600.0,
    ) -> None:
        if not 1 <= samples <= 4096:
            raise ConfigError(f"samples is {samples}, want 1 to 4096")
        interpreter = find_python(python)
        self._samples, self._timeout_s = samples, timeout_s
        self._bodies = bodies or default_bodies
        self._there: Scene | None = None
        self._texture_scale = 1.0
        command = [str(interpreter), "-I", str(WORKER), "--threads", str(threads)]
        self._servant = Servant(command, name="Blender", start_s=min(timeout_s, 120.0))
        try:
            self._mujoco = MujocoRenderer(bodies)
        except BaseException:
            self._servant.close()
            raise
        self._scratch = tempfile.TemporaryDirectory(prefix="robollm-cycles-")

    def __enter__(self) -> CyclesRenderer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child and give the OpenGL context back."""
        self._servant.close()
        self._mujoco.close()
        self._scratch.cleanup()

    def load(self, scenes: Sequence[Scene] | Scene, *, texture_scale: float = 1.0) -> None:
        """Take what the scenes show; Blender gets a scene when it is first shot.

        Args:
            scenes: see MujocoRenderer.load.
            texture_scale: factor on all textures' sides, in (0, 1].

        Raises:
            ConfigError: if `texture_scale` is out of range.
        """
        self._mujoco.load(scenes, texture_scale=texture_scale)
        self._texture_scale, self._there = texture_scale, None

    def shoot(self, scene: Scene, shot: Shot) -> Picture:
        """Take one picture; the lens is not applied.

        Args:
            scene: one of those loaded, or another one of the same things.
            shot: camera and light; its seed is that of the paths' noise.

        Raises:
            ConfigError: if the scene has something that was not loaded.
            RenderError: if Blender failed, died, or took longer than `timeout_s`.
        """
        seen = self._mujoco.shoot(scene, shot)
        linear, _ = self.trace(scene, shot)
        return Picture(develop_film(linear), seen.labels, seen.depth)

    def trace(
        self, scene: Scene, shot: Shot, *, ids: bool = False
    ) -> tuple[F32, NDArray[np.uint16] | None]:
        """Return linear light float32 [H, W, 3] RGB and, if asked for, Cycles' own labels.

        The labels, uint16 [H, W], are there to check MuJoCo's; the ones of `shoot` are MuJoCo's.
        Errors as of `shoot`.
        """
        root = Path(self._scratch.name)
        if self._there is not scene:
            export_scene(scene, root / "scene", self._bodies, texture_scale=self._texture_scale)
            self._there = None
            self._servant.ask({"job": "load", "scene": str(root / "scene")}, self._timeout_s)
            self._there = scene
        files = {"rgb": str(root / "rgb.png"), "ids": str(root / "ids.png") if ids else None}
        job = {"job": "shoot", **light(shot.lighting), "camera": _camera(shot.camera), **files}
        job |= {"samples": self._samples, "seed": shot.seed % 2**31, "range": _RANGE}
        self._servant.ask(job, self._timeout_s)
        linear = _decode(_read(root / "rgb.png", shot.camera.hw, np.dtype(np.uint16)))
        if not ids:
            return linear, None
        code = _read(root / "ids.png", shot.camera.hw, np.dtype(np.uint8)).astype(np.uint16)
        return linear, code[..., 0] * np.uint16(256) + code[..., 1]


def light(lighting: Lighting) -> dict[str, Any]:
    """Return a lighting as the worker wants it: `lamps` with sizes, and `ambient`."""
    return {
        "lamps": [_lamp(lamp, lamp_spread(lighting)) for lamp in lighting.lamps],
        "ambient": [float(v) for v in lighting.ambient],
    }


def _lamp(lamp: Light, spread: float) -> dict[str, Any]:
    return {
        "direction": [float(v) for v in lamp.direction],
        "position": lamp.position and [float(v) for v in lamp.position],
        "irradiance": [float(v) for v in lamp.colour],
        "size_m": 2 * spread * _SIZE_M,
        "angle_rad": 2 * float(np.arctan(spread)),
    }


def _camera(camera: Camera) -> dict[str, Any]:
    return {
        "position": [float(v) for v in camera.pose.position],
        "quaternion": [float(v) for v in camera.pose.quaternion],
        "fovy_deg": float(camera.fovy_deg),
        "hw": [int(v) for v in camera.hw],
    }


def _read(path: Path, hw: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a PNG as RGB [H, W, 3] of the size and type wanted."""
    bgr = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    path.unlink(missing_ok=True)  # so that no picture is ever taken for a later one's
    if bgr is None or bgr.shape != (*hw, 3) or bgr.dtype != dtype:
        seen = "nothing" if bgr is None else f"{bgr.shape} {bgr.dtype}"
        raise RenderError(f"Blender's picture is {seen}, want {(*hw, 3)} {dtype}")
    return np.ascontiguousarray(bgr[..., ::-1])


def _decode(code: NDArray[np.uint16]) -> F32:
    """Return linear light of sRGB code values."""
    v = code.astype(np.float32) / np.float32(65535)
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear * _RANGE, np.float32)
