"""When a bag's messages are due, and reading them early enough. No ROS in here."""

from __future__ import annotations

import math
import threading
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robollm.data.bag import Message

NS = 1_000_000_000
READ_AHEAD_BYTES = 64_000_000
SHORTEST_S, LONGEST_S = 1e-6, 1e4  # a lateness that can be told from none; from a longer one
STEP = 1.01
TOLERANCE = 0.005  # half a step
STEPS = math.ceil(math.log(LONGEST_S / SHORTEST_S) / math.log(STEP))


@dataclass(frozen=True, slots=True)
class Schedule:
    """The line that ties bag time to this machine's monotonic clock.

    Every due time is computed from the start, never from the message before: no drift.

    Attributes:
        start_s: monotonic time at which the bag's first message is due, s.
        first_ns: bag time of that message, ns.
        rate: bag seconds per real second, > 0.
    """

    start_s: float
    first_ns: int
    rate: float

    def due_s(self, bag_ns: int) -> float:
        """Monotonic time at which a message of bag time `bag_ns` is due, s."""
        return self.start_s + (bag_ns - self.first_ns) / NS / self.rate

    def bag_ns(self, now_s: float) -> int:
        """Bag time at monotonic time `now_s`, ns; not before the first message."""
        return self.first_ns + max(0, round((now_s - self.start_s) * self.rate * NS))


class Tally:
    """What was played, and how late each message left, in memory that does not grow.

    A loop may play for weeks. So latenesses are counted in `STEPS` bins, each `STEP` times as wide
    as the one before: a percentile is within `TOLERANCE` of the exact one, relative, or within
    `SHORTEST_S`. What is later than `LONGEST_S` counts as that. Number and maximum are exact.
    """

    def __init__(self) -> None:
        self._bins = array("Q", bytes(8 * (STEPS + 1)))
        self._max_s = 0.0
        self._topics: dict[str, int] = {}

    def add(self, topic: str, late_s: float) -> None:
        """Count one message that left `late_s` seconds after it was due."""
        self._topics[topic] = self._topics.get(topic, 0) + 1
        self._max_s = max(self._max_s, late_s)
        self._bins[_bin(late_s)] += 1

    def summary(self) -> dict[str, Any]:
        """Number of messages, lateness in ms (null when there were none), counts per topic."""
        n = sum(self._topics.values())

        def at(share: float) -> float | None:
            return round(1e3 * min(self._max_s, self._ranked(int(share * n))), 3) if n else None

        return {
            "messages": n,
            "lateness_ms": {
                "p50": at(0.50),
                "p95": at(0.95),
                "max": round(1e3 * self._max_s, 3) if n else None,
            },
            "topics": dict(sorted(self._topics.items())),
        }

    def _ranked(self, rank: int) -> float:
        """The middle of the bin that holds the lateness of this rank, s; the first has rank 0."""
        for k, below in enumerate(accumulate(self._bins)):
            if below > rank:
                return SHORTEST_S * STEP ** (k - 0.5) if k else 0.0
        return LONGEST_S


def _bin(late_s: float) -> int:
    """0 up to `SHORTEST_S`; k from there times STEP^(k - 1) to times STEP^k."""
    if late_s <= SHORTEST_S:
        return 0
    return min(STEPS, 1 + int(math.log(late_s / SHORTEST_S) / math.log(STEP)))


class ReadAhead:
    """Read messages in a thread, so that a slow chunk of the file delays nobody.

    Args:
        messages: where they come from; only the thread touches it.
        max_bytes: stop reading while this much waits; one message always fits.
    """

    def __init__(self, messages: Iterator[Message], max_bytes: int = READ_AHEAD_BYTES) -> None:
        self._messages = messages
        self._max_bytes = max_bytes
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="read-ahead", daemon=True)
        self._thread.start()

    def get(self, timeout_s: float) -> Message | None:
        """Take the next message; None after `timeout_s` or at the end (see `ended`).

        Raises:
            BagError: what the reader raised, after everything before it was taken.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, timeout_s)
            if self._waiting:
                message = self._waiting.popleft()
                self._bytes -= len(message.raw)
                self._changed.notify_all()
                return message
            if self._error is not None:
                raise self._error
            return None

    @property
    def ended(self) -> bool:
        """True when every message was read and taken."""
        with self._changed:
            return self._ended and not self._waiting and self._error is None

    def close(self) -> None:
        """Stop reading and wait for the thread. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _read(self) -> None:
        try:
            for message in self._messages:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or self._has_room())
                    if self._closed:
                        break
                    self._waiting.append(message)
                    self._bytes += len(message.raw)
                    self._changed.notify_all()
        except BaseException as e:  # handed to the consumer by `get`
            self._error = e
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._bytes < self._max_bytes
