"""Nodes that look like ours from outside, without a model: a test says what they answer.

They run in a thread of the test's process. What a replay waits for is all there: parameters,
diagnostics with the nodes' own time, containers heard, picks counted, one answer per pick.
"""

from __future__ import annotations

import threading

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from robollm.nodes import qos

NAMES = ("segmentation_node", "identification_node", "defect_node")
VIEWS = ("on_arm_low", "tote_wall")


def ranked(*pairs):
    out = []
    for name, score in pairs:
        row = ObjectHypothesisWithPose()
        row.hypothesis.class_id, row.hypothesis.score = name, score
        out.append(row)
    return out


class StandIn:
    """Three nodes.

    Args:
        namespace: theirs.
        deaf: pick ids that get no answer from the defect node.
        blind: stamps of tote images that are refused.
        slow: stamps of tote images that the nodes can't follow: dropped, and missing for the pick.
        sim_time: their `use_sim_time`.
        broken: what the segmentation node says went wrong when it was configured.
    """

    def __init__(self, namespace, *, deaf=(), blind=(), slow=(), sim_time=True, broken=""):
        self.deaf, self.blind, self.slow, self.broken = deaf, blind, slow, broken
        self.views_seen: list[tuple[str, int, int]] = []  # view, stamp, the node's own time
        self.containers: dict[str, str] = {}  # pick id -> container when it was announced
        self.container = ""
        self.dead = threading.Event()
        self._ending = threading.Event()
        self.counts = dict.fromkeys(NAMES, 0)
        self._refused = self._dropped = self._without = 0
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.nodes = {n: self._node(n, namespace, sim_time) for n in NAMES}
        self._talk()
        self._executor = SingleThreadedExecutor(context=self._context)
        for node in self.nodes.values():
            self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def close(self):
        self._ending.set()
        self._thread.join()
        self._executor.shutdown()
        for node in self.nodes.values():
            node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _spin(self):
        while not self._ending.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def _node(self, name, namespace, sim_time):
        values = {
            "use_sim_time": sim_time,
            "views": list(VIEWS),
            "view_timeout_s": 0.5,
            "view_delay_s": 0.0,
            "max_view_age_s": 10.0,
            "frame_history": 16,
        }
        node = rclpy.create_node(
            name,
            namespace=namespace,
            context=self._context,
            parameter_overrides=[Parameter(k, value=v) for k, v in values.items()],
            automatically_declare_parameters_from_overrides=True,
        )
        out = node.create_publisher(DiagnosticArray, "/diagnostics", qos.RESULTS)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(0.02, lambda: self._tell(node, out), clock=steady)
        return node

    def _talk(self):
        seg, ident, defect = self.nodes.values()
        self._found = seg.create_publisher(Detection2DArray, "detections", qos.RESULTS)
        self._named = ident.create_publisher(Detection2DArray, "pick_identifications", qos.RESULTS)
        self._verdict = defect.create_publisher(Detection2DArray, "defects", qos.RESULTS)
        self._evidence = defect.create_publisher(Detection2DArray, "defects/views", qos.RESULTS)
        topic = "image/compressed"
        seg.create_subscription(CompressedImage, topic, self._take_tote, qos.IMAGES)
        ident.create_subscription(String, "container", self._take_container, qos.LATCHED)
        ident.create_subscription(Detection2D, "pick", self._name, qos.RESULTS)
        defect.create_subscription(Detection2D, "pick", self._judge, qos.RESULTS)
        for node in (ident, defect):
            for view in VIEWS:
                node.create_subscription(
                    CompressedImage,
                    f"views/{view}/image/compressed",
                    lambda m, node=node, view=view: self._see(node, view, m),
                    qos.IMAGES,
                )

    def _tell(self, node, out):
        if self.dead.is_set():
            return
        name = node.get_name()
        values = {"state": "active", "enabled": "True", "dropped_frames": "0"}
        if name == "segmentation_node":
            values["count_bad_compressed"] = str(self._refused)
            values["dropped_frames"] = str(self._dropped)
            if self.broken:
                values |= {"state": "unconfigured", "last_error": self.broken}
        else:
            values["count_picks"] = str(self.counts[name])
            if name == "identification_node":
                values["count_pick_without_tote_image"] = str(self._without)
            values["container"] = self.container or "none announced"
        status = DiagnosticStatus(
            name=node.get_fully_qualified_name(),
            values=[KeyValue(key=k, value=v) for k, v in values.items()],
        )
        msg = DiagnosticArray(status=[status])
        msg.header.stamp = node.get_clock().now().to_msg()
        out.publish(msg)

    def _take_container(self, msg):
        self.container = msg.data.strip()

    def _take_tote(self, msg):
        if msg.header.stamp.sec in self.blind:
            self._refused += 1
        elif msg.header.stamp.sec in self.slow:
            self._dropped += 1
        else:
            self._found.publish(Detection2DArray(header=msg.header))

    def _see(self, node, view, msg):
        if node.get_name() == "defect_node":
            ns = msg.header.stamp.sec * 1_000_000_000 + msg.header.stamp.nanosec
            self.views_seen.append((view, ns, node.get_clock().now().nanoseconds))

    def _name(self, msg):
        self.counts["identification_node"] += 1
        self.containers[msg.id] = self.container
        self._without += msg.header.stamp.sec in self.slow
        answer = Detection2D(header=msg.header, id=msg.id, bbox=msg.bbox)
        answer.results = ranked(("thing", 0.75), ("other", 0.25))
        self._named.publish(Detection2DArray(header=msg.header, detections=[answer]))

    def _judge(self, msg):
        self.counts["defect_node"] += 1
        if msg.id in self.deaf:
            return
        answer = Detection2D(header=msg.header, id=msg.id, bbox=msg.bbox)
        answer.results = ranked(("uninspected", 1.0))
        self._evidence.publish(Detection2DArray(header=msg.header))
        self._verdict.publish(Detection2DArray(header=msg.header, detections=[answer]))
