"""`bag_player`: publish a bag in real time, with /clock, on a machine without `ros2 bag`.

Messages go out as the bytes that were recorded: nothing is decoded and no stamp is rewritten.
With `--loop` bag time therefore jumps back at each start; subscribers have to cope with that,
as they have to with `ros2 bag play --loop`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from robollm.core.errors import BagError, RobollmError
from robollm.nodes.play_choice import CLOCK, choose
from robollm.nodes.play_schedule import NS, ReadAhead, Schedule, Tally
from robollm.nodes.signals import Stop, listening

if TYPE_CHECKING:
    from robollm.data.bag import Message, Topic

CLOCK_PERIOD_S = 0.01  # 100 Hz
SETTLE_S = 0.5  # discovery is not over when the first side has found the other
ACK_S = 2.0  # at the end, wait this long for subscribers to have got everything


class Player:
    """Publishers for a bag's topics and the loop that feeds them.

    Args:
        node: an rclpy node.
        topics: what to publish.
        stop: asked at least a hundred times a second.
    """

    def __init__(self, node: Any, topics: Sequence[Topic], stop: Stop) -> None:
        from rosgraph_msgs.msg import Clock

        self._node = node
        self._stop = stop
        self._clock_ns = 0
        self._next_clock_s = 0.0
        self._publishers = {
            (t.name, t.type): node.create_publisher(message_class(t.type), t.name, _qos(t.type))
            for t in topics
        }
        self._clock = node.create_publisher(Clock, CLOCK, 10)
        self._clock_message = Clock()

    def unheard(self) -> list[str]:
        """Names of topics that nobody subscribes to (as remapped)."""
        return sorted(
            p.topic_name for p in self._publishers.values() if not p.get_subscription_count()
        )

    def wait_for_subscribers(self, first_ns: int, seconds: float) -> list[str]:
        """Hold /clock at the bag's start until somebody listens to every topic.

        And a little longer: a publisher knows its subscriber before the subscriber knows it, and
        what is sent in between comes late or never.

        Returns:
            The topics that nobody listens to when the time is over.
        """
        end = time.monotonic() + seconds
        while (left := self.unheard()) and time.monotonic() < end and not self._stop.asked():
            self._tick(first_ns)
            time.sleep(CLOCK_PERIOD_S)
        settled = time.monotonic() + min(SETTLE_S, seconds)
        while time.monotonic() < settled and not self._stop.asked():
            self._tick(first_ns)
            time.sleep(CLOCK_PERIOD_S)
        return left

    def play(self, messages: ReadAhead, rate: float, tally: Tally) -> Schedule | None:
        """Publish every message when it is due.

        Returns:
            The line between bag time and monotonic time, or None when there was no message.

        Raises:
            BagError: if the bag turns out to be damaged.
        """
        line: Schedule | None = None
        while not self._stop.asked():
            message = messages.get(CLOCK_PERIOD_S)
            if message is None:
                if messages.ended:
                    break
                if line is not None:  # the disk is slow; time goes on
                    self._tick(line.bag_ns(time.monotonic()))
                continue
            if line is None:
                line = Schedule(time.monotonic(), message.log_ns, rate)
                self._clock_ns = 0  # a new start may be earlier than the last end
            due = line.due_s(message.log_ns)
            self._run_clock_until(line, due)
            if self._stop.asked():
                break
            # Whoever gets the message finds that its time has come.
            self._tick(max(message.log_ns, line.bag_ns(time.monotonic())), force=True)
            tally.add(message.topic, time.monotonic() - due)
            self._publishers[message.topic, message.type].publish(message.raw)
        return line

    def send(self, message: Message, clock_ns: int) -> None:
        """Publish one message now; whoever gets it finds that /clock says `clock_ns` or later."""
        self._tick(clock_ns, force=True)
        self._publishers[message.topic, message.type].publish(message.raw)

    def hold(self, clock_ns: int) -> None:
        """Say once more what time it is, not more often than needed: /clock may lose messages."""
        self._tick(clock_ns)

    def finish(self, line: Schedule, tail_s: float) -> None:
        """Let /clock run on for `tail_s`, then wait until the last messages have arrived."""
        from rclpy.duration import Duration

        self._run_clock_until(line, time.monotonic() + tail_s)
        end = time.monotonic() + ACK_S
        for publisher in self._publishers.values():
            left = Duration(seconds=max(0.0, end - time.monotonic()))
            if not self._stop.asked() and publisher.get_subscription_count():
                publisher.wait_for_all_acked(left)

    def _run_clock_until(self, line: Schedule, end_s: float) -> None:
        while not self._stop.asked() and (left := end_s - time.monotonic()) > 0:
            self._tick(line.bag_ns(time.monotonic()))
            time.sleep(min(left, CLOCK_PERIOD_S))

    def _tick(self, bag_ns: int, *, force: bool = False) -> None:
        """Publish /clock, not more often than needed and never backwards."""
        now = time.monotonic()
        if now < self._next_clock_s and not (force and bag_ns > self._clock_ns):
            return
        self._next_clock_s = now + 0.9 * CLOCK_PERIOD_S
        self._clock_ns = max(self._clock_ns, bag_ns)
        self._clock_message.clock.sec = self._clock_ns // NS
        self._clock_message.clock.nanosec = self._clock_ns % NS
        self._clock.publish(self._clock_message)


def message_class(msgtype: str) -> Any:
    """The Python class of "package/msg/Name".

    Raises:
        BagError: if the package is not installed or has no such message.
    """
    package, _, name = msgtype.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as e:
        dashed = package.replace("_", "-")
        raise BagError(
            f"message type {msgtype} is not installed ({e})",
            fix=f"apt install ros-$ROS_DISTRO-{dashed} (with pip: ros-kilted-{dashed}, where "
            "there is one), or leave the topic out with --topics",
        ) from e


def _qos(msgtype: str) -> Any:
    from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

    from robollm.data.bag_types import offer

    depth, keeps = offer(msgtype)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if keeps else DurabilityPolicy.VOLATILE,
    )


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="bag_player",
        description="Publish a bag (mcap or sqlite3) in real time, with /clock. Stamps are not "
        "rewritten: start subscribers with use_sim_time, or let them ignore the clock.",
        epilog="Topics are remapped as everywhere in ROS: --ros-args -r /old:=/new. "
        "At the end one line of JSON says what was played and how late.",
    )
    p.add_argument("bag", help="folder with metadata.yaml, or a .mcap or .db3 file")
    p.add_argument("--rate", type=_positive, default=1.0, metavar="R",
                   help="bag seconds per second, > 0 (default 1.0)")  # fmt: skip
    p.add_argument("--loop", action="store_true",
                   help="start again at the end, until SIGINT; bag time jumps back")  # fmt: skip
    p.add_argument("--wait", type=_seconds, default=10.0, metavar="S",
                   help="wait at most this long for a subscriber of every topic, then say which "
                   "topics nobody listens to and start (default 10)")  # fmt: skip
    p.add_argument("--tail", type=_seconds, default=3.0, metavar="S",
                   help="go on with /clock after the last message (default 3)")  # fmt: skip
    p.add_argument("--topics", nargs="+", metavar="T",
                   help="play exactly these, of whatever kind; only a recorded /clock never is. "
                   "Default: all but what perception publishes (in the player's namespace, in "
                   "/robollm, and where verdicts were recorded), /rosout, /parameter_events, "
                   "/diagnostics, and types that are not installed; stderr lists what is left "
                   "out")  # fmt: skip
    return p


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not > 0")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not >= 0")
    return value


def main(argv: list[str] | None = None) -> int:
    """Play a bag.

    Args:
        argv: arguments without the program's name, `--ros-args` included; `sys.argv` if None.

    Returns:
        0 when it was played or stopped by a signal, 1 after an error that was reported.
    """
    argv = sys.argv[1:] if argv is None else argv
    with listening() as stop:
        try:
            options = _parser().parse_args(without_ros(argv))
            print(json.dumps(_run(options, argv, stop)), flush=True)
            return 0
        except RobollmError as e:
            print(f"error: {e}", file=sys.stderr)
            return 1


def without_ros(argv: list[str]) -> list[str]:
    """The arguments that aren't ROS's. `--help` works where no ROS is."""
    if "--ros-args" not in argv:
        return argv
    from rclpy.utilities import remove_ros_args

    return list(remove_ros_args(["program", *argv])[1:])


def _run(options: argparse.Namespace, argv: list[str], stop: Stop) -> dict[str, Any]:
    # In here, after the signal handlers: these take half a second, and Ctrl-C may come meanwhile.
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from robollm.data.bag import BagReader

    tally, loops, unheard = Tally(), 0, list[str]()
    with ExitStack() as stack:
        bag = stack.enter_context(BagReader(options.bag))
        if next(bag.messages(options.topics), None) is None:
            raise BagError(f"{options.bag} has no message on {', '.join(options.topics or ())}")
        rclpy.init(args=["bag_player", *argv], signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        node = rclpy.create_node("bag_player")
        stack.callback(node.destroy_node)
        choice = choose(
            bag.topics,
            options.topics,
            namespace=node.get_namespace(),
            resolve=node.resolve_topic_name,
            check=message_class,
        )
        if choice.skipped:
            print(choice.words(), file=sys.stderr, flush=True)
        played = [t for t in bag.topics if t.name in choice.names]
        player = Player(node, played, stop)
        first = next(bag.messages(choice.names))
        unheard = player.wait_for_subscribers(first.log_ns, options.wait)
        if unheard and not stop.asked():
            print(f"nobody listens to {', '.join(unheard)}", file=sys.stderr, flush=True)
        began = time.monotonic()
        while not stop.asked():
            ahead = ReadAhead(bag.messages(choice.names))
            try:
                line = player.play(ahead, options.rate, tally)
            finally:
                ahead.close()
            loops += 1
            if not options.loop:
                seconds = time.monotonic() - began
                if line is not None:
                    player.finish(line, options.tail)
                break
        else:
            seconds = time.monotonic() - began
    return {
        "bag": str(options.bag),
        **tally.summary(),
        "seconds": round(seconds, 3),
        "rate": options.rate,
        "loops": loops,
        "unheard": unheard,
        "skipped": choice.skipped,
        "stopped": stop.asked(),
    }


if __name__ == "__main__":
    sys.exit(main())
