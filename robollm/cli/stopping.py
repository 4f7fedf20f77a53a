"""Ctrl-C between two pictures: what was done is kept."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_kindly() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C and SIGTERM end a job after the picture at hand; a second one at once.

    Yields:
        Says whether a signal came.
    """
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(number, before[signal.Signals(number)])

    before = {n: signal.signal(n, ask) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
