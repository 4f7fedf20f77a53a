"""The vector file: raw little-endian float16, (slots, dim), written only at its end.

What lies behind the committed slots is the rest of a writer that died; the next one writes over it.
The file is never cut shorter: readers have it mapped.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import GalleryError
from robollm.gallery.schema import DamagedError, damaged, sync_folder

DTYPE = np.dtype("<f2")
EXTENT = 4096
"""Slots under one CRC-32: commits that are small share one, so that there are few."""

Extent = tuple[int, int, int]
"""(first slot, number of slots, CRC-32 of their bytes)."""


def file_name(number: int) -> str:
    """Name of the n-th vector file of a gallery."""
    return f"vectors-{number:06d}.fp16"


def file_number(name: str) -> int:
    """Which one a vector file is."""
    return int(name.removeprefix("vectors-").removesuffix(".fp16"))


def unit_rows(vectors: NDArray[np.floating], names: Sequence[str], dim: int) -> NDArray[np.float16]:
    """Normalise vectors and round them to what is stored.

    Args:
        vectors: (N, D) float.
        names: of the images, for the message.
        dim: the D that is wanted.

    Returns:
        (N, D) little-endian float16, unit length within rounding.

    Raises:
        GalleryError: if the shape is another, or a vector is zero or not finite.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dim or len(vectors) != len(names):
        raise GalleryError(
            f"vectors are {vectors.shape} for {len(names)} images, want ({len(names)}, {dim})",
            fix="embed the images with the bundle that made the gallery",
        )
    exact = vectors.astype(np.float64)
    length = np.linalg.norm(exact, axis=1)
    bad = np.flatnonzero(~(np.isfinite(length) & (length > 1e-6)))
    if len(bad):
        raise GalleryError(
            f"the vector of {names[bad[0]]!r} is zero or not finite",
            fix="look at that reference image, and leave it out if it shows nothing",
        )
    return np.ascontiguousarray(exact / length[:, None], DTYPE)


class VectorsGoneError(DamagedError):
    """The vector file is not there: a compaction ended in this moment, or it was deleted."""


class VectorWriter:
    """Appends to a vector file and sums up what it appends.

    Args:
        file: the vector file; made if it is missing and `slots` is 0.
        dim: length of a vector.
        slots: how many are committed.
        last: the last committed extent, which is continued while it is short.
    """

    def __init__(self, file: Path, dim: int, slots: int, last: Extent | None) -> None:
        new = slots == 0 and not file.exists()
        self._fd = os.open(file, os.O_RDWR | (os.O_CREAT if new else 0), 0o644)
        self._row = dim * DTYPE.itemsize
        self._written = False
        self.slots = slots
        self.extents: dict[int, Extent] = {}
        self._last = last
        try:
            if os.fstat(self._fd).st_size < slots * self._row:
                raise damaged(file.parent, f"{file.name} is shorter than {slots} vectors")
            if new:
                sync_folder(file.parent)
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, rows: NDArray[np.float16]) -> None:
        """Write (N, D) float16 at the end."""
        self._written = True
        start = 0
        while start < len(rows):
            if self._last is None or self._last[1] >= EXTENT:
                self._last = (self.slots, 0, 0)
            first, count, crc = self._last
            block = rows[start : start + EXTENT - count].tobytes()
            self._write(block, self.slots * self._row)
            n = len(block) // self._row
            self._last = self.extents[first] = (first, count + n, zlib.crc32(block, crc))
            self.slots += n
            start += n

    def _write(self, block: bytes, offset: int) -> None:
        view = memoryview(block)
        while view:
            done = os.pwrite(self._fd, view, offset)
            view, offset = view[done:], offset + done

    def sync(self) -> None:
        """Wait until the disk has what was appended."""
        if self._written:
            os.fsync(self._fd)
            self._written = False

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def map_vectors(file: Path, dim: int, slots: int) -> NDArray[np.float16]:
    """The committed vectors, (slots, dim) float16, read-only, mapped.

    Raises:
        VectorsGoneError: if there is no such file: read the rows again.
        GalleryError: if the file is too short.
    """
    want = slots * dim * DTYPE.itemsize
    try:
        have = file.stat().st_size
        if 0 < want <= have:
            return np.memmap(file, DTYPE, "r", shape=(slots, dim))
    except FileNotFoundError as e:
        error = damaged(file.parent, f"{file.name} is missing")
        raise VectorsGoneError(error.what, fix=error.fix) from e
    if have < want:
        raise damaged(
            file.parent, f"{file.name} has {have} bytes, want {want} or more for {slots} vectors"
        )
    return np.zeros((0, dim), DTYPE)


def broken_extents(vectors: NDArray[np.float16], extents: Sequence[Extent]) -> list[Extent]:
    """The extents whose bytes are not those that were written; reads all of them."""
    raw = vectors.view(np.uint8)

    def good(extent: Extent) -> bool:
        first, count, crc = extent
        return zlib.crc32(raw[first : first + count].data) == crc

    workers = min(len(os.sched_getaffinity(0)), len(extents)) or 1
    if workers == 1:
        return [e for e in extents if not good(e)]
    with ThreadPoolExecutor(workers, "robollm-crc") as pool:  # zlib lets go of the interpreter
        return [e for e, ok in zip(extents, pool.map(good, extents), strict=True) if not ok]


def holes(extents: Sequence[Extent], slots: int) -> str:
    """What is wrong with how extents, by first slot, cover the slots; empty: nothing."""
    end = 0
    for first, count, _ in extents:
        if first != end or count < 1:
            return f"slots {end} to {first} have no checksum" if first > end else "extents overlap"
        end += count
    return "" if end == slots else f"checksums cover {end} slots of {slots}"


def no_progress(done: int, total: int) -> None:
    """Nobody watches."""


Progress = Callable[[int, int], None]
"""Called with (done, total)."""
