"""A program that answers JSON lines with JSON lines, kept at arm's length: it may die or hang."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from robollm.core.errors import RobollmError

_LAST_LINES = 8
_GOODBYE_S = 5.0  # for ending by itself, before it is killed


class RenderError(RobollmError):
    """The rendering program failed, died or took too long. No picture was made."""


class Servant:
    """A child process that takes one job a line on stdin and answers each with one line.

    What it says on stderr goes to a nameless file, which is emptied before each job: it can't
    fill a pipe or a disk, and its last lines are in the error if the process dies.

    Args:
        command: program and arguments.
        name: what to call it in errors.
        start_s: how long it may take to say its first line.

    Raises:
        RenderError: if it can't be started, or doesn't get as far as its first line.
    """

    def __init__(self, command: Sequence[str], *, name: str, start_s: float = 120.0) -> None:
        self._name = name
        self._rest = b""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        # Its own session: a Ctrl-C on the terminal is ours to handle. -I of Python and this
        # environment keep our packages out of the other interpreter.
        env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
                env=env, start_new_session=True,
            )  # fmt: skip
        except OSError as e:
            self._stderr.close()
            raise RenderError(
                f"{name} can't be started: {e}", fix=f"is {command[0]} an interpreter?"
            ) from e
        try:
            self.hello = self._answer(start_s, "start")
        except RenderError:
            self.close()
            raise

    def __enter__(self) -> Servant:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def ask(self, job: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a job and wait for its answer.

        Args:
            job: plain JSON values; `job["job"]` is its name.
            timeout_s: after that the process is killed.

        Raises:
            RenderError: if the job failed, or the process died or didn't answer in time.
        """
        self._stderr.seek(0)
        self._stderr.truncate()
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps(job).encode() + b"\n")
            pipe.flush()
        except (OSError, ValueError) as e:
            raise self._died(str(job["job"])) from e
        answer = self._answer(timeout_s, str(job["job"]))
        if not answer.get("ok"):
            raise RenderError(f"{self._name} failed at {job['job']!r}: {answer.get('error')}")
        return answer

    def close(self) -> None:
        """End the process, by force if it doesn't listen. Safe to call again."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.close()  # the end of stdin is its cue
        try:
            self._process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            self._kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answer(self, timeout_s: float, job: str) -> dict[str, Any]:
        line = self._line(time.monotonic() + timeout_s)
        if line is None:
            last = self._last_words()
            self._kill()
            raise RenderError(
                f"{self._name} did not answer {job!r} within {timeout_s:g} s and was ended{last}",
                fix="raise timeout_s, or take fewer samples or a smaller picture",
            )
        if not line:
            raise self._died(job)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self._kill()
            raise RenderError(f"{self._name} answered {line[:80]!r} to {job!r}, want a JSON object")
        return answer

    def _line(self, deadline: float) -> bytes | None:
        """Return the next line, b"" at the end of the stream, or None if it takes too long."""
        stream = self._process.stdout
        assert stream is not None
        while b"\n" not in self._rest:
            ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            more = os.read(stream.fileno(), 65536)
            if not more:
                return b""
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line + b"\n"

    def _died(self, job: str) -> RenderError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GOODBYE_S)
        code = self._process.poll()
        how = "closed its output" if code is None else f"ended with code {code}"
        return RenderError(f"{self._name} {how} at {job!r}{self._last_words()}")

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return "; its last words:\n    " + "\n    ".join(lines[-_LAST_LINES:]) if lines else ""
