"""Hand-over between ROS callbacks and the inference thread: images newest-wins, picks all kept."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

N = TypeVar("N")
K = TypeVar("K")


class Mailbox(Generic[N, K]):
    """One slot for the newest frame and a queue for what must not be lost.

    A slow consumer always gets the newest frame, never a queue of old ones; a pick is kept until
    it is answered and comes before any frame.
    """

    def __init__(self) -> None:
        self._cond = threading.Condition()
        self._newest: N | None = None
        self._kept: deque[K] = deque()
        self._closed = False
        self.dropped = 0

    def put(self, item: N) -> None:
        """Leave the newest frame; an unread one is dropped and counted. Never blocks."""
        with self._cond:
            self.dropped += self._newest is not None
            self._newest = item
            self._cond.notify()

    def keep(self, item: K) -> None:
        """Leave an item that must be handled. Never blocks, never drops."""
        with self._cond:
            self._kept.append(item)
            self._cond.notify()

    def get(self, timeout_s: float) -> N | K | None:
        """Take the next item (kept ones first), or None after `timeout_s` or when closed."""
        with self._cond:
            self._cond.wait_for(self._ready, timeout_s)
            if self._kept:
                return self._kept.popleft()
            item, self._newest = self._newest, None
            return item

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed

    @property
    def waiting(self) -> int:
        """Number of kept items that nobody has taken yet."""
        return len(self._kept)

    def close(self) -> None:
        """Drop an unread frame, wake the consumer and let it end. Idempotent; kept items stay."""
        with self._cond:
            self._closed = True
            self._newest = None
            self._cond.notify_all()

    def _ready(self) -> bool:
        return bool(self._kept) or self._newest is not None or self._closed
