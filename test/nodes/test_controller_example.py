"""The README's controller, run as it stands."""

from __future__ import annotations

import re
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


def test_the_example_controller_hears_the_verdicts(cell, tmp_path):
    remap = ["--ros-args", "-r", f"/robollm/defects:={cell.namespace}/defects"]
    said = tmp_path / "controller.txt"
    with said.open("wb") as out:
        controller = subprocess.Popen([sys.executable, "-u", str(EXAMPLE), *remap], stdout=out)
    try:
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
    finally:
        controller.send_signal(signal.SIGINT)
        controller.wait(40)  # on a busy machine rclpy's own shutdown takes its time
