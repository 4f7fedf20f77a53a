"""A split's pickle is somebody else's file: it may neither run code nor take the memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import OrderedDict

import pytest

from robollm.core.errors import ConfigError
from robollm.data import plain_pickle
from robollm.data.plain_pickle import read_plain

LIMITED = r"""
import re, resource, sys
from pathlib import Path
from robollm.core.errors import ConfigError
from robollm.data.plain_pickle import read_plain
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
try:
    read_plain(Path(sys.argv[1]))
except ConfigError as e:
    # Not getrusage: its peak is never below that of the process that started this one.
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024
    print(e, f"peak {peak} MB", sep="\n")
"""
BOMBS = {
    "long_binput": b"\x80\x02]r\xff\xff\xff\x7f.",
    "put": b"(lp99999999\n.",
    "bytearray8": b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",
    "binunicode8": b"\x80\x04\x8d" + (1 << 40).to_bytes(8, "little") + b".",
    "frame": b"\x80\x04\x95" + (1 << 40).to_bytes(8, "little") + b"].",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_few_bytes_that_ask_for_gigabytes_are_refused(tmp_path, bomb):
    file = tmp_path / "split.pickle"
    file.write_bytes(BOMBS[bomb])
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    what, fix, peak = done.stdout.splitlines()
    assert what.startswith(str(file))
    assert fix == "  fix: fetch it again"
    assert int(peak.split()[1]) < 500


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_of_any_protocol_come_back(tmp_path, protocol):
    ids = [f"pick{i:06}" for i in range(2000)]
    value = {"train": ids, "test": {*ids[:3]}, "n": (1, 2.5, None, True), "o": OrderedDict(a=ids)}
    file = tmp_path / "split.pickle"
    file.write_bytes(pickle.dumps(value, protocol))
    assert read_plain(file) == value


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    file = tmp_path / "split.pickle"
    file.write_bytes(pickle.dumps(["x" * 100]))
    monkeypatch.setattr(plain_pickle, "MOST_BYTES", 64)
    with pytest.raises(ConfigError, match=r"has \d+ bytes, want at most 64"):
        read_plain(file)
