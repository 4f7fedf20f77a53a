"""When messages are due, and reading ahead: no ROS."""

import threading
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robollm.core.errors import BagError
from robollm.data.bag import Message
from robollm.nodes.play_schedule import (
    LONGEST_S,
    SHORTEST_S,
    TOLERANCE,
    ReadAhead,
    Schedule,
    Tally,
)

T = 1_760_000_000_000_000_000


def message(k, size=10):
    return Message("/s", "std_msgs/msg/String", T + k, bytes(size))


@given(
    seconds=st.floats(0, 1e5), rate=st.floats(0.01, 100), start=st.floats(0, 1e6),
)  # fmt: skip
def test_bag_time_and_due_time_are_inverse(seconds, rate, start):
    line = Schedule(start, T, rate)
    bag_ns = T + round(seconds * 1e9)
    assert line.due_s(bag_ns) == pytest.approx(start + seconds / rate, abs=1e-3)
    assert abs(line.bag_ns(line.due_s(bag_ns)) - bag_ns) <= 1e6 * max(1, rate)


def test_due_times_do_not_drift_over_an_hour():
    line = Schedule(100.0, T, 1.0)
    assert line.due_s(T + 3_600_000_000_000) == 3700.0
    assert line.due_s(T + 33_333_333) == pytest.approx(100.033333333, abs=1e-9)


def test_twice_the_rate_is_half_the_time():
    assert Schedule(0.0, T, 2.0).due_s(T + 10**9) == 0.5


def test_bag_time_never_comes_before_the_first_message():
    assert Schedule(10.0, T, 1.0).bag_ns(9.0) == T


def test_a_tally_counts_topics_and_ranks_lateness():
    tally = Tally()
    for k in range(100):
        tally.add("/a" if k % 4 else "/b", k / 1000)
    tally.add("/b", -1.0)
    summary = tally.summary()
    assert summary["messages"] == 101
    assert summary["topics"] == {"/a": 75, "/b": 26}
    late = summary["lateness_ms"]
    assert late["p50"] == pytest.approx(49.0, rel=TOLERANCE)
    assert late["p95"] == pytest.approx(94.0, rel=TOLERANCE)
    assert late["max"] == 99.0


@given(st.lists(st.one_of(st.floats(-1, 10), st.floats(0, 1e-4), st.floats(0, 1e5)), min_size=1))
def test_percentiles_are_those_of_a_sorted_list_within_the_tolerance(late_s):
    tally = Tally()
    for s in late_s:
        tally.add("/a", s)
    found, slow = tally.summary(), sorted(max(0.0, s) for s in late_s)
    assert found["messages"] == len(slow)
    assert found["lateness_ms"]["max"] == round(1e3 * slow[-1], 3)
    for name, share in (("p50", 0.50), ("p95", 0.95)):
        exact = slow[min(len(slow) - 1, int(share * len(slow)))]
        if exact < LONGEST_S:
            near = pytest.approx(1e3 * exact, rel=TOLERANCE, abs=1.5e3 * SHORTEST_S)
            assert found["lateness_ms"][name] == near
        else:
            assert found["lateness_ms"][name] >= LONGEST_S * 1e3 * (1 - TOLERANCE)
        assert found["lateness_ms"][name] <= found["lateness_ms"]["max"]


def test_a_tally_does_not_grow_with_the_messages():
    tally = Tally()

    def add(n):
        for k in range(n):
            tally.add("/a", (k % 977) * 1e-5)

    add(1000)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        add(100_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1000, "bytes for a hundred thousand messages"
    assert tally.summary()["messages"] == 101_000


def test_an_empty_tally_has_no_lateness():
    assert Tally().summary()["lateness_ms"] == {"p50": None, "p95": None, "max": None}


def test_messages_come_in_order_and_then_the_end():
    ahead = ReadAhead(message(k) for k in range(50))
    got = []
    while not ahead.ended:
        m = ahead.get(1.0)
        if m is not None:
            got.append(m.log_ns - T)
    ahead.close()
    assert got == list(range(50))
    assert ahead.get(0.0) is None


def test_reading_stops_while_enough_waits():
    read = []

    def source():
        for k in range(100):
            read.append(k)
            yield message(k, size=1000)

    def stops_at(n):
        end = time.monotonic() + 20
        while len(read) < n:
            assert time.monotonic() < end, read
            time.sleep(0.001)
        time.sleep(0.1)  # what it must not do, it would do at once
        assert len(read) <= n + 2

    ahead = ReadAhead(source(), max_bytes=5000)
    stops_at(5)
    for _ in range(10):
        assert ahead.get(20.0)
    stops_at(15)
    ahead.close()


def test_a_message_larger_than_the_limit_still_fits():
    ahead = ReadAhead((message(k, size=100) for k in range(3)), max_bytes=10)
    assert [ahead.get(1.0).log_ns - T for _ in range(3)] == [0, 1, 2]
    ahead.close()


def test_an_error_comes_after_the_messages_before_it():
    def source():
        yield message(0)
        raise BagError("the disk is gone")

    ahead = ReadAhead(source())
    assert ahead.get(1.0) == message(0)
    with pytest.raises(BagError, match="the disk is gone"):
        ahead.get(1.0)
    assert not ahead.ended
    ahead.close()


def test_a_slow_source_lets_the_consumer_go_on():
    go = threading.Event()

    def source():
        go.wait(5.0)
        yield message(0)

    ahead = ReadAhead(source())
    assert ahead.get(0.01) is None
    assert not ahead.ended
    go.set()
    assert ahead.get(5.0) == message(0)
    ahead.close()


def test_closing_early_ends_the_thread():
    ahead = ReadAhead((message(k, 1000) for k in range(10**6)), max_bytes=2000)
    ahead.get(1.0)
    ahead.close()
    ahead.close()
    assert not [t for t in threading.enumerate() if t.name == "read-ahead"]
