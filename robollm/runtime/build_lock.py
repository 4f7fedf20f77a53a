"""One build at a time fills a gallery: the second one is told at once, not after an hour."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from robollm.core.errors import GalleryError
from robollm.gallery.schema import ours

NAME = "build.lock"


@contextmanager
def build_lock(folder: Path) -> Iterator[None]:
    """Hold the right to build into a gallery. The kernel takes it back however the process ends.

    Args:
        folder: the gallery.

    Raises:
        GalleryError: if another build has it: named; or its file can't be opened.
    """
    with ours(folder, "build into"):
        fd = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise GalleryError(
                f"another build is filling gallery {str(folder)!r}: {_holder(fd)}",
                fix="wait for its end; the same command then embeds only what is still missing",
            ) from e
        since = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "since": since}).encode(), 0)
        yield
    finally:
        os.close(fd)


def _holder(fd: int) -> str:
    try:
        note = json.loads(os.pread(fd, 1000, 0))
        return f"process {note['pid']} since {note['since']}"
    except (ValueError, KeyError, TypeError):
        return "it began this very moment"
