"""What a check of this machine found, told so that it can be pasted into a public issue."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

OK, WARN, FAIL, NONE = "ok", "warn", "fail", "none"
FORMAT, FORMAT_VERSION = "robollm-doctor", 1
_PLAIN_USERS = {"root", "ros", "robot", "robollm", "user", "ubuntu", "admin", "runner"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about this machine.

    Attributes:
        part: what was looked at, unique in a report.
        state: "ok"; "warn": works, but slower or less than it could; "fail": something that is
            needed does not work; "none": something optional that is not here.
        what: what was seen, one line.
        fix: one action; empty where there is nothing to do.
    """

    part: str
    state: str
    what: str
    fix: str = ""


def report(findings: Iterable[Finding]) -> dict[str, Any]:
    """All findings as JSON, redacted.

    Returns:
        format, format_version, `ok` (nothing failed), how many of each state, the findings.
    """
    clean = redacted(findings)
    states = [f.state for f in clean]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "ok": FAIL not in states,
        "states": {s: states.count(s) for s in (OK, WARN, FAIL, NONE)},
        "findings": [asdict(f) for f in clean],
    }


def redacted(findings: Iterable[Finding]) -> list[Finding]:
    """The same, without host name, user name and paths under a home folder.

    Fixes are our own words and stay as they are.
    """
    hide = Redaction.of_this_machine()
    return [replace(f, what=hide(f.what)) for f in findings]


@dataclass(frozen=True, slots=True)
class Redaction:
    """Takes out of a text what says whose machine it comes from.

    Attributes:
        homes: home folders; a path under one becomes `~/...`.
        words: whole words, and what is written in place of them.
    """

    homes: tuple[str, ...]
    words: tuple[tuple[str, str], ...]

    @classmethod
    def of_this_machine(cls) -> Redaction:
        """The home folder, host and user of this process."""
        homes = {os.environ.get("HOME", ""), str(_home())}
        host = socket.gethostname()
        hosts = {host, host.partition(".")[0]}
        users = {os.environ.get(k, "") for k in ("USER", "LOGNAME", "SUDO_USER")} | {_user()}
        # A name that thousands of machines have tells nothing, and is a word of our own texts.
        named = [(h, "<host>") for h in hosts - {"localhost"}]
        named += [(u, "<user>") for u in users - _PLAIN_USERS]
        long = sorted((p for p in named if len(p[0]) > 2), key=lambda p: -len(p[0]))
        return cls(tuple(sorted(h for h in homes if len(h) > 1)), tuple(long))

    def __call__(self, text: str) -> str:
        """The text without them."""
        for home in (
            *map(re.escape, self.homes),
            r"/home/[^/\s'\":;,)]+",
            r"/Users/[^/\s'\":;,)]+",
        ):
            text = re.sub(home + r"(?![\w.-])(/[^\s'\":;,)]*)?", _short, text)
        for word, instead in self.words:
            text = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", instead, text)
        return text


def _short(found: re.Match[str]) -> str:
    return "~/..." if found[1] else "~"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # neither HOME nor an entry of this user
        return Path()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in many containers
        return ""
