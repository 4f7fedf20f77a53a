"""What a replay through ROS is about, and its records: files what `eval_replay` says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from robollm.core.errors import EvalError, MessageError
from robollm.core.picks import Pick
from robollm.data.bag_recovery import RecoveredBag
from robollm.data.problems import Problems
from robollm.data.ros_fields import to_pick
from robollm.eval.journal import Journal
from robollm.eval.progress import Progress
from robollm.eval.records import PICKS, TOTES, Json, PickRecord, Record, SegmentationRecord
from robollm.eval.run_folder import RunFolder
from robollm.eval.truth import Bag

# What nodes count when all is well.
_NO_TROUBLE = (
    "picks", "pick_identified", "pick_ambiguous", "pick_unknown", "pick_not_in_manifest",
    "time_jumps",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BagPlan:
    """One bag: its picks, and what of it has no answer.

    Attributes:
        bag: the bag.
        keys: (id, stamp of the tote image, ns) of each pick -> key of its record.
        done: keys of the picks that have an answer.
        totes: stamps of the tote images whose instances are wanted, ns.
    """

    bag: Bag
    keys: Mapping[tuple[str, int], str]
    done: frozenset[str]
    totes: tuple[int, ...]

    @classmethod
    def of(cls, run: RunFolder, bag: Bag, topic: str) -> BagPlan:
        """Look through a bag, whose picks are on `topic`."""
        keys: dict[tuple[str, int], str] = {}
        ids: set[str] = set()
        for pick in picks_of(bag, topic, run.problems):
            one, stamp = pick.pick_id, pick.stamp_ns
            again = one in ids
            if again:
                run.problems.note(
                    "repeated_pick_id", bag.name, f"pick {one!r} was announced again",
                    "answered, under a key with its stamp",
                )  # fmt: skip
            ids.add(one)
            keys.setdefault((one, stamp), f"{bag.prefix}{one}{f'@{stamp}' if again else ''}")
        before, totes = run.keys(PICKS), run.keys(TOTES)
        wanted = (ns for ns in bag.truth.frames if f"{bag.prefix}{ns}" not in totes)
        return cls(bag, keys, frozenset(before & set(keys.values())), tuple(wanted))

    @property
    def todo(self) -> bool:
        """True if something has no answer."""
        return bool(self.totes) or len(self.done) < len(self.keys)

    def frames_with_a_record(self, run: RunFolder) -> set[int]:
        """Stamps of the tote images that were asked for, and are in the bag."""
        keys = run.keys(TOTES) | run.keys(TOTES, failed=True)
        return {ns for ns in self.bag.truth.frames if f"{self.bag.prefix}{ns}" in keys}


def picks_of(bag: Bag, topic: str, problems: Problems) -> Iterator[Pick]:
    """The picks of a bag, in the order of recording.

    Args:
        bag: the bag.
        topic: of its picks.
        problems: gets those that the nodes will refuse.

    Raises:
        BagError: if the bag can't be read or has no such topic.
    """
    with RecoveredBag(bag.path) as opened:
        for message in opened.messages([topic]):
            try:
                yield to_pick(opened.decode(message.type, message.raw), None)
            except MessageError as e:
                problems.note(e.kind, f"{bag.name}, pick", e.what, "dropped")


class Filing:
    """Files what a player says.

    Args:
        run: where the records go.
        progress: is told of every pick.
        stack: closes the journals.

    Attributes:
        done: picks with an answer, new.
        failed: picks without one.
    """

    def __init__(self, run: RunFolder, progress: Progress, stack: ExitStack) -> None:
        self._run, self._progress = run, progress
        self.done = self.failed = 0
        self._good = {stream: run.keys(stream) for stream in (PICKS, TOTES)}
        self._journals: dict[str, Journal] = {}
        self._stack = stack

    def take(self, plan: BagPlan, card: Json) -> None:
        """File one record, or note what went wrong."""
        bag = plan.bag
        if card.get("stream") == PICKS:
            self._file_pick(bag, plan.keys[card["record"]["key"], card["stamp_ns"]], card["record"])
        elif card.get("stream") == TOTES:
            self._file_tote(bag, card["stamp_ns"], card["record"])
        elif card["event"] == "ready":
            refuse_other_models(card["models"], self._run.card["predictor"])
            for topic, why in card["left_out"].items():
                self._note(bag, "topic_left_out", f"{topic}: {why}", 1)
        elif card["event"] == "end" and not card["stopped"]:
            for kind, n in card["problems"].items():
                self._note(bag, f"ros_{kind}", kind.replace("_", " "), n)
            for kind, (n, node) in _troubles(card["nodes"]).items():
                self._note(bag, kind, f"counted by {node}", n)

    def _file_pick(self, bag: Bag, key: str, card: Json) -> None:
        one = PickRecord(**card)
        record = replace(one, key=key, bag=bag.name, truth=bag.truth.of(one.key))
        if self._write(PICKS, record):
            self._progress.advance(failed=record.error is not None)
            self.failed += record.error is not None
            self.done += record.error is None

    def _file_tote(self, bag: Bag, stamp_ns: int, card: Json) -> None:
        frame = bag.truth.frames[stamp_ns]
        record = replace(
            SegmentationRecord(**card),
            key=f"{bag.prefix}{stamp_ns}",
            file=f"{bag.name} at {stamp_ns} ns",
            hw=frame.hw,
            truth=list(frame.instances),
        )
        self._write(TOTES, record)

    def _write(self, stream: str, record: Record) -> bool:
        """Write a record, unless there is a good one."""
        if record.key in self._good[stream]:
            return False
        if stream not in self._journals:
            self._journals[stream] = self._stack.enter_context(self._run.journal(stream))
        self._journals[stream].append(record)
        if record.error is None:
            self._good[stream].add(record.key)
        return True

    def _note(self, bag: Bag, kind: str, what: str, times: int) -> None:
        for _ in range(times):
            self._run.problems.note(kind, bag.name, what, "see docs/evaluation.md")


def refuse_other_models(seen: Mapping[str, str], predictor: Mapping[str, Any]) -> None:
    """See that the nodes run what the run's card says.

    Raises:
        EvalError: if they run another bundle, or in another precision.
    """
    for name, key in (("bundle_sha256", "sha256"), ("precision", "precision")):
        wanted, there = predictor.get(key), seen[name]
        if wanted and there and wanted != there:
            raise EvalError(
                f"the nodes run {key} {there}, this evaluation is of {wanted}",
                fix="start the nodes with the same bundle and settings, or leave out --attach",
            )


def _troubles(nodes: Mapping[str, Mapping[str, int]]) -> dict[str, tuple[int, str]]:
    """Kind -> how often, and by which node: what reaches two nodes is counted by both."""
    worst: dict[str, tuple[int, str]] = {}
    for node, counts in nodes.items():
        for kind, n in counts.items():
            if kind not in _NO_TROUBLE and not kind.startswith("verdict_"):
                worst[kind] = max(worst.get(kind, (0, "")), (n, node))
    return worst
