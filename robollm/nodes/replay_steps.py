"""Lock step: a bag is sent as fast as the nodes answer, and nothing gets lost or stale.

What a node decides may depend on three clocks: on the stamps, which are sent as recorded; on ROS
time, by which an old view is refused; and on the real time that a pick waits for its views. So:

- /clock shows the bag's time of what is sent. It moves on by more than half of `max_view_age_s`
  only when everything sent has been taken, and a view is sent only when both nodes' own time (the
  stamps of their diagnostics) is as near: no node can take a good view for a stale one, nor the
  other way round.
- between a pick and its views nothing is waited for: tote images and containers in between go out
  when the pick is answered, or before the next one. A view that was recorded after the time limit
  of the pick that it belongs to goes out after that pick's answer.
- one tote image at a time, up to its `detections`: a newer one would push it out.
- a container has been heard (diagnostics) before the next pick goes out, and the pick before it
  has been taken before the container does.

Two picks are in work at a time, so that both cores are busy. Those that miss a view wait out
their time limit beside, as long as their tote image is sure to be kept.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from rclpy.serialization import deserialize_message
from std_msgs.msg import String
from vision_msgs.msg import Detection2D

from robollm.core.errors import EvalError, MessageError
from robollm.core.frame import NS
from robollm.nodes import messages
from robollm.nodes.bag_player import Player
from robollm.nodes.replay_ear import NODES, Ear, Heard, Tote
from robollm.nodes.replay_feed import ASKED, CONTAINER, TOTE, Step
from robollm.nodes.signals import Stop

WORK_MAX = 2  # picks with all their views
OPEN_MAX = 16  # with those that wait for a view
IN_FLIGHT = 4  # images of one view, unread: below the depth of the nodes' subscriptions
OWNERS = 64  # as many picks as `PickBook` remembers
ROUNDS = 3  # diagnostics of a node after which what was sent before is taken
LATER_BYTES = 64_000_000
SILENT_S = 30.0  # a node that says nothing for so long is taken for dead
NO_CONTAINER = "none announced"
WAKE_S = 0.02


class StoppedError(Exception):
    """A signal came."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the nodes are set to, and how long to wait for them.

    Attributes:
        views: view name -> topic.
        view_timeout_s: how long a pick waits for its views, s.
        max_view_age_s: age from which a view is stale, s; 0: never.
        view_delay_s: views captured sooner after the tote image belong to no pick, s.
        frame_history: tote images that are kept.
        limit_s: longest wait for an answer, s.
    """

    views: dict[str, str]
    view_timeout_s: float
    max_view_age_s: float
    view_delay_s: float
    frame_history: int
    limit_s: float


@dataclass(slots=True)
class Ledger:
    """Where what is done goes, and what went wrong, by name."""

    on_pick: Callable[[Heard], None]
    on_tote: Callable[[int, Tote], None]
    counts: Counter[str] = field(default_factory=Counter)


class LockStep:
    """Sends steps and waits for the answers.

    Args:
        player: publishers of the bag's topics and /clock.
        ear: what the nodes say.
        spin: take in messages for at most so many seconds.
        rules: what the nodes are set to.
        ledger: told of every pick and tote image that is done.
        stop: asked while waiting.
        totes: stamps of the tote images whose instances are wanted, ns.
    """

    def __init__(
        self,
        player: Player,
        ear: Ear,
        spin: Callable[[float], None],
        rules: Rules,
        ledger: Ledger,
        stop: Stop,
        totes: frozenset[int],
    ) -> None:
        self._player, self._ear, self._spin = player, ear, spin
        self._rules, self._ledger, self._stop, self._totes = rules, ledger, stop, totes
        self._half_ns = int(rules.max_view_age_s * NS / 2)
        self._clock_ns = 0
        self._later: list[Step] = []
        self._later_bytes = 0
        self._container = NO_CONTAINER
        self._unread: dict[str, list[tuple[int, int]]] = {}  # view -> (stamp, clock) of each
        self._asked: list[Heard] = []  # picks that were not complete when last looked at
        self._known: deque[Heard] = deque(maxlen=OWNERS)
        self._totes_sent = 0
        self._last_tote_ns = 0
        self._sent_picks: set[tuple[str, int]] = set()
        self._taken_before = 0

    def play(self, steps: Iterable[Step]) -> None:
        """Send everything; return when all picks are answered or given up.

        Raises:
            EvalError: if a node falls silent.
            StoppedError: if a signal came.
        """
        for step in steps:
            if not self._clock_ns:
                self._begin(step.message.log_ns)
            self._take_in(0.0)
            if step.role == ASKED:
                self._send_pick(step)
            elif step.role not in (TOTE, CONTAINER):
                self._send_view(step)
            elif self._ear.open():
                self._later.append(step)
                self._later_bytes += len(step.message.raw)
                if self._later_bytes > LATER_BYTES:
                    self._catch_up()
            else:
                self._send_other(step)
        self._catch_up()
        self._until(lambda: not self._ear.picks)

    def _begin(self, first_ns: int) -> None:
        self._clock_ns = first_ns
        self._set_clock(first_ns)
        self._taken_before = self._taken()

    # Waiting.

    def _take_in(self, seconds: float) -> None:
        """Let messages in; hand over what is done; notice signals and dead nodes."""
        self._player.hold(self._clock_ns)
        self._spin(seconds)
        if self._stop.asked():
            raise StoppedError
        for heard in [h for h in self._asked if not h.missing]:
            self._asked.remove(heard)
            for e in heard.evidence or ():  # both nodes have read these and all before them
                row = self._unread.get(e["view"], [])
                self._unread[e["view"]] = [r for r in row if r[0] > e["stamp_ns"]]
        hand_over(self._ear, self._ledger, self._rules.limit_s)
        refuse_silence(self._ear)

    def _until(self, true: Callable[[], bool], seconds: float = float("inf")) -> bool:
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                return False
            self._take_in(WAKE_S)
        return True

    def _need(self, true: Callable[[], bool], what: str) -> None:
        if not self._until(true, self._rules.limit_s):
            raise EvalError(
                f"the nodes have not taken over {what} within {self._rules.limit_s:g} s",
                fix="start them with use_sim_time: true, or raise the time limit",
            )

    def _taken(self) -> int:
        return self._ear.counters(NODES[1]).get("picks", 0)

    def _settle(self) -> None:
        """Wait until all views that were sent have been taken."""
        if any(self._unread.values()):
            goal = {n: self._ear.told[n].count + ROUNDS for n in NODES[1:]}
            self._need(
                lambda: all(self._ear.told[n].count >= k for n, k in goal.items()), "the views"
            )
            self._unread.clear()

    def _set_clock(self, ns: int) -> None:
        """Set /clock and wait until both nodes have it."""
        self._move_to(ns)
        self._need(
            lambda: all(self._ear.told[n].clock_ns == ns for n in NODES[1:]), "the time of /clock"
        )

    def _move_to(self, ns: int) -> None:
        """Move the clock on, but not while a view could become stale by that."""
        oldest = min((c for row in self._unread.values() for _, c in row), default=ns)
        if self._half_ns and ns - oldest > self._half_ns:
            self._settle()
        self._clock_ns = max(self._clock_ns, ns)

    # Sending.

    def _send(self, step: Step) -> None:
        self._move_to(step.message.log_ns)
        self._player.send(step.message, self._clock_ns)

    def _send_pick(self, step: Step) -> None:
        self._catch_up()
        self._until(self._may_ask)
        self._need(self._container_heard, f"the container {self._container!r}")
        try:
            pick = messages.to_pick(deserialize_message(bytes(step.message.raw), Detection2D), None)
        except MessageError as e:
            self._ledger.counts[f"pick_{e.kind}"] += 1
            return
        key, now = (pick.pick_id, pick.stamp_ns), time.monotonic()
        if key in self._sent_picks:  # the nodes answer it once
            self._ledger.counts["duplicate_pick"] += 1
            return
        self._sent_picks.add(key)
        deadline = step.message.log_ns + int(self._rules.view_timeout_s * NS)
        heard = self._ear.picks[key] = Heard(pick, now, now, deadline, self._totes_sent)
        self._known.append(heard)
        self._asked.append(heard)
        self._send(step)

    def _may_ask(self) -> bool:
        waiting = self._ear.open()
        work = sum(h.shown.issuperset(self._rules.views) for h in waiting)
        return work < WORK_MAX and len(waiting) < OPEN_MAX

    def _container_heard(self) -> bool:
        return self._ear.value(NODES[1], "container") == self._container

    def _send_view(self, step: Step) -> None:
        log, owner = step.message.log_ns, self._owner(step.stamp_ns)
        if owner is not None and owner.deadline_ns < log and step.role not in owner.shown:
            # By the bag's clock it no longer waits; the nodes go by the real one.
            self._until(lambda: not owner.missing or owner.given_up)
        near = not self._half_ns or abs(log - step.stamp_ns) <= self._half_ns
        if not near or len(self._unread.get(step.role, ())) >= IN_FLIGHT:
            self._settle()
        slowest = min(self._ear.told[n].clock_ns for n in NODES[1:])
        if not near or (self._half_ns and log - slowest > self._half_ns):
            self._set_clock(log)
        self._send(step)
        self._unread.setdefault(step.role, []).append((step.stamp_ns, self._clock_ns))
        if not near:
            self._settle()
        if owner is not None and owner.deadline_ns >= log and step.role not in owner.shown:
            owner.shown.add(step.role)
            owner.last_sent_s = time.monotonic()
            # In time by the bag's clock: the nodes must have it in time by the real one, too.
            late = owner.last_sent_s - owner.sent_s > self._rules.view_timeout_s
            self._ledger.counts["view_after_real_time_limit"] += late

    def _owner(self, stamp_ns: int) -> Heard | None:
        """The pick that a view belongs to, by the rule of `PickBook`."""
        delay = int(self._rules.view_delay_s * NS)
        owner: Heard | None = None
        for heard in self._known:
            planned = heard.pick.stamp_ns
            if planned + delay < stamp_ns and (owner is None or planned >= owner.pick.stamp_ns):
                owner = heard
        return owner

    def _catch_up(self) -> None:
        later, self._later, self._later_bytes = self._later, [], 0
        for step in later:
            self._send_other(step)

    def _send_other(self, step: Step) -> None:
        if step.role == TOTE:
            self._send_tote(step)
            return
        # The pick before must find the container before.
        self._until(
            lambda: (
                self._taken() - self._taken_before >= len(self._sent_picks) or not self._ear.open()
            )
        )
        self._container = deserialize_message(bytes(step.message.raw), String).data.strip()
        self._container = self._container or NO_CONTAINER
        self._send(step)

    def _send_tote(self, step: Step) -> None:
        ns, ear = step.stamp_ns, self._ear
        if ns <= 0 or ns == self._last_tote_ns:
            self._ledger.counts["tote_repeated_stamp" if ns > 0 else "tote_bad_stamp"] += 1
            return
        self._last_tote_ns = ns
        # A pick that waits is looked at later, and then its tote image must still be there.
        kept = max(1, self._rules.frame_history // 2)
        self._until(lambda: all(self._totes_sent - h.totes < kept for h in self._ear.open()))
        self._totes_sent += 1
        before = ear.counters(NODES[0])
        tote = ear.totes[ns] = Tote(ns in self._totes)
        self._send(step)
        self._until(lambda: tote.complete or bool(ear.risen(NODES[0], before)), self._rules.limit_s)
        if not tote.complete:
            why = next(iter(ear.risen(NODES[0], before)), "no_answer")
            self._ledger.counts[f"tote_{why}"] += 1
        del ear.totes[ns]
        self._ledger.on_tote(ns, tote)


def hand_over(ear: Ear, ledger: Ledger, limit_s: float) -> None:
    """Give the ledger the picks that are done, or whose time is up."""
    now = time.monotonic()
    for key, heard in list(ear.picks.items()):
        if heard.told() or (heard.missing and now - heard.last_sent_s > limit_s):
            del ear.picks[key]
            heard.given_up = bool(heard.missing)
            for topic in heard.missing:
                ledger.counts[f"no_answer_on_{topic}"] += 1
            ledger.on_pick(heard)


def refuse_silence(ear: Ear) -> None:
    """Notice dead nodes.

    Raises:
        EvalError: if a node that was heard has said nothing for long.
    """
    dead = [name for name, silent in ear.silent_s().items() if silent > SILENT_S]
    if dead:
        raise EvalError(
            f"{', '.join(dead)} said nothing for {SILENT_S:g} s",
            fix="see the nodes' log; the same command goes on where it ended",
        )
