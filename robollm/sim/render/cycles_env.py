"""Where Blender's Python module lives: an environment of its own, made and found here.

bpy is under the GPL-3 and needs NumPy 1 and CPython 3.11. Nothing of it is shipped with or linked
into robollm: it runs as a separate program, in an environment that the user makes with one command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from robollm.core.errors import ConfigError

PINS = ("bpy==4.5.15", "numpy<2")
ENV_VAR = "ROBOLLM_CYCLES_PYTHON"
FOLDER = Path(".cycles-venv")
_NEEDED_BYTES = 2_000_000_000  # 0.95 GB installed, the rest while pip unpacks


def find_python(python: Path | None = None) -> Path:
    """Return the interpreter that has bpy: the argument's, ENV_VAR's, or that of FOLDER.

    Raises:
        ConfigError: if it is not there.
    """
    told = os.environ.get(ENV_VAR)
    path, source = FOLDER / "bin" / "python", "the default place"
    if python is not None:
        path, source = python, "as asked for"
    elif told:
        path, source = Path(told), f"from {ENV_VAR}"
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise ConfigError(
            f"no Python interpreter for Blender at {path} ({source})",
            fix=f"robollm sim cycles-env {FOLDER}, or set {ENV_VAR}",
        )
    return path.absolute()  # not resolved: a venv's interpreter is a link


def make_env(
    folder: Path = FOLDER,
    *,
    python: Path | None = None,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> Path:
    """Make the environment with pip; pip's progress goes to stderr.

    Args:
        folder: of the new virtual environment; an existing one is completed.
        python: a CPython 3.11; by default this one, or python3.11 on the PATH.
        say: gets one line before each step.

    Returns:
        The interpreter, for find_python and ENV_VAR.

    Raises:
        ConfigError: if there is no CPython 3.11, not enough room on the disk, or pip fails.
    """
    base = python or _python311()
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < _NEEDED_BYTES:
        raise ConfigError(
            f"{folder.absolute().parent} has {free / 1e9:.1f} GB left, Blender's Python module"
            f" wants {_NEEDED_BYTES / 1e9:.0f}",
            fix="free some, or name a folder on another disk",
        )
    made = folder.absolute() / "bin" / "python"
    say(f"making {folder} with {base}")
    _run([str(base), "-m", "venv", str(folder)], "make the environment")
    say(f"installing {' '.join(PINS)}: a large download, about 950 MB on disk (bpy: GPL-3)")
    _run([str(made), "-m", "pip", "install", *PINS], "install " + " ".join(PINS))
    _run([str(made), "-I", "-c", "import bpy"], "import bpy")
    say(f"done: found by itself at {FOLDER}, elsewhere through {ENV_VAR}={made}")
    return made


def _python311() -> Path:
    if sys.version_info[:2] == (3, 11):
        return Path(sys.executable)
    found = shutil.which("python3.11")
    if found is None:
        here = ".".join(str(v) for v in sys.version_info[:2])
        raise ConfigError(
            f"bpy 4.5 wants CPython 3.11; this is {here}, and there is no python3.11 on the PATH",
            fix="install Python 3.11 (apt, pyenv, uv) and try again",
        )
    return Path(found)


def _run(command: list[str], what: str) -> None:
    try:
        subprocess.run(command, check=True, stdout=sys.stderr.fileno())
    except (OSError, subprocess.CalledProcessError) as e:
        raise ConfigError(
            f"could not {what}: {e}", fix="read the lines above; then run the command again"
        ) from e
