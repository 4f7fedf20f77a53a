"""Who comes next, and who shares a run: the order alone, without threads."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robollm.runtime.batching import Line, Request

MOST = 4


def rows(first, n, width=1):
    """Rows that say which they are: (n, width) float32."""
    return np.repeat(np.arange(first, first + n, dtype=np.float32)[:, None], width, axis=1)


def request(first, n, width=1, most=MOST):
    return Request(rows(first, n, width), np.zeros(n, np.int64), most)


def run_next(line):
    """One planned run; the numbers of the rows that were in it."""
    parts = line.plan()
    images = np.concatenate([r.images[r.ran : r.ran + n] for r, n in parts])
    line.ran(parts, (images,))
    return [int(v) for v in images[:, 0]]


def test_requests_that_fit_share_a_run_in_their_order():
    line = Line()
    for first, n in [(10, 1), (20, 2), (30, 3)]:
        line.add(request(first, n))
    assert run_next(line) == [10, 20, 21, 30]
    assert run_next(line) == [31, 32]
    assert line.requests == []


def test_chunks_of_a_large_request_alternate_with_the_others():
    line = Line()
    flood = request(0, 1000)
    line.add(flood)
    assert run_next(line) == [0, 1, 2, 3]
    camera = request(5000, 1, width=2)
    line.add(camera)
    assert run_next(line) == [4, 5, 6, 7], "it was there before"
    assert run_next(line) == [5000]
    assert camera.done
    assert run_next(line) == [8, 9, 10, 11]


def test_a_request_that_only_filled_up_a_run_keeps_its_place():
    line = Line()
    small, large, last = request(0, 1), request(10, 9), request(20, 1)
    for r in (small, large, last):
        line.add(r)
    assert run_next(line) == [0, 10, 11, 12]
    assert run_next(line) == [13, 14, 15, 16]
    assert run_next(line) == [20, 17, 18], "it had its turn"


def test_other_shapes_wait_for_their_own_run():
    line = Line()
    for first, width in [(0, 1), (10, 2), (20, 1), (30, 2)]:
        line.add(request(first, 1, width))
    assert run_next(line) == [0, 20]
    assert run_next(line) == [10, 30]


def test_a_failed_run_takes_those_with_it_that_were_in_it():
    line = Line()
    first, second, other = request(0, 3), request(10, 9), request(20, 1, width=2)
    for r in (first, second, other):
        line.add(r)
    error = RuntimeError("no memory")
    line.failed(line.plan(), error)
    assert (first.error, second.error, other.error) == (error, error, None)
    assert line.requests == [other]


arrivals = st.lists(
    st.one_of(
        st.none(),  # a run
        st.tuples(st.integers(1, 23), st.integers(1, 3)),  # rows, shape
    ),
    max_size=60,
)


@given(events=arrivals, most=st.integers(1, 6))
def test_nobody_waits_for_more_than_a_chunk_of_each_of_the_others(events, most):
    line, runs = Line(), 0
    everybody: list[tuple[Request, int]] = []  # and the number of runs before it came
    others: dict[int, int] = {}  # most other requests in line at any time
    for event in [*events, *[None] * 2000]:
        if event is not None:
            n, width = event
            line.add(request(100 * len(everybody), n, width, most))
            everybody.append((line.requests[-1], runs))
            for r in line.requests:
                others[id(r)] = max(others.get(id(r), 0), len(line.requests) - 1)
        elif line.requests:
            parts = line.plan()
            assert sum(n for _, n in parts) <= most
            assert len({r.shape for r, _ in parts}) == 1
            before = {id(r): r for r in line.requests}
            run_next(line)
            runs += 1
            for r in before.values():
                came = next(c for e, c in everybody if e is r)
                chunks = -(-len(r.images) // most)
                assert runs - came <= chunks * (others[id(r)] + 1)
    assert not line.requests
    for i, (r, _) in enumerate(everybody):
        assert r.outputs()[0][:, 0].tolist() == list(range(100 * i, 100 * i + len(r.images)))
