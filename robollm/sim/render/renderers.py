"""Who draws: one interface, and the choice by name."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Protocol

from robollm.core.errors import ConfigError
from robollm.sim.world import Picture, Scene, Shot

RENDERERS = {
    "mujoco": ("robollm.sim.render.mujoco_renderer", "MujocoRenderer"),
    "cycles": ("robollm.sim.render.cycles_renderer", "CyclesRenderer"),
}


class Renderer(Protocol):
    """Photographs scenes; see render.MujocoRenderer."""

    def load(self, scenes: Sequence[Scene] | Scene, *, texture_scale: float = 1.0) -> None: ...

    def shoot(self, scene: Scene, shot: Shot) -> Picture: ...

    def close(self) -> None: ...


def make_renderer(name: str) -> Renderer:
    """Open a renderer; the caller closes it.

    Args:
        name: "mujoco" (OpenGL, fast) or "cycles" (path traced, slow).

    Raises:
        ConfigError: if there is no such renderer, or it can't work on this machine.
    """
    if name not in RENDERERS:
        raise ConfigError(f"no renderer {name!r}", fix=f"use one of {', '.join(RENDERERS)}")
    module, kind = RENDERERS[name]
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"this robollm has no renderer {name!r}: {module} is not there", fix="use mujoco"
        )
    renderer: Renderer = getattr(importlib.import_module(module), kind)()
    return renderer
