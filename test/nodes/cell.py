"""A picking cell for tests: nodes in a process of their own, cameras and controller in this one.

Nothing sleeps for luck: `until` spins the subscriber until something is true or a deadline passes.
"""

from __future__ import annotations

import array
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String
from vision_msgs.msg import Detection2D, Detection2DArray, LabelInfo

NS = 1_000_000_000
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
NODES = ("segmentation_node", "identification_node", "defect_node")
LOST = "client will not receive response"  # rmw: the server hasn't found the client yet
GOALS = {
    Transition.TRANSITION_CONFIGURE: "inactive",
    Transition.TRANSITION_ACTIVATE: "active",
    Transition.TRANSITION_DEACTIVATE: "inactive",
    Transition.TRANSITION_CLEANUP: "unconfigured",
}
CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1, "rgba8": 4, "bgra8": 4}
FROM_RGB = {
    "rgb8": None,
    "bgr8": cv2.COLOR_RGB2BGR,
    "mono8": cv2.COLOR_RGB2GRAY,
    "rgba8": cv2.COLOR_RGB2RGBA,
    "bgra8": cv2.COLOR_RGB2BGRA,
}


def header(ns: int, frame_id: str) -> Header:
    return Header(stamp=Time(sec=ns // NS, nanosec=ns % NS), frame_id=frame_id)


def stamp(msg) -> int:
    return msg.header.stamp.sec * NS + msg.header.stamp.nanosec


def image(rgb, ns: int, frame_id: str, encoding: str = "rgb8", pad: int = 0) -> Image:
    """An Image message; `pad` adds that many bytes of garbage to every row."""
    code = FROM_RGB[encoding]
    pixels = rgb if code is None else cv2.cvtColor(rgb, code)
    h, w = rgb.shape[:2]
    rows = np.full((h, w * CHANNELS[encoding] + pad), 173, np.uint8)
    rows[:, : w * CHANNELS[encoding]] = pixels.reshape(h, -1)
    return Image(
        header=header(ns, frame_id),
        height=h,
        width=w,
        encoding=encoding,
        step=rows.shape[1],
        data=array.array("B", rows.tobytes()),
    )


def jpeg(rgb, ns: int, frame_id: str) -> CompressedImage:
    _, raw = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    data = array.array("B", raw.tobytes())
    return CompressedImage(header=header(ns, frame_id), format="jpeg", data=data)


def pick(pick_id: str, ns: int, box=(20, 20, 120, 110), frame_id: str = "tote_cam") -> Detection2D:
    msg = Detection2D(header=header(ns, frame_id), id=pick_id)
    x1, y1, x2, y2 = (float(v) for v in box)
    msg.bbox.center.position.x, msg.bbox.center.position.y = (x1 + x2) / 2, (y1 + y2) / 2
    msg.bbox.size_x, msg.bbox.size_y = x2 - x1, y2 - y1
    return msg


def picture(seed: int, hw=(240, 320)):
    """A textured picture, RGB uint8."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (12, 16, 3), np.uint8)
    return cv2.resize(small, (hw[1], hw[0]), interpolation=cv2.INTER_CUBIC)


def processes() -> list[str]:
    """The ids of all processes."""
    return [p.name for p in Path("/proc").iterdir() if p.name.isdigit()]


def shared_memory(process: int | str) -> set[Path]:
    """The Fast DDS files in /dev/shm that a process has mapped; none if it is gone."""
    try:
        lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    except OSError:
        return set()
    return {Path(line.split()[-1]) for line in lines if "/dev/shm/" in line and "fastdds" in line}


class Cell:
    """The nodes under test and the world around them.

    Args:
        station: folder with bundle/, manifest.json and gallery/.
        folder: for logs and parameter files.
        params: further parameters of all nodes.
        executables: which programs to start.
        namespace: of everything.
        wait: for all nodes to be active.
        text: parameter file as text, in place of the usual one.
        views: names of the post-pick views.
        publishers: False: somebody else is camera and controller.
    """

    _count = itertools.count()

    def __init__(
        self,
        station: Path,
        folder: Path,
        *,
        params: dict | None = None,
        executables: tuple[str, ...] = ("perception",),
        wait: bool = True,
        text: str | None = None,
        views: tuple[str, ...] = ("on_arm_low", "tote_wall"),
        publishers: bool = True,
    ) -> None:
        self.namespace = f"/cell{os.getpid()}_{next(self._count)}"
        values = {
            "bundle": str(station / "bundle"),
            "manifest": str(station / "manifest.json"),
            "allow_untrained": True,
            "threads": 1,
            "view_timeout_s": 1.0,
            "diagnostics_period_s": 0.1,
            "views": list(views),
            **(params or {}),
        }
        lines = [f"    {k}: {json.dumps(v)}" for k, v in values.items()]
        usual = "\n".join(["/**:", "  ros__parameters:", *lines]) + "\n"
        self.params = folder / "params.yaml"
        self.params.write_text(usual if text is None else text)
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node(
            "world", namespace=self.namespace, context=self.context, start_parameter_services=False
        )
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.got: dict[str, list] = {}
        self._clients: dict[str, rclpy.client.Client] = {}
        for kind, topic, profile in (
            (Detection2DArray, "detections", RELIABLE),
            (Image, "masks", RELIABLE),
            (LabelInfo, "label_info", LATCHED),
            (Detection2DArray, "identifications", RELIABLE),
            (Detection2DArray, "pick_identifications", RELIABLE),
            (Detection2DArray, "defects", RELIABLE),
            (Detection2DArray, "defects/views", RELIABLE),
        ):
            self.listen(kind, topic, profile)
        self.diagnostics: dict[str, object] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnose, RELIABLE)
        if publishers:
            create = self.node.create_publisher
            self.tote_pub = create(Image, "image", RELIABLE)
            self.pick_pub = create(Detection2D, "pick", RELIABLE)
            self.container_pub = create(String, "container", LATCHED)
            self.view_pubs = {v: create(Image, f"views/{v}/image", RELIABLE) for v in views}
        self._last_ns = 0
        self.shared_memory_before = shared_memory("self")
        self.logs = [folder / f"{name}.log" for name in executables]
        self.processes = [self._start(n, f) for n, f in zip(executables, self.logs, strict=True)]
        if wait:
            self._wait(executables, publishers)

    def _wait(self, executables: tuple[str, ...], publishers: bool) -> None:
        own = [n for n in NODES if "perception" in executables or n in executables]
        assert self.until(lambda: all(self.state(n) == "active" for n in own), 60), self.log
        if not publishers:
            return
        for_picks = [self.pick_pub, *self.view_pubs.values()]
        users = len(set(own) - {"segmentation_node"})
        assert self.until(lambda: all(p.get_subscription_count() >= users for p in for_picks), 20)
        if "segmentation_node" in own:
            assert self.until(lambda: self.tote_pub.get_subscription_count() >= 1, 20)

    def _start(self, name: str, log: Path) -> subprocess.Popen:
        command = [
            *(sys.executable, "-c", f"from robollm.nodes.{name} import main; main()"),
            *("--ros-args", "-r", f"__ns:={self.namespace}", "--params-file", str(self.params)),
        ]
        with log.open("wb") as out:
            return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)

    # Hearing.

    def listen(self, kind, topic: str, profile: QoSProfile, name: str | None = None) -> None:
        store = self.got.setdefault(name or topic, [])
        self.node.create_subscription(kind, topic, store.append, profile)

    def until(self, true, timeout_s: float = 30.0):
        """Spin until `true()`; returns its last value."""
        end = time.monotonic() + timeout_s
        while not (value := true()) and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)
        return value

    def settle(self) -> None:
        """Spin until the nodes have published diagnostics twice more: what was sent is handled."""
        for _ in range(2):
            before = dict(self.diagnostics)
            assert self.until(functools.partial(self._all_new, before))

    def _all_new(self, before: dict[str, object]) -> bool:
        return all(self.diagnostics[name] is not before[name] for name in before)

    def _diagnose(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            if status.name.startswith(self.namespace + "/"):
                self.diagnostics[status.name.rpartition("/")[2]] = status

    def values(self, node: str) -> dict[str, str]:
        status = self.diagnostics.get(node)
        return {v.key: v.value for v in status.values} if status else {}

    def state(self, node: str) -> str:
        return self.values(node).get("state", "")

    def count(self, node: str, kind: str) -> int:
        return int(self.values(node).get(f"count_{kind}", 0))

    def answers(self, topic: str, pick_id: str) -> list:
        return [m for m in self.got[topic] if m.detections and m.detections[0].id == pick_id]

    def verdict(self, pick_id: str, timeout_s: float = 30.0) -> Detection2DArray:
        """The one verdict on a pick."""
        assert self.until(lambda: self.answers("defects", pick_id), timeout_s), self.log
        (msg,) = self.answers("defects", pick_id)
        return msg

    def evidence(self, pick_id: str) -> Detection2DArray:
        """The one message about a pick's judged views (there must be at least one)."""

        def about():
            return [
                m
                for m in self.got["defects/views"]
                if any(d.id.startswith(f"{pick_id}/") for d in m.detections)
            ]

        assert self.until(about), self.log
        (msg,) = about()
        return msg

    @property
    def log(self) -> str:
        return "\n".join(p.read_text(errors="replace") for p in self.logs)

    # Telling.

    def now(self) -> int:
        """A stamp later than any given before."""
        self._last_ns = max(time.time_ns(), self._last_ns + 1_000_000)
        return self._last_ns

    def tote(self, ns: int | None = None, seed: int = 1, **kw) -> int:
        ns = ns or self.now()
        self.tote_pub.publish(image(picture(seed), ns, "tote_cam", **kw))
        return ns

    def view(self, name: str, ns: int | None = None, rgb=None) -> int:
        ns = ns or self.now()
        rgb = picture(zlib.crc32(name.encode()) % 1000) if rgb is None else rgb
        self.view_pubs[name].publish(image(rgb, ns, f"{name}_cam"))
        return ns

    def detections(self, ns: int):
        assert self.until(lambda: [m for m in self.got["detections"] if stamp(m) == ns]), self.log
        return next(m for m in self.got["detections"] if stamp(m) == ns)

    def call(self, kind, service: str, request, timeout_s: float = 40.0):
        # One client per service: a server that hasn't found a new client yet drops its answer.
        client = self._clients.get(service)
        if client is None:
            client = self._clients[service] = self.node.create_client(kind, service)
        assert client.wait_for_service(timeout_s)
        future = client.call_async(request)
        assert self.until(future.done, timeout_s), f"{service} did not answer\n{self.log}"
        return future.result()

    def change(self, node: str, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        try:
            return self.call(ChangeState, f"{node}/change_state", request).success
        except AssertionError:
            if LOST not in self.log:
                raise
            return self.lifecycle(node) == GOALS[transition]  # done, but ROS lost the answer

    def lifecycle(self, node: str) -> str:
        return self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label

    # Ending.

    def stop(self, number: int = signal.SIGINT) -> list[int]:
        """Signal every process and wait; returns their exit codes."""
        for p in self.processes:
            if p.poll() is None:
                p.send_signal(number)
        return [p.wait(30) for p in self.processes]

    def close(self) -> None:
        codes = self.stop()
        for topic in ("defects", "pick_identifications"):
            ids = [(d.id, stamp(m)) for m in self.got[topic] for d in m.detections]
            assert len(set(ids)) == len(ids), f"a pick was answered twice on {topic}: {ids}"
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
        assert codes == [0] * len(codes), self.log
