"""What reading and writing bags share: message types, offered QoS, and the border to `rosbags`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from robollm.core.errors import BagError, RobollmError
from robollm.data.vision_msgs import MESSAGES

if TYPE_CHECKING:
    from rosbags.interfaces import Connection, Qos
    from rosbags.typesys.store import Typestore

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
STRING = "std_msgs/msg/String"
PICK = "vision_msgs/msg/Detection2D"

_IDL_RULE = "=" * 80 + "\n"  # rosbag2 puts it before each "IDL: <name>" part


class Offer(NamedTuple):
    """How a topic is offered: always reliable and keep last; these two differ by type."""

    depth: int
    transient_local: bool


def offer(msgtype: str) -> Offer:
    """The offer for a type: five images, the last text for late joiners, ten of the rest."""
    if msgtype in (IMAGE, COMPRESSED):
        return Offer(5, transient_local=False)
    if msgtype == STRING:
        return Offer(1, transient_local=True)
    return Offer(10, transient_local=False)


def offered_qos(msgtype: str) -> Qos:
    """The same offer as `rosbags` writes it into a bag's metadata."""
    from rosbags import interfaces as rb

    depth, keeps = offer(msgtype)
    forever = rb.QosTime(9223372036, 854775807)
    return rb.Qos(
        history=rb.QosHistory.KEEP_LAST,
        depth=depth,
        reliability=rb.QosReliability.RELIABLE,
        durability=rb.QosDurability.TRANSIENT_LOCAL if keeps else rb.QosDurability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=rb.QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )


def need_rosbags() -> None:
    """Say how to install `rosbags` where it is missing.

    Raises:
        BagError: if it can't be imported.
    """
    try:
        import rosbags.rosbag2
        import rosbags.typesys  # noqa: F401
    except ImportError as e:
        raise BagError(
            f"bags need the Python package 'rosbags', which can't be imported ({e})",
            fix='pip install "robollm[eval]"',
        ) from e


def typestore(connections: Iterable[Connection] = ()) -> Typestore:
    """The message types of ROS 2 Kilted (or the nearest known) and those of vision_msgs.

    Args:
        connections: an open bag's own definitions. They go before ours, because they are the
            layout in which its messages were recorded.

    Raises:
        BagError: if `rosbags` is not installed.
    """
    need_rosbags()
    from rosbags.interfaces import MessageDefinitionFormat as Format
    from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

    store = get_typestore(getattr(Stores, "ROS2_KILTED", Stores.LATEST))

    def add(found: dict[str, Any]) -> None:
        store.register({k: v for k, v in found.items() if k not in store.fielddefs})

    for c in connections:
        if c.msgtype in store.fielddefs:
            continue
        if c.msgdef.format == Format.MSG:
            add(get_types_from_msg(c.msgdef.data, c.msgtype))
        elif c.msgdef.format == Format.IDL:
            for part in c.msgdef.data.split(_IDL_RULE):
                if part.strip():
                    add(get_types_from_idl(part.removeprefix("IDL: " + part[5:].split("\n")[0])))
    for name, text in MESSAGES.items():
        if name not in store.fielddefs:
            add(get_types_from_msg(text, name))
    return store


@contextmanager
def border(path: Path, doing: str) -> Iterator[None]:
    """Turn whatever `rosbags` and its storage libraries raise on a bad bag into a `BagError`.

    They raise at least ReaderError, struct.error, KeyError, TypeError and the errors of SQLite,
    zstd and lz4, so everything is caught here, at the border, and nowhere else.
    """
    try:
        yield
    except RobollmError:
        raise
    except Exception as e:
        detail = " ".join(f"{type(e).__name__}: {e}".split())
        raise BagError(
            f"can't {doing} the bag {path}, want a rosbag2 bag (mcap or sqlite3): {detail}",
            fix="copy it again; for a bag whose recording was cut off, `ros2 bag reindex` it",
        ) from e


def look_at(path: Path) -> None:
    """Say in plain words what is wrong with a path before any library opens it.

    Raises:
        BagError: if it is not a folder with metadata.yaml, nor a .mcap or .db3 file.
    """
    if not path.exists():
        raise BagError(f"no bag at {path}", fix="check the path")
    if path.is_dir():
        if (path / "metadata.yaml").is_file():
            for file in sorted(path.glob("*.db3")):
                _refuse_cut_sqlite(file)
            return
        inside = sorted(p.name for p in path.iterdir())
        files = [name for name in inside if name.endswith((".mcap", ".db3"))]
        raise BagError(
            f"{path} has no metadata.yaml, want a rosbag2 folder; "
            f"it holds {', '.join(inside[:5]) or 'nothing'}",
            fix=f"`ros2 bag reindex {path}`, or open {path / files[0]} itself"
            if files
            else "name the folder that `ros2 bag record` made",
        )
    if path.suffix not in (".mcap", ".db3"):
        raise BagError(
            f"{path} is not a bag, want a folder with metadata.yaml, a .mcap or a .db3 file",
            fix="ROS 1 .bag files: convert with `rosbags-convert`"
            if path.suffix == ".bag"
            else "name the bag's folder",
        )
    if not path.stat().st_size:
        raise BagError(f"{path} is empty (0 bytes)", fix="copy it again")
    if path.suffix == ".db3":
        _refuse_cut_sqlite(path)


def _refuse_cut_sqlite(path: Path) -> None:
    """SQLite reads a missing end of its last page as zeros: a cut image would look fine.

    Source: the SQLite file format, header bytes 16 (page size) and 28 (size in pages).
    """
    with path.open("rb") as f:
        head = f.read(32)
    if len(head) == 32 and head.startswith(b"SQLite format 3\0"):
        page = int.from_bytes(head[16:18], "big")
        want = (65536 if page == 1 else page) * int.from_bytes(head[28:32], "big")
        if path.stat().st_size < want:
            raise BagError(
                f"{path} was cut off: {path.stat().st_size} bytes, want {want}",
                fix="copy it again",
            )
