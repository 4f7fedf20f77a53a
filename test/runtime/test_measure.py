"""Timing, on a clock that the test moves."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robollm.runtime import measure
from robollm.runtime.measure import (
    Job,
    Times,
    conditions,
    fixed,
    interleave,
    ratios,
    resident_mib,
    table,
)


class HandClock:
    """Stands still until somebody works."""

    def __init__(self) -> None:
        self.now = self.spent = 0.0

    def wall(self) -> float:
        return self.now

    def cpu(self) -> float:
        return self.spent

    def work(self, seconds: float, threads: float = 1) -> None:
        self.now += seconds
        self.spent += seconds * threads


def test_cases_take_turns_and_every_second_round_is_reversed() -> None:
    clock, seen = HandClock(), ""

    def case(name: str) -> Job:
        def run(_turn: int) -> None:
            nonlocal seen
            seen += name
            clock.work(1.0)

        return run

    cases = {name: case(name) for name in "abc"}
    times = interleave(cases, rounds=3, warm_up=2, clock=clock)
    assert seen == "aabbcc" + "abc" + "cba" + "abc"
    assert {n: t.wall for n, t in times.items()} == {n: [1.0] * 3 for n in "abc"}


def test_a_short_case_settles_before_each_timed_run_and_a_long_one_does_not() -> None:
    clock, calls = HandClock(), {"short": 0, "long": 0}

    def case(name: str, seconds: float) -> None:
        calls[name] += 1
        clock.work(seconds)

    cases = {"short": fixed(lambda: case("short", 0.01)), "long": fixed(lambda: case("long", 1.0))}
    times = interleave(cases, rounds=4, warm_up=1, clock=clock)
    assert calls == {"short": 1 + 2 * 4, "long": 1 + 4}
    assert len(times["short"].wall) == 4


def test_all_cases_of_a_round_see_the_same_input_however_often_they_run() -> None:
    clock = HandClock()
    seen: dict[str, list[int]] = {"short": [], "long": []}

    def case(name: str, seconds: float) -> Job:
        def run(turn: int) -> None:
            seen[name].append(turn)
            clock.work(seconds)

        return run

    cases = {"short": case("short", 0.01), "long": case("long", 1.0)}
    interleave(cases, rounds=3, warm_up=2, clock=clock)
    assert seen["long"] == [-2, -1, 0, 1, 2]
    assert seen["short"] == [-2, -1, 0, 0, 1, 1, 2, 2]


def test_processor_time_counts_all_threads() -> None:
    clock = HandClock()
    cases = {"two": fixed(lambda: clock.work(0.5, threads=2))}
    times = interleave(cases, rounds=1, clock=clock)
    assert (times["two"].wall, times["two"].cpu) == ([0.5], [1.0])


def test_a_row_has_the_percentiles_that_numpy_computes() -> None:
    wall = list(np.random.default_rng(3).uniform(0.01, 0.09, 41))
    row = Times(wall, [2 * w for w in wall]).row()
    p50, p95, p99 = np.percentile(wall, (50, 95, 99)) * 1e3
    assert row["runs"] == 41
    got = (row["p50_ms"], row["p95_ms"], row["p99_ms"], row["cpu_ms"])
    assert got == pytest.approx((p50, p95, p99, 2 * p50), rel=5e-3)


def test_a_ratio_is_taken_within_a_round_so_that_load_leaves_it_alone() -> None:
    load = np.array([1.0, 1.0, 5.0, 9.0, 3.0])
    slow, fast = Times(list(0.8 * load), [0.8] * 5), Times(list(0.2 * load), [0.4] * 5)
    times = {"slow": slow, "fast": fast}
    assert ratios(times, "slow") == {"slow": 1.0, "fast": 4.0}
    rows = table(times, "slow")
    assert (rows["fast"]["ratio"], rows["fast"]["cpu_ratio"]) == (4.0, 2.0)


def test_a_case_that_fails_stops_the_measurement() -> None:
    def broken() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        interleave({"a": fixed(broken)}, rounds=1)


def test_memory_is_read_from_the_status_file(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nGroups:\t\nVmHWM:\t  4096 kB\nVmRSS:\t  2048 kB\n")
    assert resident_mib(status) == (2.0, 4.0)
    assert all(math.isnan(v) for v in resident_mib(tmp_path / "none"))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc")
def test_the_peak_begins_anew_when_it_is_forgotten() -> None:
    code = (
        "from robollm.runtime.measure import *\n"
        "b = bytearray(b'1' * (64 << 20)); del b\n"
        "before = resident_mib()[1]; ok = forget_peak(); now, peak = resident_mib()\n"
        "print(int(not ok or (peak < before - 32 and peak >= now - 1)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_files_are_whole_after_they_were_dropped_from_the_cache(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(b"x" * 9999)
    assert measure.forget_files(tmp_path) == hasattr(os, "posix_fadvise")
    assert (tmp_path / "in" / "file").read_bytes() == b"x" * 9999


def test_the_record_of_the_machine_names_no_host_and_no_folder() -> None:
    with conditions(("numpy", "no-such-package"), threads=2) as record:
        pass
    text = json.dumps(record)
    assert os.uname().nodename not in text
    assert str(Path.home()) not in text
    assert record["packages"] == {"numpy": np.__version__}
    assert record["cores"] >= 1
    assert set(record["flags"]) <= set(measure.FLAGS)
    assert record["threads"] == 2
    assert {"load_before", "load_after", "seconds", "others_cores"} <= set(record)


def test_results_that_were_written_leave_the_commit_clean_and_code_does_not(tmp_path: Path) -> None:
    who = ("-c", "user.name=x", "-c", "user.email=x@y")

    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    (tmp_path / "results").mkdir()
    for name in ("results/a.json", "code.py"):
        (tmp_path / name).write_text("1")
    assert measure._commit(tmp_path) == {}
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "first")):
        git(*words)
    clean = {"commit": git("rev-parse", "--short", "HEAD")}
    assert measure._commit(tmp_path) == clean
    (tmp_path / "results" / "a.json").write_text("2")
    assert measure._commit(tmp_path) == clean
    (tmp_path / "code.py").write_text("2")
    assert measure._commit(tmp_path) == {"commit": clean["commit"] + "-dirty"}


def test_the_load_is_recorded_even_if_the_block_fails() -> None:
    with pytest.raises(RuntimeError), conditions(()) as record:
        raise RuntimeError
    assert record["others_cores"] >= 0
