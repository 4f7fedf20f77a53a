"""What a killed writer left goes with the next one; what a living one has stays."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from robollm.core.errors import BagError
from robollm.data.bag import BagReader, BagWriter
from robollm.data.part_folder import PartFolder

T = 1_760_000_000_000_000_000
WRITER = """
import sys, time
from robollm.data.bag import BagWriter
with BagWriter(sys.argv[1]) as bag:
    bag.string("/a", "b", 1)
    print("ready", flush=True)
    time.sleep(60)
"""


def parts(folder):
    return sorted(p.name for p in folder.glob(".*.part"))


def test_the_next_writer_sweeps_what_a_killed_one_left_and_nothing_else(tmp_path):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "bag"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout.readline() == "ready\n"
        (alive,) = parts(tmp_path)
        (tmp_path / ".bag.of_mine.parts").mkdir()
        (tmp_path / ".other.12345678.part").mkdir()
        with BagWriter(tmp_path / "bag2") as bag:
            bag.string("/a", "b", T)
        assert alive in parts(tmp_path)
        with pytest.raises(BagError, match="no message"), BagWriter(tmp_path / "bag"):
            assert {alive} < set(parts(tmp_path))  # a living one's stays
        assert alive in parts(tmp_path)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    with BagWriter(tmp_path / "bag") as bag:
        assert alive not in parts(tmp_path)
        bag.string("/a", "b", T)
    assert parts(tmp_path) == [".other.12345678.part"]
    with BagReader(tmp_path / "bag") as bag:
        assert [t.count for t in bag.topics] == [1]


def test_a_part_is_held_until_it_is_removed(tmp_path):
    one, two = PartFolder(tmp_path / "b[a]g"), PartFolder(tmp_path / "b[a]g")
    assert one.path.is_dir()
    assert two.path.is_dir()
    one.remove()
    one.remove()
    assert parts(tmp_path) == [two.path.name]
    two.remove()
