"""A hidden folder beside the one that will be: held while its process lives, else swept away."""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path


class PartFolder:
    """Made at once; the kernel's lock on it goes with its process, so nobody else removes it.

    Those that killed processes left for the same final name are removed before.

    Args:
        final: what it is for; missing parents are made.

    Attributes:
        path: the folder.

    Raises:
        OSError: if it can't be made.
    """

    def __init__(self, final: Path) -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        _sweep(final)
        while True:
            self.path = final.parent / f".{final.name}.{secrets.token_hex(4)}.part"
            self.path.mkdir()
            try:
                self._fd = _lock(self.path)
            except (FileNotFoundError, BlockingIOError):
                continue  # swept before it was held: another name
            except OSError:  # a share without locks: nothing is swept there
                self._fd = -1
            if self.path.exists():
                return
            self.remove()

    def remove(self) -> None:
        """Remove it with all that is in it, and let go. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _lock(path: Path) -> int:
    """Raises `BlockingIOError` if another process has it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _sweep(final: Path) -> None:
    for part in final.parent.glob(f".{glob.escape(final.name)}.*.part"):
        with suppress(OSError):  # held by a process that lives, or no folder of ours
            fd = _lock(part)
            shutil.rmtree(part, ignore_errors=True)
            os.close(fd)
