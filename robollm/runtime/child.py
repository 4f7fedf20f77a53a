"""Ask another Python process: what ends it, be it a signal, does not end us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARK = "robollm-child "
"""Begins the lines that we read; a library may print others."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended.

    Attributes:
        code: exit code, minus the signal, or None if its time was over.
        said: the JSON objects that it printed with `say`, in order.
        last: the last line of its stderr.
    """

    code: int | None
    said: tuple[Mapping[str, Any], ...]
    last: str

    @property
    def why(self) -> str:
        """How it ended, for people; empty if well."""
        if self.code == 0:
            return ""
        if self.code is None:
            return "took too long and was ended"
        if self.code < 0:
            name = signal.Signals(-self.code).name
            hint = ", an instruction that this processor lacks" if name == "SIGILL" else ""
            return f"ended by {name}{hint}"
        return self.last or f"exit code {self.code}"


def ask(words: Sequence[str], *, limit_s: float, env: Mapping[str, str] | None = None) -> Ended:
    """Run Python with these arguments and wait.

    Args:
        words: as after `python` on a command line.
        limit_s: ended after so many seconds.
        env: variables on top of ours.
    """
    order = [sys.executable, *words]
    inherited = {**os.environ, "PYTHONIOENCODING": "utf-8", **(env or {})}
    try:
        done = subprocess.run(
            order,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=limit_s,
            env=inherited,
        )
    except subprocess.TimeoutExpired as e:
        return Ended(None, _said(_text(e.stdout)), "")
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return Ended(done.returncode, _said(done.stdout), lines[-1] if lines else "")


def say(**facts: Any) -> None:
    """Print one object for `ask`, at once: the next step may be the last."""
    print(MARK + json.dumps(facts), flush=True)


def _text(output: bytes | str | None) -> str:
    # After a timeout it is bytes, whatever encoding was asked for.
    return output.decode("utf-8", "replace") if isinstance(output, bytes) else output or ""


def _said(stdout: str) -> tuple[Mapping[str, Any], ...]:
    marked = (line.removeprefix(MARK) for line in stdout.splitlines() if line.startswith(MARK))
    return tuple(json.loads(line) for line in marked)
