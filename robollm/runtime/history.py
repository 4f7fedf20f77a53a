"""The last tote images, for picks that were planned on them."""

from __future__ import annotations

import threading

from robollm.runtime.arrival import Arrival


class FrameHistory:
    """Recent tote images by stamp. Safe to use from several threads.

    A controller plans on published detections, so images that were segmented outlive those that
    the mailbox dropped.

    Args:
        capacity: how many images are kept, >= 1.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._frames: dict[int, tuple[Arrival, bool]] = {}  # in order of arrival
        self._lock = threading.Lock()

    def resize(self, capacity: int) -> None:
        """Keep another number of images from the next one on."""
        with self._lock:
            self._capacity = capacity

    def add(self, arrival: Arrival) -> None:
        """Keep an image; the oldest one that nobody segmented goes first."""
        with self._lock:
            self._frames[arrival.stamp_ns] = (arrival, False)
            while len(self._frames) > self._capacity:
                newest = arrival.stamp_ns
                idle = (s for s, (_, used) in self._frames.items() if not used and s != newest)
                del self._frames[next(idle, next(iter(self._frames)))]

    def mark_used(self, stamp_ns: int) -> None:
        """Note that results were published for this image."""
        with self._lock:
            if stamp_ns in self._frames:
                self._frames[stamp_ns] = (self._frames[stamp_ns][0], True)

    def get(self, stamp_ns: int) -> Arrival | None:
        """The image with exactly this stamp, or None."""
        with self._lock:
            found = self._frames.get(stamp_ns)
            return found[0] if found else None

    def clear(self) -> None:
        """Forget everything (time jumped back, or the node was cleaned up)."""
        with self._lock:
            self._frames.clear()
