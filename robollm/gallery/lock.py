"""One writer at a time, and who it is; and the note that proves that no commit went missing.

SQLite's lock does the work and ends with the process that holds it. The note beside it is only for
the message that the waiting one shows.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from robollm.core.errors import GalleryBusyError
from robollm.gallery.schema import damaged, ours

WRITER = "writer.json"
GENERATION = "generation"


def now() -> str:
    """This moment, ISO 8601 in UTC, whole seconds."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def begin(conn: sqlite3.Connection, folder: Path, wait_s: float) -> None:
    """Begin a writing transaction; waits for another writer.

    Args:
        conn: connection to write with.
        folder: the gallery.
        wait_s: how long to wait.

    Raises:
        GalleryBusyError: if another process still writes then: it is named.
    """
    conn.execute(f"PRAGMA busy_timeout={round(wait_s * 1000)}")
    with ours(folder, "write to"):
        try:
            conn.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as e:
            if "locked" not in str(e):
                raise
            raise GalleryBusyError(
                f"gallery {str(folder)!r} is being written by {_holder(folder)}; "
                f"waited {wait_s:g} s",
                fix="wait until it is done, or end it; nothing that it committed is lost then",
            ) from e
        note = {"pid": os.getpid(), "since": now(), "command": Path(sys.argv[0]).name}
        with suppress(OSError):  # a full disk must not keep `remove` and `compact` from work
            (folder / WRITER).write_text(json.dumps(note))


def end(folder: Path) -> None:
    """Take the writer's note away; just before its transaction ends, or it may be another's."""
    (folder / WRITER).unlink(missing_ok=True)


def _holder(folder: Path) -> str:
    try:
        note = json.loads((folder / WRITER).read_bytes())
        return f"process {note['pid']} ({note['command']}) since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process, which left no name"


def note_generation(folder: Path, generation: int) -> None:
    """Note what is committed, after the commit: see `check_generation`."""
    fd = os.open(folder / GENERATION, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(fd, f"{generation:020d}\n".encode(), 0)
    finally:
        os.close(fd)


def noted_generation(folder: Path) -> int:
    """The last generation noted; to be read before the transaction that is checked with it."""
    try:
        return int((folder / GENERATION).read_bytes())
    except (FileNotFoundError, ValueError):
        return 0  # no commit yet, or a crash in the very moment: older is always possible


def check_generation(folder: Path, noted: int, found: int) -> None:
    """Raise `GalleryError` if commits are missing.

    A damaged or forgotten write-ahead log looks to SQLite like commits that never were.
    """
    if found < noted:
        raise damaged(
            folder,
            f"its database is at generation {found}, but {noted} was committed: the file "
            f"gallery.sqlite-wal is missing or damaged, or was copied at another moment than the "
            f"rest (to go on with the older state on purpose, delete the file {GENERATION!r})",
        )
