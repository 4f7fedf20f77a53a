"""What all tests share: a tiny bundle, a demo station, and a ROS graph of this process' own."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from robollm.runtime.perceiver import Perceiver
    from robollm.sim.demo_bag import DemoFiles

# A busy machine must not fail a property.
settings.register_profile(
    "robollm", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("robollm")

DOMAINS = range(1, 101)  # above 101 DDS ports meet Linux' ephemeral ones; 0 is everybody's
TOTE_HW, CROP_HW = (192, 240), (96, 96)


def _take_domain() -> tuple[int, int]:
    """A ROS domain id that no other test process of this machine has, and the lock's descriptor.

    The lock is the kernel's: it goes with the process, however that ends.
    """
    folder = Path(tempfile.gettempdir()) / f"robollm-test-domains-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    first = os.getpid() % len(DOMAINS)
    for domain in (*DOMAINS[first:], *DOMAINS[:first]):
        lock = os.open(folder / str(domain), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return domain, lock
    raise RuntimeError("all ROS domains are taken by other test processes of this machine")


def _own_ros() -> None:
    """Set this process' ROS environment. rclpy reads it once, so before anybody imports it."""
    assert "rclpy" not in sys.modules, "rclpy was imported before test/conftest.py"
    domain, _ = _take_domain()
    logs = tempfile.mkdtemp(prefix="robollm-test-ros-log-")
    atexit.register(shutil.rmtree, logs, ignore_errors=True)
    os.environ.update(
        FASTDDS_BUILTIN_TRANSPORTS="LARGE_DATA",
        ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
        ROS_PYTHON_CHECK_FIELDS="1",
        ROS_LOG_DIR=logs,
        ROS_DOMAIN_ID=str(domain),
    )
    os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)


_own_ros()
# A shell that runs the tests in the background ignores Ctrl-C on their behalf, and so would all
# that they start: then what Ctrl-C does can't be tested.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def ros_env() -> dict[str, str]:
    """The environment for a child process that talks to this process' ROS graph: a copy."""
    return dict(os.environ)


@pytest.fixture(scope="session")
def sketch_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle folder with tiny random models; read only, copy it to change it."""
    from robollm.export.sketch import SketchSize, write_sketch_bundle

    size = SketchSize(dim=32, depth=2, heads=2, embedding=16, channels=16)
    out = tmp_path_factory.mktemp("sketch") / "bundle"
    return write_sketch_bundle(out, size=size, tote_hw=TOTE_HW, crop_hw=CROP_HW)


@pytest.fixture(scope="session")
def perceiver(sketch_bundle: Path) -> Perceiver:
    """The sketch bundle, loaded. Its cache and its counters are shared by all tests."""
    from robollm.core.settings import RuntimeConfig
    from robollm.runtime.perceiver import Perceiver

    return Perceiver(RuntimeConfig(bundle=str(sketch_bundle), threads=1, allow_untrained=True))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    """The demo's bag, manifest, references and truth; read only."""
    from robollm.sim.demo_bag import write_demo

    return write_demo(tmp_path_factory.mktemp("demo"), picks=6, tote_hw=(480, 640))


@pytest.fixture(scope="session")
def demo_station(
    tmp_path_factory: pytest.TempPathFactory,
    sketch_bundle: Path,
    perceiver: Perceiver,
    demo: DemoFiles,
) -> Path:
    """A folder as a user has it: bundle/, manifest.json and gallery/ beside it; read only."""
    from robollm.runtime.enroll import enroll

    folder = tmp_path_factory.mktemp("station")
    shutil.copytree(sketch_bundle, folder / "bundle")
    shutil.copy(demo.manifest, folder / "manifest.json")
    enroll(perceiver, demo.references, folder / "gallery")
    return folder


@dataclass(frozen=True)
class Said:
    """What a shell sees of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def robollm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Call `robollm WORD ...` in this process, through the installed program's entry."""
    from robollm.cli.main import main

    def call(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["robollm", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as e:
            main()
        text = capsys.readouterr()
        return Said(int(e.value.code or 0), text.out, text.err)

    return call
