"""Bags without ROS: a reader and a writer over the `rosbags` library (sqlite3 and mcap)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import BagError
from robollm.data import jpeg as jpeg_codec
from robollm.data.bag_types import (
    COMPRESSED,
    IMAGE,
    PICK,
    STRING,
    border,
    look_at,
    need_rosbags,
    offered_qos,
    typestore,
)
from robollm.data.part_folder import PartFolder

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.typesys.store import Typestore

__all__ = ["BagReader", "BagWriter", "Message", "Topic", "typestore"]

NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of a bag: its name, message type and number of messages."""

    name: str
    type: str
    count: int


class Message(NamedTuple):
    """One recorded message: `log_ns` is when it was recorded, `raw` its CDR bytes."""

    topic: str
    type: str
    log_ns: int
    raw: bytes


class BagWriter:
    """Write one bag. It appears under its name only when the `with` block ended well.

    What a killed process left of the same bag is removed first, see `PartFolder`.

    Args:
        path: the folder to make; its parent is made when missing.
        storage: "mcap" or "sqlite3".
        compress: zstd for the chunks of an mcap file (slow for camera images, see docs).
    """

    def __init__(
        self,
        path: str | Path,
        storage: Literal["mcap", "sqlite3"] = "mcap",
        *,
        compress: bool = False,
    ) -> None:
        self.path = Path(path)
        if storage not in ("mcap", "sqlite3"):
            raise BagError(f"storage is {storage!r}, want 'mcap' or 'sqlite3'")
        if compress and storage != "mcap":
            raise BagError(f"storage {storage!r} can't be compressed", fix="storage='mcap'")
        self._refuse_overwrite()
        self._store = typestore()
        self._storage, self._compress = storage, compress
        self._connections: dict[tuple[str, str], Connection] = {}
        self._count = 0

    def __enter__(self) -> BagWriter:
        """Open a hidden sibling folder; nothing is visible under `path` yet."""
        from rosbags.rosbag2 import Writer
        from rosbags.rosbag2.enums import CompressionFormat, CompressionMode, StoragePlugin

        with border(self.path, "write"):
            self._part = PartFolder(self.path)
            # The storage file is named after the folder, so the folder has its final name.
            plugin = StoragePlugin[self._storage.upper()]
            self._bag = Writer(self._part.path / self.path.name, version=9, storage_plugin=plugin)
            if self._compress:
                self._bag.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._bag.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close and rename; on an error remove what was written."""
        try:
            if kind is None:
                if not self._count:
                    raise BagError(f"no message was written to {self.path}, want at least one")
                with border(self.path, "close"):
                    self._bag.close()
                    self._refuse_overwrite()
                    (self._part.path / self.path.name).rename(self.path)
        finally:
            self._bag.abort()  # does nothing after a good close
            self._part.remove()

    def image(
        self,
        topic: str,
        stamp_ns: int,
        frame_id: str,
        rgb: NDArray[np.uint8],
        *,
        jpeg: bool,
        log_ns: int | None = None,
    ) -> None:
        """Write one image, raw rgb8 or JPEG.

        Args:
            topic: absolute name.
            stamp_ns: capture time, ns.
            frame_id: the camera's optical frame.
            rgb: (H, W, 3) uint8, RGB.
            jpeg: True for a CompressedImage, False for an Image.
            log_ns: time of recording, ns; the stamp when left out.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
            raise BagError(f"image is {rgb.shape} {rgb.dtype}, want a non-empty (H, W, 3) uint8")
        if jpeg:
            self.packed(topic, stamp_ns, frame_id, jpeg_codec.encode(rgb), log_ns=log_ns)
            return
        h, w = rgb.shape[:2]
        msg = self._new(IMAGE)(
            header=self._header(stamp_ns, frame_id), height=h, width=w, encoding="rgb8",
            is_bigendian=0, step=3 * w, data=np.ascontiguousarray(rgb).reshape(-1),
        )  # fmt: skip
        self.write(topic, IMAGE, msg, stamp_ns if log_ns is None else log_ns)

    def packed(
        self,
        topic: str,
        stamp_ns: int,
        frame_id: str,
        packed: bytes,
        *,
        kind: str = "jpeg",
        log_ns: int | None = None,
    ) -> None:
        """Write one image that is compressed already: its bytes as they are, no pixel changes.

        Args:
            topic: absolute name.
            stamp_ns: capture time, ns.
            frame_id: the camera's optical frame.
            packed: the image file.
            kind: the message's `format`.
            log_ns: time of recording, ns; the stamp when left out.
        """
        if not packed:
            raise BagError("a packed image has no bytes, want a JPEG or PNG file")
        msg = self._new(COMPRESSED)(
            header=self._header(stamp_ns, frame_id),
            format=kind,
            data=np.frombuffer(packed, np.uint8),
        )
        self.write(topic, COMPRESSED, msg, stamp_ns if log_ns is None else log_ns)

    def string(self, topic: str, text: str, log_ns: int) -> None:
        """Write one std_msgs/String."""
        self.write(topic, STRING, self._new(STRING)(data=text), log_ns)

    def pick(
        self,
        topic: str,
        stamp_ns: int,
        frame_id: str,
        pick_id: str,
        bbox_xyxy: Sequence[float],
        log_ns: int,
    ) -> None:
        """Write a controller's pick.

        Args:
            topic: absolute name.
            stamp_ns: stamp of the tote image that the pick was planned on, ns.
            frame_id: that image's frame.
            pick_id: the controller's name for this pick.
            bbox_xyxy: the target in that image, (x1, y1, x2, y2), source px.
            log_ns: time of recording, ns.
        """
        x1, y1, x2, y2 = (float(v) for v in bbox_xyxy)
        point = self._new("vision_msgs/msg/Point2D")(x=(x1 + x2) / 2, y=(y1 + y2) / 2)
        center = self._new("vision_msgs/msg/Pose2D")(position=point, theta=0.0)
        box = self._new("vision_msgs/msg/BoundingBox2D")(
            center=center, size_x=x2 - x1, size_y=y2 - y1
        )
        header = self._header(stamp_ns, frame_id)
        msg = self._new(PICK)(header=header, results=[], bbox=box, id=pick_id)
        self.write(topic, PICK, msg, log_ns)

    def write(self, topic: str, msgtype: str, msg: object, log_ns: int) -> None:
        """Write any message that was built from `typestore()`'s types."""
        with border(self.path, f"write {msgtype} on {topic} to"):
            key = (topic, msgtype)
            if key not in self._connections:
                self._connections[key] = self._bag.add_connection(
                    topic,
                    msgtype,
                    typestore=self._store,
                    offered_qos_profiles=[offered_qos(msgtype)],
                )
            raw = self._store.serialize_cdr(msg, msgtype)
            self._bag.write(self._connections[key], log_ns, raw)
        self._count += 1

    def _refuse_overwrite(self) -> None:
        if self.path.exists():
            raise BagError(
                f"{self.path} exists already, want a new path", fix="remove it or name another"
            )

    def _new(self, msgtype: str) -> Callable[..., Any]:
        return self._store.types[msgtype]

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        stamp = self._new("builtin_interfaces/msg/Time")(sec=stamp_ns // NS, nanosec=stamp_ns % NS)
        return self._new("std_msgs/msg/Header")(stamp=stamp, frame_id=frame_id)


class BagReader:
    """Read one bag: a folder with metadata.yaml, or a single .mcap or .db3 file.

    Use it in a `with` block, or call `close`.

    Raises:
        BagError: if the bag is missing, foreign, damaged or has no message.
    """

    def __init__(self, path: str | Path) -> None:
        need_rosbags()
        from rosbags.rosbag2 import Reader

        self.path = Path(path)
        look_at(self.path)
        with border(self.path, "read"):
            self._bag = Reader(self.path)
            self._bag.open()
        self._connections = list(self._bag.connections)
        counts: Counter[tuple[str, str]] = Counter()
        for c in self._connections:
            counts[c.topic, c.msgtype] += c.msgcount
        self.topics = [Topic(name, kind, n) for (name, kind), n in sorted(counts.items())]
        if not sum(counts.values()):
            self.close()
            raise BagError(f"{self.path} has no message, want at least one", fix="record it again")
        self._store: Typestore | None = None

    def __enter__(self) -> BagReader:
        """Nothing to do: the bag is open already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the bag."""
        self.close()

    def close(self) -> None:
        """Close the files. Idempotent."""
        if self._bag.is_open:
            self._bag.close()

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Message]:
        """Every message, oldest first.

        Args:
            topics: names to read; all of them when left out.

        Raises:
            BagError: if a topic is not in the bag, the bag is damaged, or it ends early.
        """
        known = {t.name for t in self.topics}
        if unknown := sorted(set(topics or ()) - known):
            raise BagError(
                f"{self.path} has no topic {', '.join(unknown)}",
                fix=f"choose among {', '.join(sorted(known))}",
            )
        wanted = [c for c in self._connections if topics is None or c.topic in topics]
        if wanted:
            yield from self._messages(wanted)

    def decode(self, msgtype: str, raw: bytes | memoryview) -> Any:
        """One message's fields; arrays come as NumPy arrays.

        Raises:
            BagError: if the type is unknown or the bytes are not such a message.
        """
        store = self._types()
        if msgtype not in store.fielddefs:
            raise BagError(
                f"message type {msgtype} is unknown and {self.path} doesn't define it",
                fix="record the bag with a ROS 2 that writes definitions (Iron or later)",
            )
        with border(self.path, f"decode {msgtype} from"):
            return store.deserialize_cdr(raw, msgtype)

    def _messages(self, wanted: list[Connection]) -> Iterator[Message]:
        seen = 0
        with border(self.path, "read"):
            for c, log_ns, raw in self._bag.messages(wanted):
                seen += 1
                yield Message(c.topic, c.msgtype, log_ns, raw)
        if seen != (want := sum(c.msgcount for c in wanted)):
            raise BagError(
                f"{self.path} has {seen} of the {want} messages that its index promises",
                fix="copy it again, or rebuild the index with `ros2 bag reindex`",
            )

    def _types(self) -> Typestore:
        if self._store is None:
            with border(self.path, "read the message definitions of"):
                self._store = typestore(self._connections)
        return self._store
