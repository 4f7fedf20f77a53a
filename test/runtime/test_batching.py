"""Threads that share runs: nobody is forgotten, kept waiting for nothing, or given others' rows."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from robollm.core.errors import ConfigError, InferenceError
from robollm.runtime.batching import Batcher

LONG = 30.0  # seconds that no test waits for
MOST = 4


def rows(first, n, width=1):
    """Rows that say which they are: (n, width) float32."""
    return np.repeat(np.arange(first, first + n, dtype=np.float32)[:, None], width, axis=1)


def echo(images, tasks):
    return images.copy(), 1000 * tasks[:, None] + images[:, :1]


def ask(batcher, first, n, width=1, task=0, most=MOST):
    """Submit rows and check that their own answers come back, in order."""
    images = rows(first, n, width)
    same, other = batcher.submit(images, np.full(n, task, np.int64), most=most)
    np.testing.assert_array_equal(same, images)
    np.testing.assert_array_equal(other[:, 0], images[:, 0] + 1000 * task)
    return True


class Slow:
    """A model whose runs end when the test says so."""

    def __init__(self):
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.runs: list[list[int]] = []

    def __call__(self, images, tasks):
        self.runs.append([int(v) for v in images[:, 0]])
        self.started.release()
        assert self.go.acquire(timeout=LONG)
        return echo(images, tasks)

    def busy(self):
        assert self.started.acquire(timeout=LONG)

    def end(self, n=1):
        self.go.release(n)


def in_line(batcher, n):
    """Wait until so many requests are in line."""
    end = time.monotonic() + LONG
    while batcher.waiting != n:
        assert time.monotonic() < end, f"{batcher.waiting} in line, want {n}"
        time.sleep(0)  # lets the others go on


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_what_came_during_a_run_shares_the_next_one(pool):
    model = Slow()
    batcher = Batcher(model)
    jobs = [pool.submit(ask, batcher, 0, 1)]
    model.busy()
    for i in range(3):
        jobs.append(pool.submit(ask, batcher, 10 * (i + 1), 1, task=i))
        in_line(batcher, i + 2)
    model.end(2)
    assert all(j.result(LONG) for j in jobs)
    assert model.runs == [[0], [10, 20, 30]]
    assert (batcher.runs, batcher.rows, batcher.shared, batcher.waiting) == (2, 4, 1, 0)


def test_a_camera_gets_its_turn_while_a_node_floods(pool):
    model = Slow()
    batcher = Batcher(model)
    flood = pool.submit(ask, batcher, 0, 1000)
    model.busy()
    for turn in range(3):
        camera = pool.submit(ask, batcher, 5000 + turn, 1, width=2)
        in_line(batcher, 2)
        model.end(2)  # the flood's chunk that is going on, then the camera
        assert camera.result(LONG)
        for _ in range(2):
            model.busy()  # in the end the flood's next chunk is going on
    assert [len(r) for r in model.runs] == [4, 1, 4, 1, 4, 1, 4]
    model.end(1000)
    assert flood.result(LONG)


def test_a_bad_picture_fails_its_own_request_and_not_those_that_shared_the_run(pool):
    model = Slow()

    def fails(images, tasks):
        got = model(images, tasks)
        if (images[:, 0] == 20).any():
            raise InferenceError("gave NaN", fix="export it again")
        return got

    batcher = Batcher(fails)
    good = [pool.submit(ask, batcher, 0, 1)]
    model.busy()
    good.append(pool.submit(ask, batcher, 10, 1))
    in_line(batcher, 2)
    bad = pool.submit(ask, batcher, 20, 1)
    in_line(batcher, 3)
    for i, width in ((3, 1), (4, 2)):
        good.append(pool.submit(ask, batcher, 10 * i, 1, width=width))
        in_line(batcher, i + 1)
    model.end(6)
    error = bad.exception(LONG)
    assert all(j.result(LONG) for j in good)
    assert model.runs == [[0], [10, 20, 30], [10], [20], [30], [40]]
    assert (error.what, error.fix) == ("gave NaN", "export it again")
    assert (batcher.runs, batcher.rows, batcher.waiting) == (6, 8, 0)
    assert batcher.shared == 0, "a run that failed served nobody"


def test_when_all_of_a_shared_run_are_guilty_each_gets_an_error_of_its_own(pool):
    model = Slow()

    def fails(images, tasks):
        got = model(images, tasks)
        if images[0, 0]:
            raise InferenceError("no memory", fix="buy some")
        return got

    batcher = Batcher(fails)
    good = pool.submit(ask, batcher, 0, 1)
    model.busy()
    bad = []
    for i in (1, 2):
        bad.append(pool.submit(ask, batcher, 10 * i, 1))
        in_line(batcher, i + 1)
    model.end(4)
    assert good.result(LONG)
    errors = [j.exception(LONG) for j in bad]
    assert model.runs == [[0], [10, 20], [10], [20]]
    assert [(type(e), e.what, e.fix) for e in errors] == [
        (InferenceError, "no memory", "buy some")
    ] * 2
    assert errors[0] is not errors[1], "two threads add their trace to one error"


def test_closing_after_a_shared_run_failed_refuses_what_was_to_run_alone(pool):
    model = Slow()

    def fails(images, tasks):
        got = model(images, tasks)
        if len(images) > 1:
            batcher.close()
            raise InferenceError("no memory")
        return got

    batcher = Batcher(fails)
    jobs = [pool.submit(ask, batcher, 0, 1)]
    model.busy()
    for i in (1, 2):
        jobs.append(pool.submit(ask, batcher, 10 * i, 1))
        in_line(batcher, i + 1)
    model.end(4)
    assert jobs[0].result(LONG)
    for j in jobs[1:]:
        with pytest.raises(InferenceError, match="closed"):
            j.result(LONG)
    assert (model.runs, batcher.waiting) == ([[0], [10, 20]], 0)


def test_an_error_ends_a_large_request_at_once():
    calls = []

    def fails(images, tasks):
        calls.append(len(images))
        raise InferenceError("no memory")

    batcher = Batcher(fails)
    with pytest.raises(InferenceError, match="no memory"):
        ask(batcher, 0, 100)
    assert (calls, batcher.waiting) == ([MOST], 0)


def test_an_interrupt_of_the_thread_that_leads_is_not_the_others_affair(pool):
    model = Slow()
    interrupted = []

    def run(images, tasks):
        got = model(images, tasks)
        if images[0, 0] == 10 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return got

    batcher = Batcher(run)
    jobs = []
    for i in range(3):
        jobs.append(pool.submit(ask, batcher, 10 * i, 1))
        model.busy() if i == 0 else in_line(batcher, i + 1)
    model.end(3)
    assert jobs[0].result(LONG)
    assert isinstance(jobs[1].exception(LONG), KeyboardInterrupt)
    assert jobs[2].result(LONG)
    assert model.runs == [[0], [10, 20], [20]]
    assert batcher.waiting == 0


# the window


def test_without_a_window_nobody_waits_on_purpose():
    batcher = Batcher(echo)
    for i in range(5):
        assert ask(batcher, i, 1)
    assert (batcher.runs, batcher.shared) == (5, 0)


def test_a_window_is_left_as_soon_as_the_run_is_full(pool):
    batcher = Batcher(echo, window_ms=1e3 * LONG)
    jobs = [pool.submit(ask, batcher, 10 * i, 1) for i in range(MOST)]
    assert all(j.result(LONG / 2) for j in jobs)
    assert (batcher.runs, batcher.rows, batcher.shared) == (1, MOST, 1)


def test_a_window_is_left_as_soon_as_another_shape_is_kept_waiting(pool):
    batcher = Batcher(echo, window_ms=1e3 * LONG)
    jobs = [pool.submit(ask, batcher, 0, 1)]
    in_line(batcher, 1)
    jobs += [pool.submit(ask, batcher, 10, MOST, width=2)]
    assert all(j.result(LONG / 2) for j in jobs)
    assert batcher.runs == 2


def test_a_window_ends_by_itself():
    batcher = Batcher(echo, window_ms=20)
    start = time.monotonic()
    assert ask(batcher, 0, 1)
    assert 0.02 <= time.monotonic() - start < LONG


def test_who_waited_for_a_run_does_not_wait_for_company_as_well(pool):
    model = Slow()
    batcher = Batcher(model, window_ms=1e3 * LONG)
    jobs = [pool.submit(ask, batcher, 0, MOST)]
    model.busy()
    jobs.append(pool.submit(ask, batcher, 10, 1))
    in_line(batcher, 2)
    batcher._line.requests[1].arrived -= LONG  # its window is over
    model.end(1)
    start = time.monotonic()
    model.busy()
    assert time.monotonic() - start < LONG / 2
    model.end(1)
    assert all(j.result(LONG) for j in jobs)


@pytest.mark.parametrize("window", [-1, float("nan"), float("inf")])
def test_a_window_that_makes_no_sense_is_refused(window):
    with pytest.raises(ConfigError, match="want 0 or more"):
        Batcher(echo, window_ms=window)


# the end


def test_closing_ends_the_run_that_goes_on_and_refuses_the_rest(pool):
    model = Slow()
    batcher = Batcher(model)
    jobs = []
    for i, n in enumerate([1, 1, 9]):
        jobs.append(pool.submit(ask, batcher, 10 * i, n))
        model.busy() if i == 0 else in_line(batcher, i + 1)
    large = pool.submit(ask, Batcher(model), 90, 9)  # another one, not closed
    model.busy()
    batcher.close()
    batcher.close()
    model.end(4)
    assert jobs[0].result(LONG)
    for j in jobs[1:]:
        with pytest.raises(InferenceError, match="closed"):
            j.result(LONG)
    assert large.result(LONG)
    with pytest.raises(InferenceError, match="closed"):
        ask(batcher, 0, 1)
    assert batcher.waiting == 0


def test_closing_refuses_what_is_left_of_a_large_request(pool):
    model = Slow()
    batcher = Batcher(model)
    job = pool.submit(ask, batcher, 0, 9)
    model.busy()
    batcher.close()
    model.end(1)
    with pytest.raises(InferenceError, match="closed"):
        job.result(LONG)
    assert len(model.runs) == 1


def test_closing_wakes_who_waits_for_company(pool):
    batcher = Batcher(echo, window_ms=1e3 * LONG)
    job = pool.submit(ask, batcher, 0, 1)
    in_line(batcher, 1)
    batcher.close()
    with pytest.raises(InferenceError, match="closed"):
        job.result(LONG / 2)


# many threads


@pytest.fixture
def hectic():
    """Threads take turns a hundred times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 100)
    yield
    sys.setswitchinterval(before)


