"""Processor, memory, disk and ROS, as far as they decide how robollm runs."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from robollm.runtime.child import Ended, ask
from robollm.runtime.findings import FAIL, NONE, OK, WARN, Finding

GIB = 1 << 30
MEMORY_GIB, DISK_GIB = 4, 2
SHM_MIB = 256
"""Fast DDS puts 32 MB a participant there; Docker gives 64 MB in all."""
ROS_S = 60.0
_ROS = """
import json
import rclpy
said = {"rmw": rclpy.get_rmw_implementation_identifier()}
for name in ("sensor_msgs", "vision_msgs", "diagnostic_msgs", "lifecycle_msgs"):
    try:
        __import__(name + ".msg")
    except Exception as e:
        said.setdefault("missing", []).append(f"{name} ({e})")
print("robollm-child " + json.dumps(said), flush=True)
"""
HIGHEST_DOMAIN = 101  # above it, DDS ports meet Linux' ephemeral ones


def machine() -> Iterator[Finding]:
    """Processor, memory, and the commit of a checkout. Imports NumPy."""
    from robollm.runtime.measure import machine as seen

    facts = seen(())
    flags, x86 = facts["flags"], facts["system"].endswith(("x86_64", "AMD64"))
    cores = f"{facts['cores']} cores"
    limit = cpu_limit()
    if limit and limit < facts["cores"]:
        cores += f", of which a container may use {limit:g}"
    text = f"{facts['cpu']}, {cores}, {' '.join(flags) or 'none of the flags that matter'}"
    if x86 and "avx2" not in flags:
        yield Finding("processor", WARN, text, "use a processor with AVX2: models are slow without")
    else:
        yield Finding("processor", OK, text)
    yield _memory(float(facts["memory_gib"]))
    if "commit" in facts:
        yield Finding("commit", OK, str(facts["commit"]))


def cpu_limit(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> float:
    """Cores that a container may use; 0: no limit is known."""
    try:
        quota, period = path.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no such file; "max"
        return 0.0


def memory_limit(path: Path = Path("/sys/fs/cgroup/memory.max")) -> float:
    """GiB that a container may use; 0: no limit is known."""
    try:
        return int(path.read_text()) / GIB
    except (OSError, ValueError):
        return 0.0


def storage() -> Iterator[Finding]:
    """Room for temporary files, here, and for images between processes."""
    for part, folder in (("temporary files", Path(tempfile.gettempdir())), ("disk", Path.cwd())):
        yield _disk(part, folder)
    shm = Path("/dev/shm")
    if shm.is_dir():
        free = shutil.disk_usage(shm).free / (1 << 20)
        if free < SHM_MIB:
            fix = "docker run --shm-size=1g, or --ipc=host"
            yield Finding("shared memory", WARN, f"{free:.0f} MiB free for ROS images", fix)
        else:
            yield Finding("shared memory", OK, f"{free:.0f} MiB free")


def ros() -> Iterator[Finding]:
    """Whether nodes can start: rclpy, messages, middleware, domain."""
    ended = ask(["-c", _ROS], limit_s=ROS_S)
    distro = os.environ.get("ROS_DISTRO", "")
    if ended.code != 0 or not ended.said:
        yield _no_ros(ended, distro)
        return
    said = ended.said[-1]
    yield Finding("ros", OK, f"{distro or _from_pip()}, {said['rmw']}")
    if said.get("missing"):
        fix = f"sudo apt-get install ros-{distro or 'DISTRO'}-vision-msgs, and source ROS again"
        yield Finding("ros messages", FAIL, f"missing: {', '.join(said['missing'])}", fix)
    yield _domain(os.environ.get("ROS_DOMAIN_ID", ""))
    profiles = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    if "fastrtps" in said["rmw"] and not any(os.environ.get(p) for p in profiles):
        fix = f"export {profiles[0]}=$(ros2 pkg prefix robollm)/share/robollm/config/fastdds.xml"
        yield Finding("ros transport", WARN, "large images go through in pieces", fix)


def _memory(total: float) -> Finding:
    limit = memory_limit()
    room = min(total, limit) if limit else total
    text = f"{total:.0f} GiB" + (
        f", of which a container may use {limit:.1f}" if room < total else ""
    )
    if room < MEMORY_GIB:
        fix = f"give it {MEMORY_GIB} GiB: a BEiT-3-Base bundle and a gallery need about three"
        return Finding("memory", WARN, text, fix)
    return Finding("memory", OK, text)


def _disk(part: str, folder: Path) -> Finding:
    try:
        free = shutil.disk_usage(folder).free / GIB
    except OSError as e:
        return Finding(part, FAIL, f"{folder}: {e.strerror}", "go to a folder that exists")
    text = f"{free:.1f} GiB free"
    if free < DISK_GIB:
        return Finding(part, WARN, text, "make room, or set TMPDIR to a larger disk")
    return Finding(part, OK, text)


def _no_ros(ended: Ended, distro: str) -> Finding:
    if distro or "No module named 'rclpy'" not in ended.why:
        where = f"ROS 2 {distro} is sourced, but" if distro else "rclpy is installed, but"
        fix = "use the Python that this ROS was built for, and source its setup.bash in this shell"
        return Finding("ros", FAIL, f"{where} rclpy can't be imported: {ended.why}", fix)
    fix = "source /opt/ros/DISTRO/setup.bash; without ROS only the program robollm runs"
    return Finding("ros", NONE, "no rclpy: nodes can't run here", fix)


def _from_pip() -> str:
    """Which distribution, where no setup.bash says it."""
    for found in metadata.distributions():
        name = re.fullmatch(r"ros-([a-z]+)-rclpy", (found.name or "").lower().replace("_", "-"))
        if name and name[1] != "ros":
            return f"{name[1]} from pip"
    return "distribution not known"


def _domain(text: str) -> Finding:
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") or "SUBNET"
    if text and not text.isdigit():
        return Finding("ros domain", FAIL, f"ROS_DOMAIN_ID is {text!r}", "set it to 0 ... 101")
    if text and int(text) > HIGHEST_DOMAIN:
        fix = "set ROS_DOMAIN_ID to 0 ... 101"
        return Finding("ros domain", WARN, f"{text}: its ports may be taken by others", fix)
    return Finding("ros domain", OK, f"{text or '0, the default'}, discovery {reach.lower()}")
