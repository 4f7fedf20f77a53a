"""Bags that were cut off, lost a file or their index: what can be read, and what can't, counted.

`BagReader` takes whole bags only. This one goes through the files themselves, so it needs neither
metadata.yaml nor an index; of a whole bag both give the same messages in the same order.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, Any

import yaml

from robollm.core.errors import BagError
from robollm.data.bag import BagReader, Message, Topic
from robollm.data.bag_types import border, look_at, need_rosbags, typestore
from robollm.data.mcap_scan import Channel, McapScan
from robollm.data.sqlite_scan import SqliteScan

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

_ENCODINGS = {"ros2msg": "MSG", "ros2idl": "IDL"}
_METADATA = "metadata.yaml"


@dataclass(slots=True)
class Recovery:
    """What became of a bag.

    Attributes:
        read: messages that can be read.
        lost: messages that can't, as far as anything in the bag tells their number.
        reasons: what is wrong, in words; empty: nothing, the bag is whole.
    """

    read: int = 0
    lost: int = 0
    reasons: list[str] = field(default_factory=list)


class RecoveredBag:
    """Read what there is of one bag: a folder, or a single .mcap or .db3 file.

    Use it in a `with` block, or call `close`.

    Args:
        path: the bag.

    Attributes:
        path: the bag.
        topics: with the messages that can be read.
        recovery: what is lost.

    Raises:
        BagError: if it is missing, something else, or nothing of it can be read.
    """

    def __init__(self, path: str | Path) -> None:
        need_rosbags()
        self.path = Path(path)
        self.recovery = Recovery()
        self._store: Typestore | None = None
        self._files: list[McapScan | SqliteScan] = []
        self._whole: BagReader | None = None
        card = _card(self.path)
        if card.get("compression_mode"):
            # Packed by rosbag2 file by file, or message by message: only as a whole.
            self._whole = BagReader(self.path)
            self.topics = self._whole.topics
            self.recovery.read = sum(t.count for t in self.topics)
            return
        promised = self._open(card)
        counts: Counter[tuple[str, str]] = Counter()
        for one in self._files:
            for number, count in one.counts().items():
                counts[one.channels[number].topic, one.channels[number].msgtype] += count
        self.topics = [Topic(name, kind, n) for (name, kind), n in sorted(counts.items())]
        self.recovery.read = sum(counts.values())
        self.recovery.lost = max(0, promised - self.recovery.read)
        if not self.recovery.read:
            self.close()
            why = f": {'; '.join(self.recovery.reasons)}" if self.recovery.reasons else ""
            raise BagError(
                f"{self.path} has no message that can be read, want at least one{why}",
                fix="record it again",
            )
        if self.recovery.lost and not self.recovery.reasons:
            self.recovery.reasons.append("it has fewer messages than its index promises")

    def __enter__(self) -> RecoveredBag:
        """Nothing to do: the bag is open already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the bag."""
        self.close()

    def close(self) -> None:
        """Close the files. Idempotent."""
        if self._whole is not None:
            self._whole.close()
        for one in self._files:
            one.close()

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Message]:
        """Every message that can be read, oldest first.

        Args:
            topics: names to read; all of them when left out.

        Raises:
            BagError: if a file can't be read any more.
        """
        if self._whole is not None:
            return self._whole.messages(topics)
        return self._messages(topics)

    def _messages(self, topics: Collection[str] | None) -> Iterator[Message]:
        rows = heapq.merge(*(one.rows() for one in self._files), key=lambda row: row.log_ns)
        with border(self.path, "read"):
            for log_ns, channel, raw in rows:
                if topics is None or channel.topic in topics:
                    yield Message(channel.topic, channel.msgtype, log_ns, raw)

    def decode(self, msgtype: str, raw: bytes | memoryview) -> Any:
        """One message's fields; arrays come as NumPy arrays.

        Raises:
            BagError: if the type is unknown or the bytes are not such a message.
        """
        if self._whole is not None:
            return self._whole.decode(msgtype, raw)
        if self._store is None:
            with border(self.path, "read the message definitions of"):
                self._store = typestore(self._definitions())
        if msgtype not in self._store.fielddefs:
            raise BagError(
                f"message type {msgtype} is unknown and {self.path} doesn't define it",
                fix="record the bag with a ROS 2 that writes definitions (Iron or later)",
            )
        with border(self.path, f"decode {msgtype} from"):
            return self._store.deserialize_cdr(raw, msgtype)

    def _open(self, card: dict[str, Any]) -> int:
        """Open the files; returns how many messages there should be, as far as it is known."""
        reasons, promised = self.recovery.reasons, 0
        for file in _files(self.path, card, reasons):
            kind = McapScan if file.suffix == ".mcap" else SqliteScan
            try:
                one = kind(file)
            except BagError as e:
                reasons.append(e.what)
                continue
            self._files.append(one)
            reasons += one.reasons
            promised += len(one) if one.promised is None else one.promised
        if not self._files:
            raise BagError(
                f"{self.path} can't be read: {'; '.join(reasons)}",
                fix="copy it again, or record it again",
            )
        told = card.get("message_count")
        return told if isinstance(told, int) else promised

    def _definitions(self) -> list[Any]:
        """The files' own message definitions, as `rosbags` has them of a connection."""
        from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

        found: dict[str, Channel] = {}
        for one in self._files:
            for channel in one.channels.values():
                found.setdefault(channel.msgtype, channel)
        return [
            SimpleNamespace(
                msgtype=c.msgtype,
                msgdef=MessageDefinition(
                    MessageDefinitionFormat[_ENCODINGS.get(c.encoding, "NONE")], c.definition
                ),
            )
            for c in found.values()
        ]


