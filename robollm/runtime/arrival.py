"""An image that has arrived but may not be decoded yet."""

from __future__ import annotations

import threading
from collections.abc import Callable

from robollm.core.errors import FrameError
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


class StampCheck:
    """Tells the images of one stream apart by their stamps."""

    def __init__(self) -> None:
        self._last = ("", 0)

    def reset(self) -> None:
        """Forget the image before: time has jumped back, and its stamp may come again."""
        self._last = ("", 0)

    def is_new(self, kind: str, stamp_ns: int) -> bool:
        """Whether this is another image than the one before.

        Args:
            kind: how it came, "raw" or "compressed": while both are heard, all come twice.
            stamp_ns: capture time, ns.

        Raises:
            FrameError: if two that came the same way have one stamp.
        """
        last_kind, last_stamp = self._last
        if stamp_ns != last_stamp:
            self._last = (kind, stamp_ns)
            return True
        if kind == last_kind:
            raise FrameError(
                f"stamp {last_stamp / 1e9:.9f} s is the one of the image before",
                kind="repeated_stamp",
                fix="let the camera driver stamp every image with its own capture time",
            )
        return False
