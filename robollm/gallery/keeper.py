"""Keeps the newest catalogue at hand, on a thread of its own: looks, takes over, commits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from robollm.core.errors import GalleryBusyError, GalleryError, ManifestError, RobollmError
from robollm.gallery.catalogue import Catalogue, CatalogueSource
from robollm.gallery.store import open_writer
from robollm.gallery.updates import ManifestUpdate, read_update
from robollm.gallery.writer import GalleryWriter

WAIT_S = 0.5  # for another writer, at a time: looking for changes goes on meanwhile
PATIENCE_S = 60.0  # for another writer, in all
END_S = 5.0  # longest wait for the thread to end

Answer = Callable[[Sequence[Exception]], None]


class Listener(Protocol):
    """Who is told; always from the keeper's thread."""

    def catalogue_changed(self, new: Catalogue) -> None:
        """`new` is in use from now on."""

    def refresh_failed(self, error: Exception) -> None:
        """What is in use stays in use. Once per trouble, not once per look."""

    def update_committed(self, update: ManifestUpdate, generation: int) -> None:
        """An update is durable, and searches see it."""

    def update_refused(self, error: Exception) -> None:
        """An update is lost; nothing of it was done."""


@dataclass(slots=True)
class Sight:
    """The catalogue as it was at a moment, with the updates that had come in by then.

    Attributes:
        catalogue: replaced once, when the last of these updates is committed.
        waiting: True until then.
    """

    catalogue: Catalogue
    waiting: bool = False


@dataclass(slots=True)
class _Job:
    text: str
    arrived_s: float = field(default_factory=time.monotonic)
    update: ManifestUpdate | None = None
    sights: list[Sight] = field(default_factory=list)  # of moments when this was the newest one


_Done = tuple[_Job, Exception | int]  # why it was refused, or the generation


