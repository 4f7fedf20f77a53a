"""Reference images to vectors: threads read ahead, and the model doesn't wait for them."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import FrameError
from robollm.core.frame import Frame
from robollm.core.settings import RuntimeConfig
from robollm.data.images import decode_image
from robollm.runtime.backbone import BATCH_MAX
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.references import Picture, read_once

READERS = max(4, len(os.sched_getaffinity(0)))
"""Threads that read and decode: more than two cores need, because disks and shares answer late."""
AHEAD_BYTES = 256 << 20  # decoded pixels that wait; pictures of 12 megapixels have 36 MB each

T = TypeVar("T")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What became of one picture: embedded, known already, or bad.

    Attributes:
        picture: which.
        sha256: digest of the file as it was read; empty if it could not be.
        vector: (D,) float32, unit length; None: not embedded.
        why_bad: what is wrong with it; empty: nothing.
    """

    picture: Picture
    sha256: str
    vector: NDArray[np.float32] | None = None
    why_bad: str = ""


class Embedding(Protocol):
    """A way to embed pictures. All ways give the same vectors in the same order."""

    def __call__(self, pictures: Sequence[Picture], known: Mapping[str, str]) -> Generator[Seen]:
        """Look at every picture once.

        Pictures that are not known as they are come in the order given; the others anywhere.

        Args:
            pictures: in an order that doesn't change.
            known: source -> sha256 of those that need not be embedded again.

        Raises:
            InferenceError: if the model fails.
        """
        ...  # pragma: no cover


def batch_of(config: RuntimeConfig) -> int:
    """Files in one call of the model; what of them is bad leaves a hole, so all ways agree."""
    return max(BATCH_MAX, config.batch_max)


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """A picture that was read, with its pixels if the model has to see them."""

    seen: Seen
    frame: Frame | None = None


class LocalEmbedding:
    """Embeds with a model in this process.

    Args:
        perceiver: the model.
    """

    def __init__(self, perceiver: Perceiver) -> None:
        self._perceiver = perceiver

    def __call__(self, pictures: Sequence[Picture], known: Mapping[str, str]) -> Generator[Seen]:
        """See `Embedding`."""
        batch = batch_of(self._perceiver.config)
        group: list[_Read] = []
        with ThreadPoolExecutor(READERS, "read picture") as pool:
            reads = in_order(
                pool,
                lambda p: self._read(p, known.get(p.source)),
                pictures,
                most=batch + 2 * READERS,
                size=lambda r: r.frame.pixels.nbytes if r.frame else 0,
            )
            try:
                for read in reads:
                    if known.get(read.seen.picture.source) == read.seen.sha256:
                        yield read.seen
                        continue
                    group.append(read)
                    if len(group) == batch:
                        yield from self._embed(group)
                        group = []
                if group:
                    yield from self._embed(group)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _read(self, picture: Picture, known: str | None) -> _Read:
        try:
            raw = read_once(picture.file)
        except FrameError as e:
            return _Read(Seen(picture, "", why_bad=e.what))
        digest = hashlib.sha256(raw).hexdigest()  # of the very bytes that are looked at
        if digest == known:
            return _Read(Seen(picture, digest))
        most = self._perceiver.config.max_image_side
        try:
            pixels = decode_image(raw, picture.file, upright=True, max_side=most)
        except FrameError as e:
            return _Read(Seen(picture, digest, why_bad=e.what))
        # Nothing is answered from the memory of another picture, or results would hang on it.
        frame = Frame(pixels, "rgb", stamp_ns=picture.number, stream=f"reference {digest}")
        return _Read(Seen(picture, digest), frame)

    def _embed(self, group: Sequence[_Read]) -> list[Seen]:
        frames = [r.frame for r in group if r.frame]
        vectors = iter(self._perceiver.embed_references(frames) if frames else ())
        return [
            Seen(r.seen.picture, r.seen.sha256, next(vectors)) if r.frame else r.seen for r in group
        ]


def in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[T], V],
    items: Iterable[T],
    *,
    most: int,
    size: Callable[[V], int] = lambda _: 0,
) -> Iterator[V]:
    """Work on threads ahead of whoever takes the results, which come in the order of `items`.

    Args:
        pool: the threads.
        work: called with each item.
        items: what to work on; taken one by one.
        most: items that are ahead.
        size: bytes that a result holds; while `AHEAD_BYTES` wait, or will if the next ones are like
            the last one taken, no more work is begun.

    Raises:
        Exception: what `work` raises, at its place in the order.
    """
    waiting: deque[Future[V]] = deque()
    source = iter(items)
    usual = 0

    def held_by(work: Future[V]) -> int:
        ready = work.done() and work.exception() is None
        return size(work.result()) if ready else usual

    while True:
        held = sum(map(held_by, waiting))
        while len(waiting) < most and (held < AHEAD_BYTES or not waiting):
            try:
                item = next(source)
            except StopIteration:
                break
            waiting.append(pool.submit(work, item))
            held += usual
        if not waiting:
            return
        result = waiting.popleft().result()
        usual = size(result)
        yield result
