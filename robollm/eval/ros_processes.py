"""The ROS programs of an evaluation, as processes: started, watched, ended. No ROS in here."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from robollm.core.errors import EvalError
from robollm.eval.records import Json

DOMAINS = range(1, 101)  # above, DDS ports meet Linux' ephemeral ones; 0 is everybody's
STOP_S = 40.0  # nodes answer what is open before they end
TAIL_LINES = 12
LOOK_S = 0.5
GOES_ON = (
    "repair that, then run the same command again: it goes on with the picks that have no answer"
)
# It ends with its parent, however that ends: nodes that nobody stops would keep their memory.
# The signal comes only if the parent ends after it was asked for, so what came before is looked up.
_PROGRAM = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGINT); "
    "os.getppid() == {parent} or sys.exit(130); "
    "from robollm.nodes.{module} import main; sys.exit(main())"
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Child:
    """One program of `robollm.nodes`. Use it in a `with` block: the end is the program's, too.

    Args:
        module: in `robollm.nodes`, with a `main`.
        words: its arguments.
        environment: its environment.
        log: file that gets what it says on stderr, and on stdout unless `talks`.
        talks: `lines` gives its stdout.
    """

    def __init__(
        self,
        module: str,
        words: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        talks: bool = True,
    ) -> None:
        self.module, self.log = module, log
        with log.open("ab") as out:
            self._begin = out.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(module=module, parent=os.getpid()), *words],
                stdout=subprocess.PIPE if talks else out,
                stderr=out,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C is ours: we end it in order
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """True if it ended by itself."""
        return self._process.poll() is not None

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        return self._process.wait()

    def tail(self) -> str:
        """The end of its log, of this start."""
        with self.log.open("rb") as f:
            f.seek(max(self._begin, self.log.stat().st_size - 8000))
            text = _COLOURS.sub("", f.read().decode(errors="replace"))
        return "\n".join(f"  | {line}" for line in text.splitlines()[-TAIL_LINES:])

    def lines(self, watch: Callable[[], None]) -> Iterator[Json]:
        """The JSON objects on its stdout, one a line, until it ends.

        Args:
            watch: called twice a second; what it raises ends the iteration.

        Raises:
            EvalError: for a line that is something else.
        """
        said: queue.SimpleQueue[bytes] = queue.SimpleQueue()

        def read() -> None:
            assert self._process.stdout is not None
            for line in self._process.stdout:
                said.put(line)
            said.put(b"")

        threading.Thread(target=read, daemon=True).start()
        while True:
            watch()
            try:
                line = said.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if not line:
                return
            try:
                yield dict(json.loads(line))
            except (ValueError, TypeError) as e:
                raise EvalError(
                    f"{self.module} said {line[:80]!r}, want one JSON object per line",
                    fix=f"does something else print there? see {self.log}",
                ) from e

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        """End it as Ctrl-C would; kill it if it doesn't."""
        if not self.ended:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def refuse_dead(child: Child | None) -> None:
    """Notice that a program that has to run does not.

    Raises:
        EvalError: with the end of its log.
    """
    if child is not None and child.ended:
        raise EvalError(
            f"{child.module} ended with exit code {child.wait()}; its log ends with\n"
            f"{child.tail()}",
            fix=GOES_ON,
        )


def free_domain() -> int:
    """A ROS domain id whose first participant's port nobody has: two runs must not mix."""
    first = os.getpid() % len(DOMAINS)
    for domain in map(int, (*DOMAINS[first:], *DOMAINS[:first])):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            try:  # the port rule of the DDS interoperability standard (DDSI-RTPS 9.6.1)
                s.bind(("", 7410 + 250 * domain))
            except OSError:
                continue
            return domain
    raise EvalError(
        "all ROS domains of this machine are in use", fix="end some of the ROS programs"
    )


def environment(logs: Path) -> dict[str, str]:
    """The environment of ROS programs: large images, this machine only, a domain of their own.

    Args:
        logs: folder for ROS' own log files.
    """
    out = dict(os.environ)
    out.setdefault("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
    out.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    out |= {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": str(free_domain()),
        "ROS_LOG_DIR": str(logs),
        "PYTHONUNBUFFERED": "1",
    }
    return out
