"""Which of a bag's messages the nodes are fed, and where a replay starts. No ROS in here."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robollm.core.errors import BagError, MessageError
from robollm.core.frame import NS
from robollm.core.picks import Pick
from robollm.data.bag import Message
from robollm.data.bag_recovery import RecoveredBag
from robollm.data.bag_types import COMPRESSED, IMAGE, PICK, STRING
from robollm.data.ros_fields import to_pick

TOTE, CONTAINER, ASKED = "image", "container", "pick"  # roles; a view's is its name

_WANTED: dict[str, tuple[str, ...]] = {ASKED: (PICK,), CONTAINER: (STRING,)}
_PICTURES = (IMAGE, COMPRESSED)


@dataclass(frozen=True, slots=True)
class Step:
    """One message to send.

    Attributes:
        role: `TOTE`, `CONTAINER`, `ASKED` (a pick), or the name of a view.
        stamp_ns: of an image, or of the one that a pick was planned on; 0 for a container.
        message: the message as it was recorded.
    """

    role: str
    stamp_ns: int
    message: Message


@dataclass(slots=True)
class Cast:
    """Which topic of a bag plays which role.

    Attributes:
        roles: topic -> role.
        left_out: topics that nobody is fed, with the reason.
    """

    roles: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def cast(
    topics: Mapping[str, str], resolve: Callable[[str], str], views: Mapping[str, str]
) -> Cast:
    """Give every topic of a bag its role.

    Args:
        topics: name in the bag -> message type.
        resolve: name -> the full name after remapping; for the bag's and for the nodes' topics.
        views: view name -> topic, as the nodes are set.

    Raises:
        BagError: if no pick is in the bag, or a topic has a type that its role doesn't allow.
    """
    out = Cast()
    played = {resolve(name): name for name in topics}
    pictures = {TOTE: TOTE, **views}
    for role, topic in {**pictures, CONTAINER: CONTAINER, ASKED: ASKED}.items():
        both = (topic, f"{topic}/compressed") if role in pictures else (topic,)
        there = [played[n] for n in map(resolve, both) if n in played]
        for name in there[1:]:  # as the nodes do: raw, if there are both
            out.left_out[name] = f"the same images are on {there[0]}"
        for name in there[:1]:
            wanted = _WANTED.get(role, _PICTURES)
            if topics[name] not in wanted:
                raise BagError(
                    f"{name} is {topics[name]}, want {' or '.join(wanted)} for {role!r}",
                    fix="remap another topic to this one, or record the bag again",
                )
            out.roles[name] = role
    for name in topics:
        if name not in out.roles:
            out.left_out.setdefault(name, "no node listens to it")
    if ASKED not in out.roles.values():
        raise BagError(
            f"no pick is in the bag: want {PICK} on {resolve(ASKED)}",
            fix=f"its topics are {', '.join(sorted(topics))}; remap them or set the namespace",
        )
    return out


def stamp_of(raw: bytes | memoryview) -> int:
    """The stamp of a serialised message that begins with a std_msgs/Header, ns.

    Raises:
        BagError: if the message is too short.
    """
    try:
        order = "<" if raw[1] & 1 else ">"
        sec, nanosec = struct.unpack_from(f"{order}iI", raw, 4)
    except (struct.error, IndexError) as e:
        raise BagError(f"a message of {len(raw)} bytes has no header", fix="see its topic") from e
    return int(sec) * NS + int(nanosec)


class ReplayBag:
    """A bag that is looked through before it is played. Use it in a `with` block.

    Args:
        path: folder, or a single .mcap or .db3 file.

    Raises:
        BagError: if it is missing, foreign, or has no message that can be read.
    """

    def __init__(self, path: Path) -> None:
        self._reader = RecoveredBag(path)
        self.topics = self._reader.topics

    def __enter__(self) -> ReplayBag:
        """Nothing to do: it is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._reader.close()

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """The messages of some topics, oldest first."""
        return self._reader.messages(topics)

    def pick(self, message: Message) -> Pick | None:
        """A pick message as the nodes will read it; None: they will refuse it.

        Raises:
            BagError: if the message is damaged.
        """
        try:
            return to_pick(self._reader.decode(message.type, message.raw), None)
        except MessageError:
            return None


@dataclass(frozen=True, slots=True)
class Plan:
    """What of a bag is to be sent.

    Attributes:
        roles: topic -> role.
        planned_on: stamp of the tote image of every pick message, in order, ns.
        start: index of the first pick that is wanted.
        totes: stamps of tote images that are wanted for themselves, ns.
    """

    roles: Mapping[str, str]
    planned_on: Sequence[int]
    start: int
    totes: Collection[int] = ()

    def steps(self, messages: Iterable[Message]) -> Iterator[Step]:
        """What to send, in the order of recording.

        To go on with a replay that was cut, everything before its first missing pick is left out
        but for what that pick and the later ones stand on: the container in front of the arm and
        the tote images that they were planned on.

        Args:
            messages: of the bag, in the order of recording.
        """
        needed = {*self.planned_on[self.start :], *self.totes}
        container: Step | None = None
        seen, skipping = 0, self.start > 0
        for message in messages:
            role = self.roles[message.topic]
            stamp = 0 if role == CONTAINER else stamp_of(message.raw)
            step = Step(role, stamp, message)
            if role == ASKED:
                skipping = seen < self.start
                seen += 1
                if not skipping and container is not None:
                    yield container
                    container = None
            if not skipping or (role == TOTE and stamp in needed):
                yield step
            elif role == CONTAINER:
                container = step


def name_of(pick_id: str, stamp_ns: int) -> str:
    """A pick in one line: ids may come again, with another tote image."""
    return f"{stamp_ns} {pick_id}"


def look_through(
    bag: ReplayBag, roles: Mapping[str, str], done: Collection[str], totes: Collection[int] = ()
) -> Plan:
    """Find the picks of a bag and where to start.

    Args:
        bag: the bag.
        roles: topic -> role.
        done: "STAMP ID" of the picks that are answered already, see `name_of`.
        totes: stamps of tote images that are wanted for themselves, ns.

    Raises:
        BagError: if the bag is damaged, or has no pick.
    """
    asked = [t for t, role in roles.items() if role == ASKED]
    planned_on: list[int] = []
    start: int | None = None
    for message in bag.messages(asked):
        pick = bag.pick(message)
        open_ = pick is not None and name_of(pick.pick_id, pick.stamp_ns) not in done
        if start is None and open_:
            start = len(planned_on)
        planned_on.append(stamp_of(message.raw))
    if not planned_on:
        raise BagError(f"no pick is in the bag, though it has {asked[0]}", fix="record it again")
    return Plan(roles, planned_on, len(planned_on) if start is None else start, totes)
