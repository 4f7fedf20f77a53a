"""Ctrl-C before anything else. Imports next to nothing: rclpy and the models take a second."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Set by SIGINT and SIGTERM. A plain flag: a lock could be held when the signal comes."""

    def __init__(self) -> None:
        self._asked = False

    def asked(self) -> bool:
        """True once a signal came."""
        return self._asked

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self._asked = True


def listen() -> Stop:
    """Catch SIGINT and SIGTERM from now on.

    A program calls it in its first line, before the imports, and what it then starts calls it
    again: it gets the same flag, and so learns of a signal that came meanwhile.
    """
    handler = signal.getsignal(signal.SIGINT)
    stop = handler if isinstance(handler, Stop) else Stop()
    for number in SIGNALS:
        signal.signal(number, stop)
    return stop


@contextmanager
def listening() -> Iterator[Stop]:
    """The same for the time of a block; afterwards the handlers are what they were."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield listen()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
