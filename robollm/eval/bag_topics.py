"""Which topics of a bag are the station's: names as the nodes resolve them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from robollm.core.errors import BagError, EvalError
from robollm.core.settings import view_topics
from robollm.data.bag import Message, Topic
from robollm.data.bag_types import COMPRESSED, PICK, STRING
from robollm.data.bag_types import IMAGE as RAW
from robollm.data.problems import Problems
from robollm.eval.gather import CONTAINER, IMAGE, VIEW, Heard
from robollm.eval.gather import PICK as ASKED
from robollm.eval.pictures import Header, PackedPicture, Picture, RawPicture, Stamp
from robollm.eval.settings import StationSettings

Part = tuple[str, str, str]
"""Role, name and kind, see `Heard`."""


class Decodes(Protocol):
    """A bag that is open."""

    def messages(self, topics: Sequence[str] | None = None) -> Iterator[Message]:
        """Messages in the order of recording."""
        ...

    def decode(self, msgtype: str, raw: bytes | memoryview) -> Any:
        """A message's fields."""
        ...


def find_namespace(topics: Sequence[Topic]) -> str:
    """The namespace of the one topic `pick`.

    Raises:
        EvalError: if there is none, or several.
    """
    found = [t.name for t in topics if t.type == PICK and t.name.rsplit("/", 1)[-1] == "pick"]
    if len(found) == 1:
        return found[0].rsplit("/", 1)[0]
    seen = ", ".join(found) if found else "; it has " + ", ".join(t.name for t in topics)
    raise EvalError(
        f"the bag has {len(found) or 'no'} topics `pick` of type {PICK}{': ' if found else ''}"
        f"{seen}",
        fix="say --namespace" if found else "name the topic: --remap pick:=/its/name",
    )


def station_topics(
    topics: Sequence[Topic],
    settings: StationSettings,
    *,
    namespace: str,
    remaps: Sequence[str],
    problems: Problems,
    where: str,
) -> dict[str, Part]:
    """Find the station's topics among those of a bag.

    Args:
        topics: of the bag.
        settings: for the views, and `image_transport`.
        namespace: of the nodes; empty: that of the bag's topic `pick`.
        remaps: "from:=to", as for the nodes.
        problems: gets what is not there, and updates of manifests, which are not applied.
        where: the bag, for messages.

    Returns:
        Topic -> what it is.

    Raises:
        EvalError: if no topic has picks, or a remap is malformed.
        BagError: if a topic has another type than the nodes want.
    """
    types = {t.name: t.type for t in topics if t.count}
    pairs = [text.partition(":=") for text in remaps]
    if bad := [text for text, pair in zip(remaps, pairs, strict=True) if not all(pair)]:
        raise EvalError(f"remap {bad[0]!r}, want FROM:=TO", fix="--remap image:=/camera/image_raw")
    if not namespace and not any(a == "pick" or a.endswith("/pick") for a, _, _ in pairs):
        namespace = find_namespace(topics)

    def full(name: str) -> str:
        return name if name.startswith("/") else f"{namespace.rstrip('/')}/{name}"

    moved = {full(a): full(b) for a, _, b in pairs}

    def resolve(name: str) -> str:
        return moved.get(full(name), full(name))

    out: dict[str, Part] = {}
    for role, name, wanted in ((ASKED, "pick", PICK), (CONTAINER, "container", STRING)):
        topic = resolve(name)
        if topic in types:
            _want(topic, types[topic], wanted)
            out[topic] = (role, name, "")
        elif role == ASKED:
            raise EvalError(
                f"{where} has no message on {topic}; it has {', '.join(sorted(types))}",
                fix="name the topic: --remap pick:=/its/name, or give --namespace",
            )
        else:
            problems.note("no_container_topic", where, f"nothing on {topic}", "all is unknown")
    views = view_topics(settings.pick)
    for name, topic in {IMAGE: "image", **views}.items():
        role = IMAGE if name == IMAGE else VIEW
        raw, packed = resolve(topic), resolve(f"{topic}/compressed")
        chosen = _transport(settings.nodes.image_transport, raw, packed, types)
        if chosen is None:
            problems.note("no_image_topic", where, f"nothing on {raw} nor {packed}", "missing")
            continue
        topic, kind = chosen
        _want(topic, types[topic], RAW if kind == "raw" else COMPRESSED)
        out[topic] = (role, name, kind)
    if resolve("manifest") in types:
        problems.note(
            "manifest_updates", where, f"{resolve('manifest')} changes the manifest while it plays",
            "not applied: the manifest is as it is now",
        )  # fmt: skip
    return out


def _transport(
    asked: str, raw: str, packed: str, types: Mapping[str, str]
) -> tuple[str, str] | None:
    """The topic that a node listens to: raw, if there are both."""
    for topic, kind in ((raw, "raw"), (packed, "compressed")):
        if topic in types and asked in ("auto", kind):
            return topic, kind
    return None


def _want(topic: str, seen: str, wanted: str) -> None:
    if seen != wanted:
        raise BagError(
            f"{topic} is {seen}, want {wanted}",
            fix="remap another topic to this one, or record the bag again",
        )


def heard(bag: Decodes, parts: Mapping[str, Part], problems: Problems) -> Iterator[Heard]:
    """The station's messages of an open bag, in the order of recording.

    Args:
        bag: open.
        parts: see `station_topics`.
        problems: gets messages that can't be decoded.
    """
    for m in bag.messages(list(parts)):
        role, name, kind = parts[m.topic]
        try:
            msg = bag.decode(m.type, m.raw)
        except BagError as e:
            problems.note("bad_message", f"{m.topic} at {m.log_ns}", e.what, "dropped")
            continue
        item = picture(msg, kind) if kind else msg
        yield Heard(role, name, kind, item, m.log_ns)


def picture(msg: Any, kind: str) -> Picture:
    """A decoded message as a picture that another process can have."""
    stamp = Stamp(int(msg.header.stamp.sec), int(msg.header.stamp.nanosec))
    header = Header(stamp, str(msg.header.frame_id))
    data = np.asarray(msg.data, np.uint8).tobytes()
    if kind == "compressed":
        return PackedPicture(header, str(msg.format), data)
    return RawPicture(
        header, int(msg.height), int(msg.width), str(msg.encoding), int(msg.step), data
    )
