"""What can be read of an mcap file, read from its front: no index and no end are needed.

Chunks are checked against their CRC; one that fails is left out as a whole. Of a chunk that is cut
off, what is there is taken. Source: the MCAP specification, version 0 (mcap.dev/spec).
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robollm.core.errors import BagError
from robollm.data.mcap_unpack import unpack

MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _CHUNK_INDEX = 2, 3, 4, 5, 6, 8
_STATISTICS, _DATA_END = 11, 15
_KEPT_CHUNKS = 4  # decompressed; neighbours overlap in time
_MOST_SUMMARY = 1 << 28  # bytes; a chunk takes about a hundred
_HEAD = struct.Struct("<BQ")
_OF_MESSAGE = struct.Struct("<HIQQ")
_OF_CHUNK = struct.Struct("<QQQI")


class Channel(NamedTuple):
    """A topic of the file: name, message type, how that is defined (ros2msg, ros2idl), the text."""

    topic: str
    msgtype: str
    encoding: str
    definition: str


class Row(NamedTuple):
    """One message: time of recording, ns, its channel, and its bytes."""

    log_ns: int
    channel: Channel
    raw: bytes


class _Place(NamedTuple):
    """Where a chunk's packed records are."""

    at: int
    size: int
    compression: str
    whole: int


