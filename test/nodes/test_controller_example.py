"""The README's controller, run as it stands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rclpy
from cell import pick
from vision_msgs.msg import Detection2DArray

from robollm.core.defects import Verdict
from robollm.core.picks import Pick
from robollm.nodes import messages, qos

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "controller.py"


def test_the_readme_shows_the_example_that_is_tested_here():
    code = EXAMPLE.read_text()
    assert code.partition("import rclpy")[2] in (ROOT / "README.md").read_text()
    lines = [line for line in code.partition('"""\n')[2].splitlines() if line.strip()]
    assert len(lines) <= 15


@pytest.fixture
def controller(tmp_path):
    """Start the example on a topic; returns the file that it writes to."""
    said, running = tmp_path / "controller.txt", []

    def start(topic):
        command = [sys.executable, "-u", str(EXAMPLE)]
        with said.open("wb") as out:
            remap = ["--ros-args", "-r", f"/robollm/defects:={topic}"]
            running.append(subprocess.Popen([*command, *remap], stdout=out))
        return said

    yield start
    for process in running:
        process.send_signal(signal.SIGINT)
        process.wait(40)  # on a busy machine rclpy's own shutdown takes its time


def test_the_example_controller_hears_the_verdicts(cell, controller):
    said = controller(f"{cell.namespace}/defects")
    t = cell.tote()
    # A verdict isn't kept for late subscribers, and nobody outside the two processes can see
    # when they have found each other: so there is a pick until one is heard.
    for i in range(60):
        cell.pick_pub.publish(pick(f"unseen-{i}", t))
        cell.verdict(f"unseen-{i}")
        if cell.until(said.read_text, 1):
            break
    line = said.read_text().splitlines()[0]
    assert re.fullmatch(r"unseen-\d+: set aside \(uninspected\)", line)


def test_the_example_controller_places_what_is_nominal_first_and_nothing_else(controller):
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        node = rclpy.create_node("verdicts", context=context)
        topic = f"/by_hand{os.getpid()}/defects"
        pub = node.create_publisher(Detection2DArray, topic, qos.RESULTS)
        said = controller(topic)
        for i in range(600):  # until they have found each other, see above
            for name, (first, second) in {
                f"good-{i}": ("nominal", "multi_pick"),
                f"bad-{i}": ("multi_pick", "nominal"),
            }.items():
                verdict = Verdict(((first, 0.7), (second, 0.3)), ("low",), ())
                pub.publish(messages.verdict(Pick(name, 1, "cam", (0, 0, 1, 1)), verdict))
            if "bad" in said.read_text():
                break
            time.sleep(0.1)
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    lines = said.read_text().splitlines()
    good = [line for line in lines if line.startswith("good")]
    bad = [line for line in lines if line.startswith("bad")]
    assert good
    assert all(re.fullmatch(r"good-\d+: place \(nominal\)", line) for line in good)
    assert all(re.fullmatch(r"bad-\d+: set aside \(multi_pick\)", line) for line in bad)
