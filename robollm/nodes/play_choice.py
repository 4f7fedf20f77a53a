"""Which topics of a recording are played to the nodes. No ROS in here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robollm.core.errors import BagError

if TYPE_CHECKING:
    from robollm.data.bag import Topic

CLOCK = "/clock"
EVERYBODYS = ("/rosout", "/parameter_events", "/diagnostics")
HOME = "/robollm"  # the nodes' namespace, if nobody chose another
VERDICTS, VERDICTS_TYPE = "defects", "vision_msgs/msg/Detection2DArray"
RESULT_TOPICS = (  # what perception is there for, in its namespace
    "detections",
    "masks",
    "label_info",
    "overlay/compressed",
    "identifications",
    "pick_identifications",
    VERDICTS,
    "defects/views",
)
PUBLISHED = (  # by perception; a test asks the running nodes
    *RESULT_TOPICS,
    "segmentation_node/transition_event",
    "identification_node/transition_event",
    "defect_node/transition_event",
)

_CLOCK_WHY = "time would have two sources: the player publishes its own"
_OURS_WHY = "perception publishes them, and whoever listens would hear the recorded ones, too"
_EVERYBODYS_WHY = "every node publishes them by itself"


@dataclass(frozen=True, slots=True)
class Choice:
    """What is played, and what is not.

    Attributes:
        names: topics to play, as recorded.
        skipped: topic -> why it is not played.
    """

    names: tuple[str, ...]
    skipped: dict[str, str]

    def words(self) -> str:
        """What is not played, by reason, and how it can be; empty if everything is played."""
        by_reason: dict[str, list[str]] = {}
        for name, why in sorted(self.skipped.items()):
            by_reason.setdefault(why, []).append(name)
        lines = [f"not played: {', '.join(names)}: {why}" for why, names in by_reason.items()]
        if {_OURS_WHY, _EVERYBODYS_WHY} & by_reason.keys():
            lines.append("  fix, if that isn't meant: name all topics to play with --topics")
        return "\n".join(lines)


def choose(
    topics: Sequence[Topic],
    named: Sequence[str] | None,
    *,
    namespace: str,
    resolve: Callable[[str], str],
    check: Callable[[str], object],
) -> Choice:
    """Leave out what the nodes publish by themselves, and what can't be published here.

    Two publishers of `/clock` let time jump back and forth, and a controller that hears a recorded
    verdict beside the new one has two for one pick.

    Args:
        topics: of the recording.
        named: the topics that the user wants; they alone are played. None: nobody said.
        namespace: of the player.
        resolve: full name -> the name after remapping. Another name is as good as naming.
        check: called with a message type; raises `BagError` if it is not installed.

    Raises:
        BagError: if nothing is left, or a topic that was named can't be published.
    """
    wanted = [t for t in topics if t.count and (named is None or t.name in named)]
    here = _published(wanted, namespace, resolve)
    skipped: dict[str, str] = {}
    refused: BagError | None = None
    for t in wanted:
        if resolve(t.name) == resolve(CLOCK):
            skipped[t.name] = _CLOCK_WHY
        elif named is None and here(t.name):
            skipped[t.name] = _OURS_WHY
        elif named is None and resolve(t.name) in EVERYBODYS:
            skipped[t.name] = _EVERYBODYS_WHY
        else:
            try:
                check(t.type)
            except BagError as e:
                refused, skipped[t.name] = e, str(e)
    choice = Choice(tuple(sorted({t.name for t in wanted} - skipped.keys())), skipped)
    if refused is not None and (named is not None or not choice.names):
        raise refused
    if not choice.names:
        raise BagError(
            f"no topic is left to play\n{choice.words()}",
            fix="record what the nodes listen to: images, pick, container",
        )
    return choice


def _published(
    topics: Sequence[Topic], namespace: str, resolve: Callable[[str], str]
) -> Callable[[str], bool]:
    """Is a recorded topic one that perception publishes?

    Perception's namespaces are the player's, the usual one, and any in which verdicts were
    recorded. A remapping that the player shares with the nodes holds for their topics, too.
    """
    end = f"/{VERDICTS}"
    recorded = {t.name for t in topics if t.type == VERDICTS_TYPE and t.name.endswith(end)}
    own = namespace.rstrip("/")
    homes = {HOME, own, *(name.removesuffix(end) for name in recorded)}
    published = {f"{home}/{name}" for home in homes for name in PUBLISHED}
    renamed = {resolve(f"{own}/{name}") for name in PUBLISHED}

    def is_ours(name: str) -> bool:
        target = resolve(name)
        return target in published or (target == name and name in renamed)

    return is_ours
