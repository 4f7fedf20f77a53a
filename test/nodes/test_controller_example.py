"""The README's controller, run as it stands."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from cell import pick

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "controller.py"


def test_the_readme_shows_the_example_that_is_tested_here():
    code = EXAMPLE.read_text()
    assert code.partition("import rclpy")[2] in (ROOT / "README.md").read_text()
    lines = [line for line in code.partition('"""\n')[2].splitlines() if line.strip()]
    assert len(lines) <= 15


def test_the_example_controller_hears_the_verdicts(cell):
    remap = ["--ros-args", "-r", f"/robollm/defects:={cell.namespace}/defects"]
    count = len(cell.node.get_subscriptions_info_by_topic(f"{cell.namespace}/defects"))
    controller = subprocess.Popen(
        [sys.executable, "-u", str(EXAMPLE), *remap], stdout=subprocess.PIPE, text=True
    )
    try:
        topic = f"{cell.namespace}/defects"
        assert cell.until(
            lambda: len(cell.node.get_subscriptions_info_by_topic(topic)) == count + 1, 30
        )
        t = cell.tote()
        cell.pick_pub.publish(pick("unseen", t))
        cell.verdict("unseen")
        assert controller.stdout.readline() == "unseen: set aside (uninspected)\n"
    finally:
        controller.send_signal(signal.SIGINT)
        controller.wait(20)
        controller.stdout.close()
