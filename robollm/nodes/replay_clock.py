"""By the clock: a bag is played as it was recorded, whatever the nodes can keep up with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rclpy.serialization import deserialize_message
from vision_msgs.msg import Detection2D

from robollm.core.errors import MessageError
from robollm.core.frame import NS
from robollm.data.bag import Message
from robollm.nodes import messages
from robollm.nodes.bag_player import Player
from robollm.nodes.play_schedule import ReadAhead, Schedule, Tally
from robollm.nodes.replay_cell import WAKE_S
from robollm.nodes.replay_ear import Ear, Heard, Tote
from robollm.nodes.replay_feed import ASKED, CONTAINER, TOTE, Step
from robollm.nodes.replay_steps import Ledger, Rules, StoppedError, hand_over, refuse_silence
from robollm.nodes.signals import Stop


class ByTheClock:
    """Plays steps when they are due, and listens meanwhile.

    Args:
        player: publishers of the bag's topics and /clock.
        ear: what the nodes say.
        spin: take in messages for at most so many seconds.
        rules: what the nodes are set to.
        ledger: told of every pick and tote image that is done.
        stop: asked while waiting; set when a node dies.
        rate: bag seconds per second.
    """

    def __init__(
        self,
        player: Player,
        ear: Ear,
        spin: Callable[[float], None],
        rules: Rules,
        ledger: Ledger,
        stop: Stop,
        rate: float,
    ) -> None:
        self._player, self._ear, self._spin = player, ear, spin
        self._rules, self._ledger, self._stop, self._rate = rules, ledger, stop, rate
        self._planned: dict[tuple[int, int], Heard] = {}  # (log, stamp) of a pick's message
        self._latest: Heard | None = None

    def play(self, steps: Iterable[Step], picks: Iterable[Message], totes: Iterable[int]) -> Any:
        """Play everything; return when all picks are answered or given up.

        Args:
            steps: what to send.
            picks: the pick messages among them.
            totes: stamps of the tote images whose instances are wanted, ns.

        Returns:
            How late the messages left, see `play_schedule.Tally`.

        Raises:
            EvalError: if a node falls silent.
            StoppedError: if a signal came.
        """
        for message in picks:
            self._expect(message)
        self._ear.totes.update({ns: Tote(wants_masks=True) for ns in totes})
        tally = Tally()
        ahead = ReadAhead(self._noted(steps))
        with ThreadPoolExecutor(1) as pool:
            playing = pool.submit(self._player.play, ahead, self._rate, tally)
            try:
                while not playing.done() or self._ear.picks:
                    self._spin(WAKE_S)
                    if self._stop.asked():
                        raise StoppedError
                    self._hand_over()
                    refuse_silence(self._ear)
                    if playing.done():
                        playing.result()
            except BaseException:
                self._stop(0, None)  # the player's thread must end, too
                raise
            finally:
                ahead.close()
        for ns, tote in self._ear.totes.items():
            self._ledger.counts["tote_no_answer"] += 1
            self._ledger.on_tote(ns, tote)
        return tally.summary()

    def _expect(self, message: Message) -> None:
        try:
            pick = messages.to_pick(deserialize_message(bytes(message.raw), Detection2D), None)
        except MessageError as e:
            self._ledger.counts[f"pick_{e.kind}"] += 1
            return
        never = float("inf")  # until it is sent
        deadline = message.log_ns + int(self._rules.view_timeout_s * NS)
        heard = Heard(pick, never, never, deadline)
        self._ear.picks[pick.pick_id, pick.stamp_ns] = heard
        self._planned[message.log_ns, pick.stamp_ns] = heard

    def _noted(self, steps: Iterable[Step]) -> Iterator[Message]:
        """In the reader's thread: note when each pick and its views are due."""
        line: Schedule | None = None
        for step in steps:
            log = step.message.log_ns
            line = line or Schedule(time.monotonic(), log, self._rate)
            due = line.due_s(log)
            if step.role == ASKED:
                self._latest = self._planned.get((log, step.stamp_ns), self._latest)
                if self._latest is not None:
                    self._latest.sent_s = self._latest.last_sent_s = due
            elif self._latest is not None and _may_wait_for(self._latest, step):
                self._latest.last_sent_s = due
            yield step.message

    def _hand_over(self) -> None:
        hand_over(self._ear, self._ledger, self._rules.limit_s)
        for ns in [ns for ns, tote in self._ear.totes.items() if tote.complete]:
            self._ledger.on_tote(ns, self._ear.totes.pop(ns))


def _may_wait_for(heard: Heard, step: Step) -> bool:
    if step.role in (TOTE, CONTAINER) or step.message.log_ns > heard.deadline_ns:
        return False
    return step.stamp_ns > heard.pick.stamp_ns
