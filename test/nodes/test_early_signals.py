"""Ctrl-C while a program still imports, or loads its models: it ends well, without a traceback.

When the signal comes is not a matter of luck: the process is watched until it has come so far.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robollm.data.bag import BagWriter

NODES = ("segmentation_node", "identification_node", "defect_node")
LIBRARIES = {"numpy": "_multiarray_umath", "rclpy": "_rclpy_pybind11", "models": "onnxruntime"}
FAR = 60.0
POINTS = [
    *(("perception", point) for point in ("handlers", *LIBRARIES)),
    *((node, point) for node in NODES for point in ("handlers", "rclpy")),
    *(("bag_player", point) for point in ("handlers", "rclpy")),
    *(("eval_replay", point) for point in ("handlers", "numpy", "rclpy")),
    *(("verdict_monitor", point) for point in ("handlers", "numpy", "rclpy")),
]
MODULES = {"eval_replay": "eval_recorder"}


def catches(pid: int, number: int) -> bool:
    """True once the process has a handler for a signal. Python sets none for SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def reached(pid: int, point: str) -> bool:
    if point == "handlers":
        return catches(pid, signal.SIGTERM)
    return LIBRARIES[point] in Path(f"/proc/{pid}/maps").read_text()


@pytest.fixture(scope="module")
def words(sketch_bundle, tmp_path_factory):
    """What each program is called with."""
    folder = tmp_path_factory.mktemp("early")
    with BagWriter(folder / "bag") as bag:
        bag.string("/robollm/container", "tote-A", 10**18)
    node = ["--ros-args", "-r", "__ns:=/early", "-p", f"bundle:={sketch_bundle}",
            "-p", "allow_untrained:=true"]  # fmt: skip
    return {
        **dict.fromkeys(("perception", *NODES), node),
        "bag_player": [str(folder / "bag"), "--wait", "60"],
        "eval_replay": [str(folder / "bag")],
        "verdict_monitor": ["--out", str(folder / "verdicts")],
    }


@pytest.mark.parametrize(("program", "point"), POINTS)
def test_ctrl_c_at_any_point_of_the_start_ends_well(program, point, words, ros_env):
    module = MODULES.get(program, program)
    process = subprocess.Popen(
        [sys.executable, "-c",
         f"import sys; from robollm.nodes.{module} import main; sys.exit(main())", *words[program]],
        env=ros_env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + FAR
        while not reached(process.pid, point):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.001)
        assert catches(process.pid, signal.SIGTERM), "handlers come before the long imports"
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=FAR)
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in said
    assert process.returncode == (130 if program == "eval_replay" else 0), said
