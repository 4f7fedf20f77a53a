"""An image that has arrived but may not be decoded yet."""

from __future__ import annotations

import threading
from collections.abc import Callable

from robollm.core.frame import Frame


class Arrival:
    """A stamped image; `frame` decodes at most once, in the thread that needs it.

    Frames that the mailbox drops are never decoded.

    Args:
        stamp_ns: capture time, ns.
        decode: makes the frame; may raise `FrameError`.
    """

    def __init__(self, stamp_ns: int, decode: Callable[[], Frame]) -> None:
        self.stamp_ns = stamp_ns
        self._decode = decode
        self._frame: Frame | None = None
        self._lock = threading.Lock()

    def frame(self) -> Frame:
        """The decoded image.

        Raises:
            FrameError: if it can't be decoded.
        """
        with self._lock:
            if self._frame is None:
                self._frame = self._decode()
            return self._frame
