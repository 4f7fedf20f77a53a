"""MuJoCo, with off-screen OpenGL chosen: MuJoCo reads MUJOCO_GL when it is first imported.

Everything in this room takes `mujoco` from here, so that physics can't be imported before the
choice is made.
"""

from __future__ import annotations

import os

from robollm.core.errors import ConfigError

os.environ.setdefault("MUJOCO_GL", "osmesa")
os.environ.setdefault("LP_NUM_THREADS", "1")  # one process per core beats threads


def no_context(reason: object) -> ConfigError:
    """Return the error for a machine on which nothing can be drawn."""
    how = os.environ.get("MUJOCO_GL", "osmesa")
    return ConfigError(
        f"MuJoCo can't make an off-screen OpenGL context (MUJOCO_GL={how}): {reason}; "
        "want a working libOSMesa or EGL",
        fix="sudo apt-get install libosmesa6 (or set MUJOCO_GL=egl with a GPU)",
    )


try:
    import mujoco
except ModuleNotFoundError as e:
    if e.name != "mujoco":
        raise
    raise ConfigError(
        "the simulator needs mujoco, which is not installed", fix="pip install 'robollm[sim]'"
    ) from e
except (ImportError, AttributeError, OSError, RuntimeError) as e:
    raise no_context(e) from e

__all__ = ["mujoco", "no_context"]
