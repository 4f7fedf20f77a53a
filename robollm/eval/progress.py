"""How far it is: a bar on a terminal, a line now and then in a log; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

LINE_S = 10.0
"""Seconds between two lines in a log."""


class Progress(Protocol):
    """One stage at a time, of samples that are done one by one."""

    def begin(self, label: str, total: int | None, done: int = 0) -> None:
        """Begin a stage.

        Args:
            label: what is done.
            total: samples; None: not known.
            done: how many of them were done before.
        """

    def advance(self, *, failed: bool = False) -> None:
        """One more sample is done; `failed`: it has no answer."""

    def say(self, line: str) -> None:
        """Show a line of words."""

    def end(self) -> None:
        """End the stage."""


class Silent:
    """Shows nothing."""

    def begin(self, label: str, total: int | None, done: int = 0) -> None:
        """See `Progress`."""

    def advance(self, *, failed: bool = False) -> None:
        """See `Progress`."""

    def say(self, line: str) -> None:
        """See `Progress`."""

    def end(self) -> None:
        """See `Progress`."""


SILENT = Silent()


@contextmanager
def stage(progress: Progress, label: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A stage that ends however it ends; gives what to call after each of its samples."""
    progress.begin(label, total)
    try:
        yield progress.advance
    finally:
        progress.end()


class Stage:
    """Counts one stage.

    Args:
        label: what is done.
        total: samples; None: not known.
        done: how many of them were done before.
        now_s: the clock's time.
    """

    def __init__(self, label: str, total: int | None, done: int, now_s: float) -> None:
        self.label, self.total, self.done, self.failed = label, total, done, 0
        self._before, self._began = done, now_s

    def rate(self, now_s: float) -> float:
        """Samples per second since the stage began; 0: none yet."""
        return (self.done - self._before) / max(now_s - self._began, 1e-9)

    def words(self, now_s: float) -> str:
        """Where it is, how fast, how much longer, and what failed."""
        of = "" if self.total is None else f" of {self.total:,}"
        words = [f"{self.label}: {self.done:,}{of}"]
        rate = self.rate(now_s)
        if rate:
            words.append(f"{rate:.3g}/s")
            if self.total is not None and self.total > self.done:
                words.append(f"{clock((self.total - self.done) / rate)} left")
        if self.failed:
            words.append(f"{self.failed:,} failed")
        return ", ".join(words)


def clock(seconds: float) -> str:
    """Seconds as H:MM:SS."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class Lines:
    """A line at the begin and the end of a stage, and every `LINE_S` seconds between.

    Args:
        stream: where to.
        now: seconds, of a clock that never goes back.
    """

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._now = stream, now
        self._stage: Stage | None = None
        self._said = 0.0

    def begin(self, label: str, total: int | None, done: int = 0) -> None:
        """See `Progress`."""
        self._stage = Stage(label, total, done, self._now())
        self._tell()

    def advance(self, *, failed: bool = False) -> None:
        """See `Progress`."""
        assert self._stage is not None, "begin comes first"
        self._stage.done += 1
        self._stage.failed += failed
        if self._now() - self._said >= LINE_S:
            self._tell()

    def say(self, line: str) -> None:
        """See `Progress`."""
        print(line, file=self._stream, flush=True)

    def end(self) -> None:
        """See `Progress`."""
        if self._stage is not None:
            self._tell()
        self._stage = None

    def _tell(self) -> None:
        assert self._stage is not None
        self._said = self._now()
        self.say(self._stage.words(self._said))


class Bar:
    """A bar on a terminal.

    Args:
        bars: rich's, running, made by `shown`.
    """

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._stage: Stage | None = None

    def begin(self, label: str, total: int | None, done: int = 0) -> None:
        """See `Progress`."""
        self._stage = Stage(label, total, done, time.monotonic())
        self._task = self._bars.add_task(label, total=total, completed=done, rate="")

    def advance(self, *, failed: bool = False) -> None:
        """See `Progress`."""
        assert self._stage is not None, "begin comes first"
        self._stage.done += 1
        self._stage.failed += failed
        rate = f"{self._stage.rate(time.monotonic()):.3g}/s"
        bad = f", {self._stage.failed:,} failed" if self._stage.failed else ""
        self._bars.update(self._task, advance=1, rate=rate + bad)

    def say(self, line: str) -> None:
        """See `Progress`."""
        self._bars.console.print(line, markup=False, highlight=False)

    def end(self) -> None:
        """See `Progress`."""
        if self._stage is not None:
            self._bars.remove_task(self._task)
            self.say(self._stage.words(time.monotonic()))
        self._stage = None


@contextmanager
def shown() -> Iterator[Progress]:
    """Progress on stderr, as it suits who reads there."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(sys.stderr)
        return
    columns = (
        *(TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()),
        *(TextColumn("{task.fields[rate]}"), TimeRemainingColumn(elapsed_when_finished=True)),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield Bar(bars)