class Keeper:
    """Owns a `CatalogueSource` and the thread that asks it for changes.

    `catalogue` is replaced as a whole, and only by one that was read completely. Nothing here
    blocks its callers but `close`.

    Args:
        source: where catalogues come from; loaded already.
        first: what it has loaded.
        period_s: seconds between two looks.
        watch: whether to look at all without being asked; called before each look.
        listener: who is told.

    Attributes:
        catalogue: what is in use.
        checked_s: monotonic time at which this was last known to be the newest, s.
        trouble: why the newest can't be had; empty if all is well.
    """

    def __init__(
        self,
        source: CatalogueSource,
        first: Catalogue,
        *,
        period_s: float,
        watch: Callable[[], bool],
        listener: Listener,
    ) -> None:
        self.catalogue = first
        self.checked_s = time.monotonic()
        self.trouble = ""
        self._source, self._period_s = source, period_s
        self._watch, self._listener = watch, listener
        self._cond = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._asked: list[Answer] = []
        self._closed = False
        self._known: tuple[object, ...] = ()
        self._thread = threading.Thread(target=self._run, name="gallery keeper", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of updates that are not committed yet."""
        return len(self._jobs)

    @property
    def waiting_s(self) -> float:
        """How long the oldest of them has waited, s; 0 if there is none."""
        with self._cond:
            return time.monotonic() - self._jobs[0].arrived_s if self._jobs else 0.0

    def sight(self) -> Sight:
        """The catalogue of this moment, for a job that is done later."""
        with self._cond:
            seen = Sight(self.catalogue, waiting=bool(self._jobs))
            if self._jobs:
                self._jobs[-1].sights.append(seen)
            return seen

    def ask(self, answer: Answer) -> None:
        """Look now, a manifest file even if it seems unchanged; `answer` gets what went wrong."""
        with self._cond:
            if not self._closed:
                self._asked.append(answer)
                self._cond.notify()
                return
        answer([GalleryError("the gallery was closed", fix="configure the node")])

    def submit(self, text: str) -> None:
        """Commit a manifest update, see `read_update`, as soon as possible, in order."""
        with self._cond:
            if not self._closed:
                self._jobs.append(_Job(text))
                self._cond.notify()
                return
        self._refuse_late(text)

    def close(self) -> bool:
        """Commit what waits (one attempt), and end the thread. Returns whether it ended."""
        with self._cond:
            self._closed = True
            self._cond.notify()
        self._thread.join(END_S)
        return not self._thread.is_alive()

    # The thread.

    def _run(self) -> None:
        look_s = time.monotonic() + self._period_s
        while True:
            with self._cond:
                self._cond.wait_for(
                    lambda: self._closed or self._asked or self._jobs,
                    max(0.0, look_s - time.monotonic()),
                )
                closed, jobs = self._closed, list(self._jobs)
                asked, self._asked = self._asked, []
            due = time.monotonic() >= look_s
            done = self._commit(jobs, look_s) if jobs else []
            committed = any(isinstance(result, int) for _, result in done)
            if asked or committed or (due and not closed and self._guarded(self._watch)):
                errors = self._look(reread=bool(asked))
                for answer in asked:
                    self._tell(answer, errors)
            self._settle(done)
            if closed and not self._jobs:
                return
            if due:
                look_s = time.monotonic() + self._period_s

    def _guarded(self, ask: Callable[[], bool]) -> bool:
        try:
            return ask()
        except Exception as e:  # a dead keeper would look like a gallery that never changes
            self._tell(self._listener.refresh_failed, e)
            return False

    def _look(self, *, reread: bool) -> Sequence[Exception]:
        errors: Sequence[Exception]
        new = self.catalogue
        try:
            new, errors = self._source.refreshed(self.catalogue, reread=reread)
            new.without_reference()  # computed here, not in a callback
        except Exception as e:  # as above
            errors = [e]
        if not errors:
            self.checked_s = time.monotonic()
        self.trouble = "; ".join(_what(e) for e in errors)
        known, self._known = self._known, tuple(_identity(e) for e in errors)
        for error in errors:
            if reread or _identity(error) not in known:
                self._tell(self._listener.refresh_failed, error)
        if new is not self.catalogue:
            with self._cond:
                self.catalogue = new
            self._tell(self._listener.catalogue_changed, new)
        return errors

    def _commit(self, jobs: Sequence[_Job], until_s: float) -> list[_Done]:
        """Commit one by one, in order; ends early where somebody else's turn has come."""
        if self._source.file is not None:
            error = ManifestError(
                f"the containers are those of the file {str(self._source.file)!r}, not of messages",
                fix="change that file, or leave the parameter `manifest` empty",
            )
            return [(job, error) for job in jobs]
        done: list[_Done] = []
        writer: GalleryWriter | None = None
        try:
            for job in jobs:
                try:
                    job.update = job.update or read_update(job.text)
                    writer = writer or open_writer(self._source.folder, wait_s=WAIT_S)
                    job.update.apply(writer)
                    done.append((job, writer.commit()))
                except Exception as e:  # refused, or as above
                    if writer is not None:
                        writer.rollback()
                    waited_s = time.monotonic() - job.arrived_s
                    if (
                        isinstance(e, GalleryBusyError)
                        and waited_s < PATIENCE_S
                        and not self._closed
                    ):
                        break
                    done.append((job, e))
                # A sight ends here: what came after it is not in it.
                if (job.sights or time.monotonic() >= until_s) and not self._closed:
                    break
        finally:
            if writer is not None:
                with suppress(GalleryError):  # all is committed or rolled back already
                    writer.close()
        return done

    def _settle(self, done: Sequence[_Done]) -> None:
        for job, result in done:
            with self._cond:
                self._jobs.popleft()
                for sight in job.sights:
                    sight.catalogue, sight.waiting = self.catalogue, False
            if isinstance(result, Exception):
                self._tell(self._listener.update_refused, result)
            elif job.update is not None:
                self._tell(self._listener.update_committed, job.update, result)

    def _tell(self, who: Callable[..., None], *what: object) -> None:
        """Call somebody else; that it fails must not end the thread."""
        try:
            who(*what)
        except Exception as e:
            with suppress(Exception):  # it can't even be told
                self._listener.refresh_failed(e)

    def _refuse_late(self, text: str) -> None:
        self._listener.update_refused(
            GalleryError(f"came after the end: {text[:80]!r}", fix="send it again")
        )


def _what(error: Exception) -> str:
    return error.what if isinstance(error, RobollmError) else repr(error)


def _identity(error: Exception) -> tuple[object, ...]:
    """Equal for the same trouble, seen again."""
    return type(error), str(error)
