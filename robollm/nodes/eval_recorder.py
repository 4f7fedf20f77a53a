"""`eval_replay`: play a bag into the running nodes and write down what they publish.

By default in lock step: as fast as the nodes answer, so that nothing is dropped, with the answers
of a replay without ROS. With `--real-time` by the clock, as a cell would see it: then what the
nodes drop is part of the result.

Standard output is one JSON object per line: `{"stream": "picks" | "totes", "stamp_ns": N,
"record": {...}}` for every pick and tote image, as `robollm eval` files them but without truth;
`{"event": ...}` for the rest, with the counts in the last one, `end`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robollm.core.errors import ConfigError, RobollmError
from robollm.nodes.bag_player import Player, without_ros
from robollm.nodes.signals import Stop, listening

if TYPE_CHECKING:
    from robollm.nodes.replay_ear import Ear, Heard, Tote
    from robollm.nodes.replay_feed import ReplayBag

DISCOVERY_S = 30.0
LAST_ROUNDS = 2  # diagnostics after the last answer: they have the final counters


def say(card: dict[str, Any]) -> None:
    """One line of JSON on stdout, now."""
    print(json.dumps(card, ensure_ascii=False, allow_nan=False), flush=True)


def _run(options: argparse.Namespace, argv: list[str], stop: Stop) -> bool:
    # In here, after the signal handlers: these take half a second, and Ctrl-C may come meanwhile.
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from robollm.nodes.replay_ear import Ear
    from robollm.nodes.replay_feed import ReplayBag
    from robollm.nodes.replay_steps import StoppedError
    from robollm.runtime.memory import keep_large_buffers

    keep_large_buffers()
    with ExitStack() as stack:
        bag = stack.enter_context(ReplayBag(options.bag))
        rclpy.init(args=["eval_replay", *argv], signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        node = rclpy.create_node("eval_replay")
        stack.callback(node.destroy_node)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        stack.callback(executor.shutdown)
        ear = Ear(node, masks=bool(_lines(options.totes)))

        def spin(seconds: float) -> None:
            executor.spin_once(timeout_sec=seconds)

        try:
            end = _replay(options, bag, node, ear, spin, stop)
        except StoppedError:
            say({"event": "end", "stopped": True})
            return False
    say({"event": "end", "stopped": False, **end})
    return True


def _replay(
    options: argparse.Namespace,
    bag: ReplayBag,
    node: Any,
    ear: Ear,
    spin: Callable[[float], None],
    stop: Stop,
) -> dict[str, Any]:
    """Play, say every record; returns what is left to be said."""
    from robollm.nodes.replay_cell import ReplayCell
    from robollm.nodes.replay_clock import ByTheClock
    from robollm.nodes.replay_ear import NODES
    from robollm.nodes.replay_feed import ASKED, cast, look_through
    from robollm.nodes.replay_lines import pick_record, tote_record
    from robollm.nodes.replay_steps import Ledger, LockStep

    totes = frozenset(map(int, _lines(options.totes)))
    cell = ReplayCell(node, ear, spin, stop)
    cell.wait_until_active(options.ready)
    rules = cell.rules(options.limit)
    views = list(rules.views)
    kinds = {t.name: t.type for t in bag.topics if t.count}
    parts = cast(kinds, node.resolve_topic_name, rules.views)
    plan = look_through(bag, parts.roles, _lines(options.done), totes)
    cell.clear_container(rules.limit_s)
    played = [t for t in bag.topics if t.count and t.name in parts.roles]
    player = Player(node, played, stop)
    cell.wait_until_heard(parts.roles, max(DISCOVERY_S, options.limit))
    models = {name: ear.value(NODES[1], name) for name in ("bundle_sha256", "precision")}
    say({"event": "ready", "picks": len(plan.planned_on), "skipped": plan.start, "views": views,
         "models": models, "left_out": parts.left_out})  # fmt: skip

    def on_pick(heard: Heard) -> None:
        record = pick_record(heard, views, rules.limit_s)
        say({"stream": "picks", "stamp_ns": heard.pick.stamp_ns, "record": asdict(record)})

    def on_tote(stamp_ns: int, tote: Tote) -> None:
        if stamp_ns in totes:
            record = tote_record(stamp_ns, tote)
            say({"stream": "totes", "stamp_ns": stamp_ns, "record": asdict(record)})

    ledger, late = Ledger(on_pick, on_tote), None
    before = {name: ear.counters(name) for name in ear.told}
    began = time.monotonic()
    steps = plan.steps(bag.messages(list(parts.roles)))
    if options.real_time is None:
        LockStep(player, ear, spin, rules, ledger, stop, totes).play(steps)
    else:
        asked = [t for t, role in parts.roles.items() if role == ASKED]
        picks = itertools.islice(bag.messages(asked), plan.start, None)
        by_clock = ByTheClock(player, ear, spin, rules, ledger, stop, options.real_time)
        late = by_clock.play(steps, picks, totes)["lateness_ms"]
    seconds = time.monotonic() - began
    goal = {name: told.count + LAST_ROUNDS for name, told in ear.told.items()}
    cell.until(lambda: all(ear.told[n].count >= k for n, k in goal.items()), DISCOVERY_S)
    nodes = {n: Counter(ear.counters(n)) - Counter(before[n]) for n in before}
    return {
        "seconds": round(seconds, 3),
        "problems": dict(+(ledger.counts + ear.counts)),
        "nodes": {name: dict(counts) for name, counts in nodes.items() if counts},
        "lateness_ms": late,
    }


def _lines(path: Path | None) -> frozenset[str]:
    """The lines of a file; none if there is no file."""
    if path is None:
        return frozenset()
    try:
        return frozenset(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"can't read {path}: {e}", fix="one id per line, UTF-8") from e


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not > 0")
    return value


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="eval_replay",
        description="Play a bag into the running nodes and write down what they publish, as JSON "
        "lines on stdout. In lock step (the default) nothing is dropped.",
        epilog="Run it in the nodes' namespace and with their remappings: --ros-args "
        "-r __ns:=/robollm. The nodes need use_sim_time: true.",
    )
    p.add_argument("bag", type=Path, help="folder with metadata.yaml, or a .mcap or .db3 file")
    p.add_argument("--real-time", type=_positive, metavar="R",
                   help="by the clock, R bag seconds per second; not in lock step")  # fmt: skip
    p.add_argument("--limit", type=_positive, default=60.0, metavar="S",
                   help="wait this long for an answer, after the time limit that the nodes have "
                   "for views (default 60)")  # fmt: skip
    p.add_argument("--ready", type=_positive, default=600.0, metavar="S",
                   help="wait this long for active nodes (default 600; models load)")  # fmt: skip
    p.add_argument("--done", type=Path, metavar="FILE",
                   help="picks that are answered already, one \"STAMP ID\" per line: everything "
                   "before the first other one is left out")  # fmt: skip
    p.add_argument("--totes", type=Path, metavar="FILE",
                   help="stamps (ns) of the tote images whose instances are wanted, one per "
                   "line")  # fmt: skip
    return p


def main(argv: list[str] | None = None) -> int:
    """Replay a bag.

    Args:
        argv: arguments without the program's name, `--ros-args` included; `sys.argv` if None.

    Returns:
        0 when it was played to its end, 1 after an error that was reported, 130 when a signal
        ended it.
    """
    argv = sys.argv[1:] if argv is None else argv
    with listening() as stop:
        try:
            options = _parser().parse_args(without_ros(argv))
            return 0 if _run(options, argv, stop) else 130
        except RobollmError as e:
            say({"event": "error", "kind": type(e).__name__, "what": e.what, "fix": e.fix})
            print(f"error: {e}", file=sys.stderr)
            return 1
        except BrokenPipeError:  # nobody reads any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 1


if __name__ == "__main__":
    sys.exit(main())
