"""What goes wrong in a node: counted always, logged now and then, never by line of code alone."""

from __future__ import annotations

import time
import traceback

from rclpy.impl.rcutils_logger import RcutilsLogger

from robollm.core.errors import FrameError, MessageError, RobollmError
from robollm.runtime.timing import Stats

LOG_S = 2.0  # between two log lines about the same trouble


class Trouble:
    """Counts and logs what goes wrong in one node. Safe to use from several threads.

    rclpy throttles by line of code: one kind of trouble would hide all others. Here it is by what
    happened and where, so that a kind that comes with every pick is told once in `LOG_S`, and what
    is remembered of it doesn't grow.

    Args:
        logger: the node's.
        stats: takes the counts.
    """

    def __init__(self, logger: RcutilsLogger, stats: Stats) -> None:
        self._logger = logger
        self._stats = stats
        self._said: dict[tuple[str, str], float] = {}
        self.error = ""  # of the last item or transition; empty: it was well

    def refused(self, stream: str, error: FrameError | MessageError) -> None:
        """An input that can't be used."""
        n = self._stats.count(error.kind)
        if self.due(stream, error.kind):
            self._logger.warning(f"{stream}: dropped: {error} [{error.kind}: {n} so far]")

    def failed(self, what: str, error: RobollmError) -> None:
        """A model failed on one input."""
        n = self._stats.count("inference_error")
        self.error = f"{what}: {error.what}"
        if self.due("failed", _place(error)):
            self._logger.error(f"{what}: {error} [inference_error: {n} so far]")

    def crashed(self, what: str, error: Exception) -> None:
        """An error that nobody foresaw; its traceback is logged."""
        n = self._stats.count("internal_error")
        self.error = f"internal error on {what}: {error!r}"
        if self.due("crashed", _place(error)):
            trace = "".join(traceback.format_exception(error))
            self._logger.error(
                f"{self.error} [internal_error: {n} so far]\n  fix: please report this\n{trace}"
            )

    def due(self, what: str, kind: str, period_s: float = LOG_S) -> bool:
        """Whether it is time to log this again; if so, it counts as logged.

        Args:
            what: a stream or a word of ours.
            kind: what happened; never with an id or a number of the input.
            period_s: time between two logs, s.
        """
        now = time.monotonic()
        if now - self._said.get((what, kind), -period_s) < period_s:
            return False
        self._said[what, kind] = now
        return True


def _place(error: Exception) -> str:
    """Type and line of code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__} {where}"
