"""What is computed once, by whom, and for how long it is known."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from robollm.core.errors import InferenceError
from robollm.runtime.memo import Memo

LONG = 30.0  # seconds that no test waits for


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def doubled(keys, calls):
    def compute(index):
        calls.append([keys[i] for i in index])
        return [2 * keys[i] for i in index]

    return compute


def test_what_is_known_is_not_computed_again_and_the_longest_unused_goes_first():
    memo, calls = Memo(3), []
    for keys in ([1, 2, 2], [3, 1], [4, 1], [2]):
        assert memo.get(keys, doubled(keys, calls)) == [2 * k for k in keys]
    assert calls == [[1, 2], [3], [4], [2]]
    assert (memo.hits, len(memo)) == (2, 3)


def test_more_than_fits_is_answered():
    memo, keys = Memo(3), list(range(9))
    assert memo.get(keys, doubled(keys, [])) == [2 * k for k in keys]
    assert len(memo) == 3


def test_what_somebody_computes_is_waited_for(pool):
    memo, begun, go, calls = Memo(2), threading.Event(), threading.Event(), []

    def slow(index):
        begun.set()
        assert go.wait(LONG)
        return doubled([1, 2, 3], calls)(index)

    first = pool.submit(memo.get, [1, 2, 3], slow)
    assert begun.wait(LONG)
    others = [pool.submit(memo.get, [k, 9], doubled([k, 9], calls)) for k in (1, 2, 3)]
    go.set()
    assert first.result(LONG) == [2, 4, 6]
    assert [o.result(LONG) for o in others] == [[2, 18], [4, 18], [6, 18]]
    assert sorted(k for c in calls for k in c if k != 9) == [1, 2, 3]


def test_a_failure_is_not_remembered_and_who_waited_tries_itself(pool):
    memo, begun, go, calls = Memo(2), threading.Event(), threading.Event(), []

    def fails(_):
        begun.set()
        assert go.wait(LONG)
        raise InferenceError("no memory")

    first = pool.submit(memo.get, [1], fails)
    assert begun.wait(LONG)
    second = pool.submit(memo.get, [1], doubled([1], calls))
    go.set()
    with pytest.raises(InferenceError, match="no memory"):
        first.result(LONG)
    assert second.result(LONG) == [2]
    assert (calls, memo.hits) == ([[1]], 0)


@pytest.fixture
def hectic():
    """Threads take turns a hundred times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 100)
    yield
    sys.setswitchinterval(before)


def test_threads_that_want_each_others_keys_do_not_lock_up(hectic):
    memo, calls = Memo(4), []

    def many(seed):
        rng = np.random.default_rng(seed)
        for _ in range(150):
            keys = [int(k) for k in rng.integers(0, 12, 4)]
            assert memo.get(keys, doubled(keys, calls)) == [2 * k for k in keys]

    with ThreadPoolExecutor(6) as pool:
        for job in [pool.submit(many, seed) for seed in range(6)]:
            job.result(LONG)
    assert len(memo) == 4
    assert not memo._busy
