"""The launch file under the real launch and launch_ros, and the stand-in beside them.

Skipped where they can't be imported: no registry has them, they come with an installed ROS 2.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from launched import LAUNCH_FILE, ROOT, Listener, Processes, describe, end

from robollm.sim.demo_bag import DemoFiles

# Not `launch`: that is also this folder, and an unrelated package on PyPI.
pytest.importorskip("launch_ros.actions", reason="launch_ros is not installed: no real launch")
pytestmark = pytest.mark.timeout(180)

LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

arguments = [tuple(a.split(":=", 1)) for a in sys.argv[2:]]
source = PythonLaunchDescriptionSource(sys.argv[1])
service = LaunchService(argv=sys.argv[2:])
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""
CASES: dict[str, dict[str, str]] = {
    "nothing": {},
    "station": {"bundle": "/data/bundle", "manifest": "/data/m.json", "overlay": "false"},
    "cell": {
        "namespace": "/line2/cell1",
        "image": "/camera/image_raw",
        "views": "['on_arm_low', 'tote_wall=/cam2/image_raw']",
        "params_file": str(ROOT / "config" / "demo.yaml"),
        "log_level": "warn",
    },
    "recording": {"bag": "/data/it's a bag", "rate": "2.5", "bundle": "123"},
    "topics": {"bag": "/data/bag", "topics": "['/robollm/image', '/it is/mine']"},
}


def command(arguments: dict[str, str]) -> list[str]:
    """What runs the real launch with these arguments."""
    return [
        *(sys.executable, "-c", LAUNCH, str(LAUNCH_FILE)),
        *(f"{name}:={value}" for name, value in arguments.items()),
    ]


def launch(arguments: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the real launch until all its processes have ended."""
    return subprocess.run(
        command(arguments), capture_output=True, text=True, timeout=60, check=False
    )


def comparable(words: list[str]) -> list[str]:
    """A command with the names of temporary parameter files replaced by what is in them."""
    return [Path(w).read_text() if Path(w).name.startswith("robollm_launch_") else w for w in words]


@pytest.mark.parametrize("case", CASES)
def test_the_stand_in_describes_what_the_real_launch_runs(case: str, recorded: Path) -> None:
    done = launch(CASES[case])
    assert done.returncode == 0, done.stdout + done.stderr
    expected = describe(**CASES[case]).nodes
    for node in expected:
        *words, end_mark = (recorded / f"{node.executable}.argv").read_text().split("\0")
        assert end_mark == ""
        assert comparable(words) == comparable(node.command)
        variables = (recorded / f"{node.executable}.env").read_text().split("\0")
        assert f"FASTDDS_BUILTIN_TRANSPORTS={os.environ['FASTDDS_BUILTIN_TRANSPORTS']}" in variables
    assert {p.stem for p in recorded.glob("*.argv")} == {n.executable for n in expected}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"params_file": "/nowhere.yaml"}, "no such file"),
        ({"views": "on_arm_low"}, "want a list of strings"),
        ({"overlay": "maybe"}, "overlay"),
    ],
)
def test_the_real_launch_refuses_what_the_stand_in_refuses(
    arguments: dict[str, str], words: str, recorded: Path
) -> None:
    done = launch(arguments)
    assert done.returncode != 0
    assert words in done.stdout + done.stderr
    assert list(recorded.glob("*.argv")) == []


def test_the_real_launch_warns_of_a_misspelt_argument(recorded: Path) -> None:
    done = launch({"bundel": "/data/bundle"})
    assert done.returncode == 0
    assert "did you mean 'bundle'" in done.stdout + done.stderr


@pytest.mark.usefixtures("installed")
def test_the_real_launch_brings_verdicts_and_ends_cleanly(
    tmp_path: Path, demo: DemoFiles, demo_station: Path
) -> None:
    from vision_msgs.msg import Detection2DArray

    untrained = tmp_path / "untrained.yaml"
    untrained.write_text("/**:\n  ros__parameters:\n    allow_untrained: true\n")
    arguments = {
        "params_file": str(untrained),
        "bundle": str(demo_station / "bundle"),
        "manifest": str(demo_station / "manifest.json"),
        "bag": str(demo.bag),
    }
    with Listener("/robollm/defects", Detection2DArray) as verdicts, Processes(tmp_path) as all_:
        launched = all_.start(command(arguments), dict(os.environ))
        for number in range(1, 7):
            answer = f"defect_node]: pick pick-{number:04d}: "
            verdicts.until(lambda a=answer: a in all_.output(launched), launched)
        assert verdicts.got  # perhaps not all: nodes and recording start at once, before we met
        verdicts.until(
            lambda: "bag_player-2]: process has finished" in all_.output(launched), launched
        )
        end(launched)
        said = all_.output(launched)
    assert "[perception-1]: process has finished cleanly" in said
    assert "process has died" not in said
