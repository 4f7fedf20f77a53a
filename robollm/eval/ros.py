"""Bags through DDS into the running nodes, and what these publish into a run folder.

Nothing here imports ROS: the nodes (`perception`) and the player that listens (`eval_replay`) are
processes. Both answer to their own logs, `RUN/ros/*.log`, and end with this process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robollm.core.errors import BagError, EvalError
from robollm.eval.progress import SILENT, Progress
from robollm.eval.records import PICKS, TOTES, Json
from robollm.eval.ros_filing import BagPlan, Filing
from robollm.eval.ros_processes import GOES_ON, Child, environment, refuse_dead
from robollm.eval.run_folder import RunFolder
from robollm.eval.runner import Progressed
from robollm.eval.truth import Bag

__all__ = ["RosSettings", "need_ros", "replay_bags"]

# Naming every instance of every tote image is most of the work, and nothing of it is evaluated.
_UNNAMED = "identification_node:detections:=not_evaluated/detections"
ATTACH_S = "60"  # nodes that run already are not waited for as long as those that load models
_OWN_LOG = "--disable-external-lib-logs"  # stderr says the same


@dataclass(frozen=True, slots=True, kw_only=True)
class RosSettings:
    """How the nodes are started and the bags are played.

    Attributes:
        parameters: of all nodes: bundle, gallery, manifest ...
        namespace: of the nodes and of the bag's topics; empty: the root.
        remaps: "from:=to": a topic of the nodes that has another name in the bag.
        attach: use nodes that run already, in this process' ROS domain, as they are set.
        real_time: bag seconds per second; None: in lock step.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    namespace: str = "/robollm"
    remaps: tuple[str, ...] = ()
    attach: bool = False
    real_time: float | None = None


def replay_bags(
    run: RunFolder,
    bags: Sequence[Bag],
    settings: RosSettings,
    *,
    progress: Progress = SILENT,
) -> Progressed:
    """Replay bags one after the other into one set of nodes, and file what they publish.

    Picks that have an answer are left out, so that a run that was ended goes on. What was dropped
    or refused, by whom, goes into the run's problems.

    Args:
        run: where the records go, streams `picks` and `totes`.
        bags: what to play.
        settings: how.
        progress: is told of every pick.

    Raises:
        EvalError: ROS is missing, the nodes don't come up or die (with the end of their log), or
            they can't be played to; what was answered is kept.
        BagError: a bag can't be read.
    """
    began = time.monotonic()
    need_ros()
    logs = run.path / "ros"
    logs.mkdir(exist_ok=True)
    plans = [BagPlan.of(run, bag, _pick_topic(settings)) for bag in bags]
    total = sum(len(plan.keys) for plan in plans)
    run.note_stream(PICKS, total)
    progress.begin(PICKS, total, sum(len(plan.done) for plan in plans))
    try:
        with ExitStack() as stack:
            filing = Filing(run, progress, stack)
            if todo := [plan for plan in plans if plan.todo]:
                around = _environment(settings, logs)
                nodes = _nodes(stack, settings, around, logs)
                for plan in todo:
                    _replay(plan, settings, around, nodes, filing, logs)
    finally:
        progress.end()
        run.note_stream(PICKS, total)
    in_bags = 0
    for plan in plans:
        frames = plan.frames_with_a_record(run)
        in_bags += len(frames)
        plan.bag.truth.compare({one for one, _ in plan.keys}, frames, run.problems)
    if in_bags:
        run.note_stream(TOTES, in_bags)
    skipped = total - filing.done - filing.failed
    return Progressed(filing.done, skipped, filing.failed, time.monotonic() - began)


def need_ros() -> None:
    """Say how to get ROS where it is missing.

    Raises:
        EvalError: if `rclpy` or `vision_msgs` can't be found.
    """
    missing = [m for m in ("rclpy", "vision_msgs") if importlib.util.find_spec(m) is None]
    if missing:
        raise EvalError(
            f"--ros needs ROS 2, but Python finds no {' and no '.join(missing)}",
            fix="source /opt/ros/DISTRO/setup.bash, or evaluate without --ros",
        )


def _pick_topic(settings: RosSettings) -> str:
    """The bag's topic with the picks: what the nodes' `pick` is remapped to."""

    def full(name: str) -> str:
        return name if name.startswith("/") else f"{settings.namespace.rstrip('/')}/{name}"

    moved = {full(a): full(b) for a, _, b in (rule.partition(":=") for rule in settings.remaps)}
    return moved.get(full("pick"), full("pick"))


def _replay(
    plan: BagPlan,
    settings: RosSettings,
    around: Mapping[str, str],
    nodes: Child | None,
    filing: Filing,
    logs: Path,
) -> None:
    done, totes = logs / "done.txt", logs / "totes.txt"
    answered = [f"{ns} {one}\n" for (one, ns), key in plan.keys.items() if key in plan.done]
    done.write_text("".join(answered), encoding="utf-8")
    totes.write_text("".join(f"{ns}\n" for ns in plan.totes), encoding="utf-8")
    words = [str(plan.bag.path), "--done", str(done), "--totes", str(totes)]
    if settings.attach:
        words += ["--ready", ATTACH_S]
    if settings.real_time is not None:
        words += ["--real-time", f"{settings.real_time:g}"]
    words += ["--ros-args", _OWN_LOG, *_names(settings)]
    with Child("eval_recorder", words, around, logs / "eval_replay.log") as player:
        error: Json = {}
        for card in player.lines(lambda: refuse_dead(nodes)):
            if card.get("event") == "error":
                error = card
            else:
                filing.take(plan, card)
        code = player.wait()
    refuse_dead(nodes)
    if error:
        kind = BagError if error["kind"] == "BagError" else EvalError
        raise kind(error["what"], fix=error["fix"])
    if code:
        raise EvalError(
            f"eval_replay ended with exit code {code}; its log ends with\n{player.tail()}",
            fix=GOES_ON,
        )


def _nodes(
    stack: ExitStack, settings: RosSettings, around: Mapping[str, str], logs: Path
) -> Child | None:
    """Start the nodes, unless there are some."""
    if settings.attach:
        return None
    card = {
        "use_sim_time": True,
        "diagnostics_period_s": 0.1,  # the replay waits for what they tell
        "no_image_warn_s": 0.0,  # a replay may pause
        "threads": 1,  # there are three workers; and the results don't depend on the cores
        **settings.parameters,
    }
    own = logs / "params.yaml"
    own.write_text(json.dumps({"/**": {"ros__parameters": card}}), encoding="utf-8")  # YAML, too
    words = ["--ros-args", _OWN_LOG, *_names(settings), "-r", _UNNAMED]
    words += ["--params-file", str(own)]
    child = Child("perception", words, around, logs / "perception.log", talks=False)
    return stack.enter_context(child)


def _names(settings: RosSettings) -> list[str]:
    rules = (f"__ns:={settings.namespace or '/'}", *settings.remaps)
    return [word for rule in rules for word in ("-r", rule)]


def _environment(settings: RosSettings, logs: Path) -> dict[str, str]:
    return dict(os.environ) if settings.attach else environment(logs)