class McapScan:
    """One file, read as far as it goes.

    Args:
        path: the file.

    Attributes:
        channels: id -> topic, of those in CDR.
        reasons: what is wrong, in words.
        promised: messages that the file says it has; None: it doesn't say.

    Raises:
        BagError: if it is no mcap file, or can't be read at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.channels: dict[int, Channel] = {}
        self.reasons: list[str] = []
        self.promised: int | None = None
        self._schemas: dict[int, tuple[str, str, str]] = {}
        self._waiting: dict[int, tuple[int, str]] = {}  # channels whose schema comes later
        self._chunks: list[_Place] = []
        self._open: OrderedDict[int, bytes] = OrderedDict()
        self._log, self._at, self._size = array("q"), array("q"), array("q")
        self._chunk, self._channel = array("q"), array("q")
        self._index: list[int] | None = None
        self._ended = False
        try:
            self._fd = os.open(path, os.O_RDONLY)
        except OSError as e:
            raise BagError(f"{path} can't be read: {e.strerror}", fix="check the file") from e
        try:
            self._end = os.fstat(self._fd).st_size
            if self._read(0, len(MAGIC)) != MAGIC:
                raise BagError(
                    f"{path} is no mcap file: it begins with {self._read(0, 8)!r}",
                    fix="copy it again",
                )
            self._scan()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        """Messages that can be read."""
        return len(self._log)

    def counts(self) -> dict[int, int]:
        """Channel id -> messages that can be read."""
        ids, counts = np.unique(np.array(self._channel, np.int64), return_counts=True)
        return dict(zip(ids.tolist(), counts.tolist(), strict=True))

    def rows(self) -> Iterator[Row]:
        """The messages by time of recording; of one time as they are in the file."""
        for i in np.argsort(np.array(self._log, np.int64), kind="stable").tolist():
            chunk, at, size = self._chunk[i], self._at[i], self._size[i]
            raw = self._records(chunk)[at : at + size] if chunk >= 0 else self._read(at, size)
            yield Row(self._log[i], self.channels[self._channel[i]], raw)

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _read(self, at: int, size: int) -> bytes:
        return os.pread(self._fd, size, at)

    def _scan(self) -> None:
        at = len(MAGIC)
        while not self._ended and at < self._end:
            code, size = self._head(at)
            if code == 0 or code == _CHUNK_INDEX:
                at = self._after_damage(at)
                continue
            if at + _HEAD.size + size > self._end:
                if any(start > at for start in self._starts()):
                    at = self._after_damage(at)  # its size is wrong: the file has its end
                    continue
                self._cut_off(code, at + _HEAD.size)
                break
            self._record(code, at + _HEAD.size, size)
            at += _HEAD.size + size
        if not self._ended:
            self.reasons.append(f"{self.path.name} has no end: its recording or copy was cut off")
        self._summary()
        self._resolve()

    def _head(self, at: int) -> tuple[int, int]:
        """Code and size of a record; code 0: there is none."""
        raw = self._read(at, _HEAD.size)
        if len(raw) < _HEAD.size:
            return 0, 0
        code, size = _HEAD.unpack(raw)
        known = 1 <= code <= _DATA_END or code >= 0x80
        return (int(code), int(size)) if known else (0, 0)

    def _record(self, code: int, at: int, size: int) -> None:
        if code == _MESSAGE:
            self._message(-1, at, size, self._read(at, _OF_MESSAGE.size))
        elif code == _CHUNK:
            self._take_chunk(at, size, cut=False)
        elif code in (_SCHEMA, _CHANNEL):
            self._define(code, self._read(at, size))
        elif code == _DATA_END:
            self._ended = True

    def _cut_off(self, code: int, at: int) -> None:
        if code == _CHUNK:
            before = len(self)
            self._take_chunk(at, self._end - at, cut=True)
            self.reasons.append(
                f"the last chunk of {self.path.name} is cut off: {len(self) - before} messages of "
                "it are read, without its checksum"
            )

    def _after_damage(self, at: int) -> int:
        """Where to go on: the next chunk that the file's own index knows."""
        later = [start for start in self._starts() if start > at]
        self.reasons.append(
            f"{self.path.name} is damaged at byte {at}"
            + ("" if later else ", and nothing tells where the next chunk begins")
        )
        return min(later, default=self._end)

    def _take_chunk(self, at: int, size: int, *, cut: bool) -> None:
        raw = self._read(at, min(size, _OF_CHUNK.size + 300))
        if len(raw) < _OF_CHUNK.size + 4:
            return
        _, _, whole, crc = _OF_CHUNK.unpack_from(raw)
        try:
            compression, inner = _text(raw, _OF_CHUNK.size)
        except (struct.error, UnicodeDecodeError):
            self.reasons.append(f"a chunk of {self.path.name} at byte {at} can't be read")
            return
        begin = at + inner + 8
        place = _Place(begin, size - inner - 8, compression, whole)
        number = len(self._chunks)
        self._chunks.append(place)
        try:
            records = self._records(number)
        except BagError as e:
            self.reasons.append(e.what)
            return
        if not cut and (len(records) != whole or (crc and zlib.crc32(records) != crc)):
            self.reasons.append(f"a chunk of {self.path.name} at byte {at} fails its checksum")
            self._open.pop(number, None)
            return
        self._take_records(number, records, cut)

    def _take_records(self, number: int, records: bytes, cut: bool) -> None:
        at, first = 0, len(self)
        while at + _HEAD.size <= len(records):
            code, size = _HEAD.unpack_from(records, at)
            at += _HEAD.size
            if at + size > len(records) and cut:
                return
            if code == 0 or at + size > len(records):
                # Something was written over the chunk; where it began, nobody knows.
                self._drop_last(len(self) > first)
                self.reasons.append(f"a chunk of {self.path.name} holds what is no record")
                return
            if code == _MESSAGE:
                self._message(number, at, size, records[at : at + _OF_MESSAGE.size])
            elif code in (_SCHEMA, _CHANNEL):
                self._define(code, records[at : at + size])
            at += size

    def _drop_last(self, there: bool) -> None:
        for column in (self._log, self._at, self._size, self._chunk, self._channel):
            if there:
                column.pop()

    def _records(self, number: int) -> bytes:
        """The unpacked records of a chunk; the last few stay in memory."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        place = self._chunks[number]
        packed = self._read(place.at, place.size)
        try:
            records = unpack(packed, place.compression, place.whole)
        except Exception as e:  # whatever the library for it raises
            raise BagError(
                f"a chunk of {self.path.name} at byte {place.at} can't be unpacked "
                f"({place.compression}): {e}",
                fix="copy it again",
            ) from e
        self._open[number] = records
        if len(self._open) > _KEPT_CHUNKS:
            self._open.popitem(last=False)
        return records

    def _message(self, chunk: int, at: int, size: int, head: bytes) -> None:
        if size < _OF_MESSAGE.size or len(head) < _OF_MESSAGE.size:
            return
        channel, _, log_ns, _ = _OF_MESSAGE.unpack(head)
        self._log.append(min(log_ns, 2**63 - 1))
        self._chunk.append(chunk)
        self._channel.append(channel)
        self._at.append(at + _OF_MESSAGE.size)
        self._size.append(size - _OF_MESSAGE.size)

    def _define(self, code: int, raw: bytes) -> None:
        try:
            (number,) = struct.unpack_from("<H", raw)
            if code == _SCHEMA:
                name, at = _text(raw, 2)
                encoding, at = _text(raw, at)
                text, _ = _text(raw, at)
                self._schemas[number] = (name, encoding, text)
            else:
                (schema,) = struct.unpack_from("<H", raw, 2)
                topic, at = _text(raw, 4)
                encoding, _ = _text(raw, at)
                if encoding == "cdr":
                    self._waiting[number] = (schema, topic)
        except (struct.error, UnicodeDecodeError):
            self.reasons.append(f"a definition in {self.path.name} can't be read")

    def _tail(self) -> bytes:
        """The summary section; empty: the file has no end."""
        size = _HEAD.size + 20 + len(MAGIC)
        raw = self._read(max(0, self._end - size), size)
        if len(raw) < size or raw[-len(MAGIC) :] != MAGIC or raw[0] != _FOOTER:
            return b""
        (start,) = struct.unpack_from("<Q", raw, _HEAD.size)
        length = self._end - size - start
        return self._read(start, length) if start > 0 and 0 < length <= _MOST_SUMMARY else b""

    def _in_summary(self, wanted: int) -> Iterator[bytes]:
        raw, at = self._tail(), 0
        while at + _HEAD.size <= len(raw):
            code, size = _HEAD.unpack_from(raw, at)
            at += _HEAD.size
            if code == wanted:
                yield raw[at : at + size]
            at += size

    def _starts(self) -> list[int]:
        """Where the chunks begin, as the file's own index says."""
        if self._index is None:
            rows = [raw for raw in self._in_summary(_CHUNK_INDEX) if len(raw) >= 24]
            self._index = [int(struct.unpack_from("<Q", raw, 16)[0]) for raw in rows]
        return self._index

    def _summary(self) -> None:
        for raw in self._in_summary(_STATISTICS):
            self.promised = int(struct.unpack_from("<Q", raw)[0])
        for code in (_SCHEMA, _CHANNEL):  # theirs may have been in a chunk that is damaged
            for raw in self._in_summary(code):
                self._define(code, raw)

    def _resolve(self) -> None:
        """Leave out messages of channels that nothing describes."""
        for number, (schema, topic) in self._waiting.items():
            if schema in self._schemas:
                self.channels[number] = Channel(topic, *self._schemas[schema])
        keep = np.isin(np.array(self._channel, np.int64), list(self.channels))
        if keep.all():
            return
        self.reasons.append(
            f"{int((~keep).sum())} messages of {self.path.name} are of channels that are not "
            "described, or not in CDR"
        )
        for name in ("_log", "_at", "_size", "_chunk", "_channel"):
            kept = np.array(getattr(self, name), np.int64)[keep]
            setattr(self, name, array("q", kept.tolist()))


def _text(raw: bytes, at: int) -> tuple[str, int]:
    """A string with its length before it, and where it ends."""
    (size,) = struct.unpack_from("<I", raw, at)
    end = at + 4 + size
    if end > len(raw):
        raise struct.error("a string is cut off")
    return raw[at + 4 : end].decode(), end
