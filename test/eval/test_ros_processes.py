"""ROS programs as processes: none outlives the one that started it. No ROS needed."""

import os
import select
import subprocess
import sys
from contextlib import suppress

import pytest

START_AND_DIE = """
import os, pathlib, signal, sys
from robollm.eval.ros_processes import Child
log = pathlib.Path(sys.argv[1])
print(Child("eval_recorder", ["no_bag"], os.environ, log).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for a signal at the end")
def test_a_program_whose_parent_died_before_it_ran_ends_at_once(tmp_path):
    log = tmp_path / "log"
    words = [sys.executable, "-c", START_AND_DIE, str(log)]
    started = subprocess.run(words, stdout=subprocess.PIPE, check=False)
    assert started.returncode == -9
    with suppress(ProcessLookupError):  # it has ended already
        held = os.pidfd_open(int(started.stdout))
        try:
            assert select.select([held], [], [], 30)[0]
        finally:
            os.close(held)
    assert log.read_text() == ""  # or it would have missed its bag
