"""Requests that several threads make at about the same time share a run of the model.

`Line` decides who comes next and knows no threads; `Batcher` makes threads wait for their turn.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError, InferenceError

Images: TypeAlias = NDArray[np.float32]
Tasks: TypeAlias = NDArray[np.int64]
Outputs: TypeAlias = tuple[NDArray[np.float32], ...]
Run: TypeAlias = Callable[[Images, Tasks], Outputs]
"""Rows in, as many rows of every output out, in arrays that nobody else writes to."""


class Request:
    """Rows that one thread wants to have run, and what came back so far.

    Args:
        images: (n, ...) float32, n >= 1. Only rows of one shape share a run.
        tasks: (n,) int64, what is fed beside each row.
        most: rows that one run takes of this shape, >= 1.
        arrived: monotonic time, seconds.
    """

    def __init__(self, images: Images, tasks: Tasks, most: int, arrived: float = 0.0) -> None:
        self.images = images
        self.tasks = tasks
        self.most = most
        self.arrived = arrived
        self.shape = images.shape[1:]
        self.ran = 0
        self.alone = False  # the next run of its rows is shared with nobody
        self.error: BaseException | None = None
        self._answers: list[Outputs] = []

    @property
    def left(self) -> int:
        """Rows that were not run yet."""
        return len(self.images) - self.ran

    @property
    def done(self) -> bool:
        """True when all rows were run, or one of their runs failed."""
        return self.left == 0 or self.error is not None

    def accept(self, outputs: Outputs) -> None:
        """Take the answers of the next rows."""
        self.alone = False
        self._answers.append(outputs)
        self.ran += len(outputs[0])

    def outputs(self) -> Outputs:
        """The answers of all rows, in the order asked for."""
        if len(self._answers) == 1:
            return self._answers[0]
        return tuple(np.concatenate(parts) for parts in zip(*self._answers, strict=True))


Part: TypeAlias = tuple[Request, int]
"""A request, and how many of its next rows a run takes."""


class Line:
    """Who comes next. First come, first served, in chunks; a large request stands in line again.

    The request at the head gets a run, of up to `most` rows. Room that it leaves in the run goes to
    requests of the same shape behind it, in their order. A head with rows left then goes to the
    end; nobody else changes places.

    Bound: every run takes the head away (it is done, or goes to the end) and nobody is ever put in
    before somebody who waits. So a request that finds q others in line is the head after q runs
    at the latest, the one that is going on included, since its head still stands in line; and after
    each chunk of its own the same holds again. With at most R other requests in line at any time,
    a request of k = ceil(n / most) chunks is answered after at most k (R + 1) runs, its own
    included, however many rows the others have.

    When a shared run fails, nobody knows whose rows were to blame: all of it keep their places, and
    each runs its next rows once without company; who fails again leaves with that error. So one
    camera's bad picture fails no neighbour. To look for the rows that aren't finite would save
    these runs, but it tells nothing where the runtime raises, nor in arithmetic that scales a whole
    run by its largest number (dynamic int8): there one bad row spoils all. A head is gone after two
    runs at the latest, a failed one and one alone: each shared run that fails adds one to the bound
    above, which at worst is 2 k (R + 1).
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def add(self, request: Request) -> None:
        """Put a request at the end."""
        self.requests.append(request)

    def drop(self, request: Request) -> None:
        """Take a request out, wherever it stands; no matter if it is gone already."""
        self.requests = [r for r in self.requests if r is not request]

    def plan(self) -> list[Part]:
        """The next run, head first; nothing changes before `ran` or `failed`. Line not empty."""
        head = self.requests[0]
        if head.alone:
            return [(head, min(head.left, head.most))]
        room, parts = head.most, []
        for r in self.requests:
            if room and r.shape == head.shape and not r.alone:
                parts.append((r, min(r.left, room)))
                room -= parts[-1][1]
        return parts

    def full(self) -> bool:
        """True if waiting for more requests would keep somebody waiting for nothing."""
        head = self.requests[0]
        if any(r.shape != head.shape or r.alone for r in self.requests):
            return True
        return sum(r.left for r in self.requests) >= head.most

    def ran(self, parts: list[Part], outputs: Outputs) -> None:
        """Hand out the answers of a planned run. Requests may have come or gone since."""
        start = 0
        for request, n in parts:
            rows = tuple(o[start : start + n] for o in outputs)
            # Answers of different requesters share no memory: one that is kept would keep all.
            request.accept(rows if len(parts) == 1 else tuple(r.copy() for r in rows))
            start += n
        head = parts[0][0]
        again = [head] if not head.done and any(r is head for r in self.requests) else []
        self.requests = [r for r in self.requests if not r.done and r is not head] + again

    def failed(self, parts: list[Part], error: Exception) -> None:
        """One that ran alone leaves with the error; those that shared the run will run alone."""
        if len(parts) == 1:
            parts[0][0].error = error
        for request, _ in parts:
            request.alone = True
        self.requests = [r for r in self.requests if not r.done]


