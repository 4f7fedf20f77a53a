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


NO_MEMORY = RuntimeError("no memory")


def fail_next(line):
    """One planned run that fails; the numbers of the rows that were in it."""
    parts = line.plan()
    line.failed(parts, NO_MEMORY)
    return [int(v) for r, n in parts for v in r.images[r.ran : r.ran + n, 0]]


def test_a_shared_run_that_fails_is_run_again_part_by_part_and_only_the_guilty_leave():
    line = Line()
    good, bad, large, other = request(0, 1), request(10, 1), request(20, 9), request(40, 1, width=2)
    for r in (good, bad, large, other):
        line.add(r)
    assert fail_next(line) == [0, 10, 20, 21]
    assert line.requests == [good, bad, large, other], "nobody lost a place"
    assert run_next(line) == [0]
    assert fail_next(line) == [10]
    assert run_next(line) == [20, 21, 22, 23], "alone, so with all the room"
    assert run_next(line) == [40]
    assert [r.error for r in (good, bad, large, other)] == [None, NO_MEMORY, None, None]
    assert line.requests == [large]


def test_a_request_that_failed_alone_is_not_run_twice():
    line = Line()
    first, other = request(0, 9), request(20, 1, width=2)
    for r in (first, other):
        line.add(r)
    assert fail_next(line) == [0, 1, 2, 3]
    assert line.requests == [other]


def test_a_part_that_is_to_run_alone_gets_no_company_and_is_none():
    line = Line()
    first, second = request(0, 1), request(10, 1)
    for r in (first, second):
        line.add(r)
    fail_next(line)
    late = request(20, 1)
    line.add(late)
    assert line.full(), "nobody waits for company that would not be taken"
    assert [run_next(line) for _ in range(3)] == [[0], [10], [20]]


def test_after_its_turn_alone_a_large_request_shares_runs_again():
    line = Line()
    large, small = request(0, 5), request(10, 1)
    line.add(small)
    line.add(large)
    fail_next(line)
    assert run_next(line) == [10]
    assert run_next(line) == [0, 1, 2, 3]
    line.add(request(20, 2))
    assert run_next(line) == [4, 20, 21]


arrivals = st.lists(
    st.one_of(
        st.none(),  # a run
        st.tuples(st.integers(1, 23), st.integers(1, 3)),  # rows, shape
    ),
    max_size=60,
)


@given(events=arrivals, most=st.integers(1, 6), bad=st.sets(st.integers(0, 59)))
def test_nobody_waits_for_more_than_a_chunk_of_each_of_the_others(events, most, bad):
    """`bad`: requests of which every run fails. Each failed run that was shared costs one more."""
    line, runs, failed = Line(), 0, 0
    everybody: list[tuple[Request, int, int]] = []  # and the runs, shared failures before it came
    others: dict[int, int] = {}  # most other requests in line at any time
    for event in [*events, *[None] * 4000]:
        if event is not None:
            n, width = event
            line.add(request(100 * len(everybody), n, width, most))
            everybody.append((line.requests[-1], runs, failed))
            for r in line.requests:
                others[id(r)] = max(others.get(id(r), 0), len(line.requests) - 1)
        elif line.requests:
            parts = line.plan()
            assert sum(n for _, n in parts) <= most
            assert len({r.shape for r, _ in parts}) == 1
            before = {id(r): r for r in line.requests}
            if any(int(r.images[0, 0]) // 100 in bad for r, _ in parts):
                fail_next(line)
                failed += len(parts) > 1
            else:
                run_next(line)
            runs += 1
            for r in before.values():
                came, lost = next((c, f) for e, c, f in everybody if e is r)
                chunks = -(-len(r.images) // most)
                bound = chunks * (others[id(r)] + 1)
                assert failed - lost <= bound
                assert runs - came <= bound + failed - lost
    assert not line.requests
    for i, (r, _, _) in enumerate(everybody):
        assert (r.error is not None) == (i in bad)
        if r.error is None:
            assert r.outputs()[0][:, 0].tolist() == list(range(100 * i, 100 * i + len(r.images)))