def open_recovered(path: Path) -> tuple[Iterator[Message], Recovery]:
    """Open a bag that may be damaged; it is closed when its messages have been read.

    Returns:
        The messages that can be read, oldest first, and what is lost.

    Raises:
        BagError: see `RecoveredBag`.
    """
    bag = RecoveredBag(path)

    def messages() -> Iterator[Message]:
        with closing(bag):
            yield from bag.messages()

    return messages(), bag.recovery


def _card(path: Path) -> dict[str, Any]:
    """What metadata.yaml says; {}: it is missing or damaged."""
    try:
        read = yaml.safe_load((path / _METADATA).read_text(encoding="utf-8"))
        return dict(read["rosbag2_bagfile_information"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError, ValueError):
        return {}


def _files(path: Path, card: dict[str, Any], reasons: list[str]) -> list[Path]:
    """The storage files of a bag, in their order.

    Raises:
        BagError: if there are none: `look_at` says what is there instead.
    """
    if not path.is_dir():
        if path.suffix not in (".mcap", ".db3") or not path.exists() or not path.stat().st_size:
            look_at(path)
        return [path]
    there = [*path.glob("*.mcap"), *path.glob("*.db3")]
    if not there:
        look_at(path)
        raise BagError(f"{path} has metadata.yaml, but no .mcap or .db3 file", fix="copy it again")
    if not card:
        state = "damaged" if (path / _METADATA).exists() else "missing"
        reasons.append(f"{_METADATA} is {state}: the files are read without it")
    listed = [Path(str(name)).name for name in card.get("relative_file_paths") or []]
    have = {p.name: p for p in there}
    for name in [n for n in listed if n not in have]:
        reasons.append(f"file {name} is missing")
    strangers = [] if not listed else sorted(set(have) - set(listed))
    for name in strangers:
        reasons.append(f"file {name} is not named in {_METADATA}; it is read, too")
    order = [n for n in listed if n in have] + strangers
    return [have[n] for n in (order or sorted(have, key=_natural))]


def _natural(name: str) -> tuple[int, str]:
    """bag_10 comes after bag_9."""
    digits = Path(name).stem.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else -1, name)