class Batcher:
    """Lets threads share runs. It has no thread of its own: one of those that wait leads.

    The leader plans a run, runs it while the line is open to others, hands out the answers, and
    goes on until its own request is done; then it wakes the head of the line to lead. So nobody
    works for others longer than it waits for itself, one run goes on at a time, and there is
    nothing to start or stop. See `Line` for the order and its bound.

    A run takes what queued up while the one before was busy. With a window, the leader also waits
    for others when the model is idle: until a run is full, until somebody with another shape is
    there, at the latest `window_ms` after the first one in line arrived. No request is kept waiting
    on purpose for longer than that, all its chunks together.

    `runs` and `rows` count what the model did, failed runs and second ones included; `shared` the
    runs that served more than one request.

    Args:
        run: runs rows of one shape; called by one thread at a time.
        window_ms: how long the first request may wait for others, ms; 0: never on purpose.

    Raises:
        ConfigError: for a window that is negative or not finite.
    """

    def __init__(self, run: Run, *, window_ms: float = 0.0) -> None:
        if not 0 <= window_ms < float("inf"):
            raise ConfigError(f"the batch window is {window_ms} ms, want 0 or more", fix="take 0")
        self._run = run
        self._window_s = window_ms / 1e3
        self._lock = threading.Lock()
        self._line = Line()
        self._woken: dict[Request, threading.Condition] = {}
        self._leader: Request | None = None
        self._running: list[Part] = []
        self._closed = False
        self.runs = 0
        self.rows = 0
        self.shared = 0

    @property
    def waiting(self) -> int:
        """Requests in line, those of the run that is going on included."""
        return len(self._line.requests)

    def submit(self, images: Images, tasks: Tasks, *, most: int) -> Outputs:
        """Have rows run; returns when all were.

        Args:
            images: (n, ...) float32, n >= 1; not to be changed meanwhile.
            tasks: (n,) int64.
            most: rows of a run of this shape; the same for all requests of the shape.

        Returns:
            The outputs of `run` for these rows.

        Raises:
            InferenceError: if the batcher is closed.
            Exception: what `run` raised on a run that had rows of this request alone; others go on.
                In each thread its own copy.
        """
        request = Request(images, tasks, most, time.monotonic())
        try:
            self._enter(request)
            while parts := self._wait(request):
                self._lead(parts)
        finally:  # after an interrupt, too: a line must not wait for somebody who has left
            self._leave(request)
        if request.error is not None:
            raise copy.copy(request.error) from request.error
        return request.outputs()

    def close(self) -> None:
        """Refuse new requests and those in line; the run that is going on is finished."""
        with self._lock:
            self._closed = True
            busy = {id(r) for r, _ in self._running}
            for r in [r for r in self._line.requests if id(r) not in busy]:
                self._refuse(r)

    def _enter(self, request: Request) -> None:
        with self._lock:
            if self._closed:
                raise _closed()
            self._woken[request] = threading.Condition(self._lock)
            self._line.add(request)
            if self._leader is None:
                self._leader = request
            else:
                self._woken[self._leader].notify()  # it may be waiting for company

    def _leave(self, request: Request) -> None:
        """Go, and let the head of the line lead if it was this request."""
        with self._lock:
            self._line.drop(request)
            self._woken.pop(request, None)
            if self._leader is request:
                self._running = []
                self._leader = self._line.requests[0] if self._line.requests else None
                if self._leader is not None:
                    self._woken[self._leader].notify()

    def _wait(self, request: Request) -> list[Part]:
        """The next run when it is this request's turn to lead; empty when it is done."""
        with self._lock:
            woken = self._woken[request]
            woken.wait_for(lambda: request.done or self._leader is request)
            while not (request.done or self._line.full()):
                first = min(r.arrived for r in self._line.requests)
                left = first + self._window_s - time.monotonic()
                if left <= 0:
                    break
                woken.wait(left)
            if request.done:
                return []
            self._running = self._line.plan()
            return self._running

    def _lead(self, parts: list[Part]) -> None:
        """Run what was planned and tell those that were in it."""
        outputs: Outputs = ()
        error: Exception | None = None
        try:
            if len(parts) == 1:  # no copy
                r, n = parts[0]
                outputs = self._run(r.images[r.ran : r.ran + n], r.tasks[r.ran : r.ran + n])
            else:
                images = np.concatenate([r.images[r.ran : r.ran + n] for r, n in parts])
                tasks = np.concatenate([r.tasks[r.ran : r.ran + n] for r, n in parts])
                outputs = self._run(images, tasks)
        except Exception as e:  # theirs as well as mine
            error = e
        with self._lock:
            self._running = []
            self.runs += 1
            self.rows += sum(n for _, n in parts)
            self.shared += len(parts) > 1 and error is None
            if error is None:
                self._line.ran(parts, outputs)
            else:
                self._line.failed(parts, error)
            for r in (r for r, _ in parts if r in self._woken):  # others were interrupted
                if r.done:
                    self._woken[r].notify()
                elif self._closed:
                    self._refuse(r)

    def _refuse(self, request: Request) -> None:
        request.error = _closed()
        self._line.drop(request)
        self._woken[request].notify()


def _closed() -> InferenceError:
    return InferenceError("the model was closed", fix="load the bundle again")
