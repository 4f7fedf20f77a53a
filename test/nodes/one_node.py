"""One node of ours in the test's own process, and the world around it, on one executor."""

from __future__ import annotations

import itertools
import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter

from robollm.runtime.station import Station


class OneNode:
    """A node and its world.

    Args:
        kind: the node's class.
        station: folder with bundle/, manifest.json and gallery/.
        args: more of the command line, behind `--ros-args`.
        params: parameters, over the usual ones.
    """

    _count = itertools.count()

    def __init__(self, kind, station, *args, **params) -> None:
        values = {
            "bundle": str(station / "bundle"),
            "manifest": str(station / "manifest.json"),
            "allow_untrained": True,
            "threads": 1,
            "view_timeout_s": 0.2,
            "views": ["low"],
            **params,
        }
        self.context = rclpy.Context()
        rclpy.init(args=["x", "--ros-args", *args], context=self.context)
        self.namespace = f"/one{next(self._count)}"
        self.executor = SingleThreadedExecutor(context=self.context)
        name = kind.__name__
        own = {"SegmentationNode": ("view_timeout_s", "views", "manifest")}.get(
            name, () if name == "IdentificationNode" else ("manifest",)
        )
        self.node = kind(
            Station(),
            context=self.context,
            namespace=self.namespace,
            parameter_overrides=[Parameter(k, value=v) for k, v in values.items() if k not in own],
        )
        self.world = rclpy.create_node("world", context=self.context, namespace=self.namespace)
        for n in (self.node, self.world):
            self.executor.add_node(n)
        self.got = {}

    def listen(self, kind, topic, profile):
        self.got[topic] = []
        self.world.create_subscription(kind, topic, self.got[topic].append, profile)
        return self.got[topic]

    def start(self):
        """Configure and activate; wait until it hears `pick`, if it does, and is heard."""
        self.node.autostart()
        full = [f"{self.namespace}/{t}" for t in self.got]
        return self.until(
            lambda: all(self.node.count_subscribers(t) and self.world.count_publishers(t)
                        for t in full)
        )  # fmt: skip

    def until(self, true, timeout_s=20.0):
        end = time.monotonic() + timeout_s
        while not (value := true()) and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)
        return value

    def problems(self):
        """What /diagnostics says is wrong, (level, text)."""
        return self.node._report().problems

    def close(self):
        self.node.destroy_node()
        self.world.destroy_node()
        self.executor.shutdown()
        rclpy.shutdown(context=self.context)
