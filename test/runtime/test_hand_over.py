"""The small machines between a camera and a result: mailbox, arrival, history, timing."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robollm.core.errors import FrameError
from robollm.core.frame import Frame
from robollm.runtime.arrival import Arrival
from robollm.runtime.history import FrameHistory
from robollm.runtime.mailbox import Mailbox
from robollm.runtime.timing import WINDOW, Laps, Percentiles, Stats

LONG = 30.0  # seconds that no test waits for


# mailbox


def test_the_newest_frame_wins_and_the_others_are_counted():
    box = Mailbox()
    for i in range(5):
        box.put(i)
    assert (box.get(0), box.dropped) == (4, 4)
    assert box.get(0) is None


@given(items=st.lists(st.tuples(st.sampled_from(["frame", "pick", "take"]), st.integers(0, 99))))
def test_picks_are_never_dropped_and_come_first_in_their_order(items):
    box, picks, newest, dropped = Mailbox(), [], None, 0
    for kind, n in items:
        if kind == "frame":
            dropped += newest is not None
            newest = ("frame", n)
            box.put(newest)
        elif kind == "pick":
            picks.append(("pick", n))
            box.keep(picks[-1])
        else:
            want = picks.pop(0) if picks else newest
            newest = newest if want and want[0] == "pick" else None
            assert box.get(0) == want
        assert (box.waiting, box.dropped) == (len(picks), dropped)


def test_closing_drops_the_frame_and_keeps_the_picks():
    box = Mailbox()
    box.put("frame")
    box.keep("pick")
    box.close()
    box.close()
    assert box.closed
    assert box.get(LONG) == "pick"
    assert box.get(LONG) is None, "closed: nobody waits"


@pytest.mark.parametrize("wake", ["put", "keep", "close"])
def test_a_waiting_consumer_wakes_up_at_once(wake):
    box = Mailbox()
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(box.get, LONG)
        box.close() if wake == "close" else getattr(box, wake)("item")
        assert result.result(LONG / 2) == (None if wake == "close" else "item")


def test_every_pick_of_several_threads_is_taken_exactly_once():
    box, taken = Mailbox(), []

    def consume():
        while (item := box.get(LONG)) is not None:
            taken.append(item)

    with ThreadPoolExecutor(4) as pool:
        consumers = [pool.submit(consume) for _ in range(2)]
        list(pool.map(lambda k: [box.keep((k, i)) for i in range(200)], range(2)))
        box.close()
        for c in consumers:
            c.result(LONG)
    assert sorted(taken) == [(k, i) for k in range(2) for i in range(200)]


# arrival


def frame(stamp=1):
    return Frame(np.zeros((2, 2, 3), np.uint8), "rgb", stamp)


def test_an_arrival_is_decoded_once_whoever_asks():
    calls, gate = [], threading.Barrier(4)

    def decode():
        calls.append(threading.get_ident())
        return frame()

    arrival = Arrival(1, decode)

    def ask(_):
        gate.wait(LONG)
        return arrival.frame()

    with ThreadPoolExecutor(4) as pool:
        frames = list(pool.map(ask, range(4)))
    assert len(calls) == 1
    assert all(f is frames[0] for f in frames)


def test_an_arrival_that_nobody_asks_for_is_not_decoded():
    assert Arrival(7, lambda: pytest.fail("decoded")).stamp_ns == 7


def test_a_decoding_error_reaches_everybody_who_asks():
    def decode():
        raise FrameError("half a JPEG", kind="bad_jpeg")

    arrival = Arrival(1, decode)
    for _ in range(2):
        with pytest.raises(FrameError, match="half a JPEG"):
            arrival.frame()


# history


def arrivals(*stamps):
    return [Arrival(s, lambda: pytest.fail("decoded")) for s in stamps]


def kept(history, stamps):
    return [s for s in stamps if history.get(s)]


def test_the_oldest_frame_that_nobody_segmented_goes_first():
    history = FrameHistory(3)
    for a in arrivals(1, 2, 3):
        history.add(a)
        if a.stamp_ns == 1:
            history.mark_used(1)
    history.add(*arrivals(4))
    assert kept(history, range(9)) == [1, 3, 4]
    history.add(*arrivals(5))
    assert kept(history, range(9)) == [1, 4, 5]


def test_the_oldest_goes_when_all_were_segmented_and_the_newest_stays():
    history = FrameHistory(2)
    for a in arrivals(1, 2, 3):
        history.add(a)
        history.mark_used(a.stamp_ns)
    assert kept(history, range(9)) == [2, 3]


@given(
    events=st.lists(st.tuples(st.booleans(), st.integers(1, 12)), max_size=60),
    capacity=st.integers(1, 5),
)
def test_a_history_holds_its_capacity_and_always_the_newest(events, capacity):
    history, seen = FrameHistory(capacity), set()
    for used, stamp in events:
        if used:
            history.mark_used(stamp)
        else:
            (a,) = arrivals(stamp)
            history.add(a)
            seen.add(stamp)
            assert history.get(stamp) is a
            assert len(kept(history, range(13))) == min(capacity, len(kept(history, seen)))
        assert len(kept(history, range(13))) <= capacity


def test_a_history_shrinks_with_the_next_frame_and_can_be_cleared():
    history = FrameHistory(4)
    for a in arrivals(1, 2, 3, 4):
        history.add(a)
    history.resize(2)
    history.add(*arrivals(5))
    assert kept(history, range(9)) == [4, 5]
    history.clear()
    assert kept(history, range(9)) == []
    history.mark_used(5)
    assert history.get(5) is None, "a mark keeps nothing alive"


# timing


def test_laps_add_up_the_same_stage_and_survive_errors():
    laps = Laps()
    with laps.stage("a"):
        pass
    first = laps.ms["a"]
    with pytest.raises(KeyError), laps.stage("a"):
        raise KeyError
    assert laps.ms["a"] > first > 0
    assert set(laps.ms) == {"a"}


def test_percentiles_are_of_the_last_values_only():
    p = Percentiles()
    assert all(math.isnan(v) for v in p.at(50, 95))
    for i in range(WINDOW + 100):
        p.add(i)
    last = np.arange(100, WINDOW + 100)
    assert p.at(95, 50) == pytest.approx((np.percentile(last, 95), np.median(last)))


def test_stats_count_and_summarise():
    stats = Stats()
    assert (stats.count("dropped"), stats.count("dropped", 3), stats.count("bad", 0)) == (1, 4, 0)
    assert stats.counts() == {"bad": 0, "dropped": 4}
    for i in range(10):
        laps = Laps()
        laps.ms |= {"heads": float(i), "masks": 9.0 - i}
        stats.finished(laps, now_s=100.0 + i, age_ms=None if i % 2 else 10.0 * i)
    assert stats.stages_ms() == dict.fromkeys(("heads", "masks"), pytest.approx((4.5, 8.55)))
    assert stats.total_ms() == pytest.approx((9.0, 9.0))  # not the sum of the stages' percentiles
    assert stats.age_ms()[0] == pytest.approx(40.0)
    assert stats.rate_hz(109.0) == pytest.approx(6 / 5)
    assert stats.rate_hz(999.0) == 0


def test_stats_lose_no_count_between_threads():
    stats = Stats()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: [stats.count("n") for _ in range(500)], range(4)))
    assert stats.counts() == {"n": 2000}