class SevenError(Exception):
    """What the model below says to some rows."""


@pytest.mark.parametrize("window", [0.0, 0.2])
def test_no_request_of_many_threads_is_lost_or_mixed_up(hectic, window):
    at_once = threading.Lock()
    ran = []

    def run(images, tasks):
        assert at_once.acquire(blocking=False), "one run at a time"
        assert len(images) <= MOST
        ran.append(len(images))
        try:
            if (images[:, 0] % 100 == 7).any():
                raise SevenError
            return echo(images, tasks)
        finally:
            at_once.release()

    batcher = Batcher(run, window_ms=window)

    def many(seed):
        rng, served, failed = np.random.default_rng(seed), 0, 0
        for i in range(60):
            n, width = int(rng.integers(1, 3 * MOST)), int(rng.integers(1, 3))
            first = 10_000 * seed + 13 * i
            guilty = any(v % 100 == 7 for v in range(first, first + n))
            try:
                served += ask(batcher, first, n, width, task=seed)
                assert not guilty
            except SevenError:
                failed += 1
                assert guilty, "it has no such row: its neighbour had"
        assert served + failed == 60
        return served

    with ThreadPoolExecutor(12) as pool:
        served = sum(pool.map(many, range(12)))
    assert served > 12 * 60 / 4
    assert (batcher.waiting, batcher.runs, batcher.rows) == (0, len(ran), sum(ran))
    assert batcher.shared > 0
