"""What is logged when something goes wrong with every pick: once in a while, and all is counted."""

from __future__ import annotations

import pytest

from robollm.core.errors import FrameError, InferenceError
from robollm.nodes import trouble
from robollm.nodes.trouble import Trouble
from robollm.runtime.timing import Stats


class Log:
    def __init__(self):
        self.lines = []

    def warning(self, text):
        self.lines.append(text)

    error = warning


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def stats():
    return Stats()


@pytest.fixture
def told(log, stats):
    return Trouble(log, stats)


def fail(told, pick, error):
    try:
        raise error
    except InferenceError as e:
        told.failed(f"pick {pick}", e)
    except ZeroDivisionError as e:
        told.crashed(f"pick {pick}", e)


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ZeroDivisionError("a bug"), "internal_error"), (InferenceError("a NaN"), "inference_error")],
)
def test_an_error_at_every_pick_is_counted_each_time_and_logged_once_in_a_while(
    told, log, stats, error, kind
):
    for pick in range(50):
        fail(told, pick, error)
    assert stats.counts() == {kind: 50}
    assert len(log.lines) == 1
    assert len(told._said) == 1, "what is remembered doesn't grow with the picks"
    assert "pick 49" in told.error


def test_another_error_in_the_meantime_is_logged_too(told, log):
    fail(told, 1, ZeroDivisionError("a bug"))
    fail(told, 2, InferenceError("a NaN"))
    try:
        {}["another bug"]
    except KeyError as e:
        told.crashed("pick 3", e)
    assert [line.partition(":")[0] for line in log.lines] == [
        "internal error on pick 1",
        "pick 2",
        "internal error on pick 3",
    ]
    assert "Traceback" in log.lines[0]


def test_after_a_while_the_same_error_is_logged_again_with_its_count(told, log, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(trouble.time, "monotonic", lambda: now[0])
    fail(told, 1, InferenceError("a NaN", fix="look"))
    now[0] += trouble.LOG_S / 2
    fail(told, 2, InferenceError("a NaN"))
    now[0] += trouble.LOG_S
    fail(told, 3, InferenceError("a NaN"))
    assert len(log.lines) == 2
    assert "pick 3: a NaN [inference_error: 3 so far]" in log.lines[1]


def test_a_bad_input_is_told_by_stream_and_kind(told, log, stats):
    for stream in ("image", "tote_wall"):
        for kind in ("bad_step", "bad_step", "bad_stamp"):
            told.refused(stream, FrameError("so", kind=kind))
    assert stats.counts() == {"bad_step": 4, "bad_stamp": 2}
    assert len(log.lines) == 4
