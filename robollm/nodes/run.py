"""Start nodes in one process and end them cleanly."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from robollm.core.errors import ConfigError
from robollm.nodes import param_files
from robollm.nodes.base import PerceptionNode
from robollm.nodes.signals import listen
from robollm.runtime.memory import keep_large_buffers

WAKE_S = 0.2


def run(build: Callable[[], Sequence[PerceptionNode]], args: list[str] | None = None) -> None:
    """Spin nodes on one executor until SIGINT or SIGTERM; then answer what is open, free all.

    One thread for callbacks is enough: they only hand over; the work is in each node's worker.
    (Measured: a MultiThreadedExecutor costs 6 times the CPU and loses messages.) The signals are
    ours, not rclpy's: its handler ends the context at once, and an open pick would get no answer.

    Args:
        build: makes the nodes, in the order in which they start.
        args: command line; None: `sys.argv`.
    """
    keep_large_buffers()
    ending = listen()  # as the program does before its imports; a signal may have come since
    if ending.asked():
        return
    argv = sys.argv if args is None else args
    try:
        rclpy.init(args=argv, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as e:  # rclpy has no name for it: the parent of all errors of rcl
        print(f"error: {param_files.refusal(param_files.given(argv)[0], str(e))}", file=sys.stderr)
        sys.exit(2)
    nodes: Sequence[PerceptionNode] = ()
    try:
        nodes = build()
        _refuse_astray(nodes, argv)
        executor = SingleThreadedExecutor()
        for node in nodes:
            executor.add_node(node)
        for node in nodes:
            if not ending.asked():
                node.autostart()
        while not ending.asked():
            executor.spin_once(timeout_sec=WAKE_S)
    except ExternalShutdownException:
        pass
    finally:
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()


def _refuse_astray(nodes: Sequence[PerceptionNode], argv: Sequence[str]) -> None:
    """A setting that reaches no node would be lost without a word: no node here configures."""
    files, found = param_files.given(argv)
    try:
        found += [section for file in files for section in param_files.sections(file)]
    except ConfigError as e:  # ROS has read it
        nodes[0].get_logger().warning(f"its sections are not checked: {e}")
    astray = param_files.astray(found, {n.get_fully_qualified_name(): n.role for n in nodes})
    for text in astray.doubtful:
        nodes[0].get_logger().warning(text)
    for node in nodes:
        node.refuse_settings(astray.refused)
