"""What does ROS cost? The same frames through Perceiver directly and through DDS, in one run.

`python bench/ros_overhead.py` writes results/ros_overhead.json. One process runs segmentation_node;
this one plays the camera and the consumer, and, in turns with it, runs the Perceiver itself. The
two never run at the same time, so both have all cores.

- direct: Frame -> Perceiver.segment -> label map, ms.
- DDS, one at a time: from `publish(image)` until `detections` AND `masks` are here, ms. That adds
  what the camera's and the consumer's side of DDS cost, not only the node's.
- node: the node's own stage times (its /diagnostics), so what is ours can be told from transport.
- stream: the camera runs at its own rate for a while; received, dropped (newest wins), age.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import kit
import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from robollm.core.frame import Frame
from robollm.core.settings import RuntimeConfig
from robollm.export.sketch import SketchSize, write_sketch_bundle
from robollm.nodes import qos
from robollm.runtime.memory import keep_large_buffers
from robollm.runtime.perceiver import Perceiver

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"VGA": (480, 640), "1080p": (1080, 1920)}
NS = 1_000_000_000
P50 = "_ms_p50"
MESSAGES = ("decode", "publish")  # the node's stages that the Perceiver alone doesn't have


class Camera:
    """Publishes one picture again and again and notes when its results come back."""

    def __init__(self, namespace: str) -> None:
        self.node = rclpy.create_node("bench", namespace=namespace)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.pub = self.node.create_publisher(Image, "image", qos.IMAGES)
        self.back: dict[int, dict[str, float]] = {}
        self.values: dict[str, str] = {}
        for kind, topic in ((Detection2DArray, "detections"), (Image, "masks")):
            self.node.create_subscription(
                kind, topic, lambda m, t=topic: self._came(t, m), qos.IMAGES
            )
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._told, 10)

    def _came(self, topic: str, msg: Any) -> None:
        stamp = msg.header.stamp.sec * NS + msg.header.stamp.nanosec
        self.back.setdefault(stamp, {})[topic] = time.perf_counter()

    def _told(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            if status.name.endswith("segmentation_node"):
                self.values = {v.key: v.value for v in status.values}

    def spin_until(self, true: Any, timeout_s: float) -> bool:
        """Spin until `true()` or the time is up."""
        end = time.perf_counter() + timeout_s
        while not true() and (left := end - time.perf_counter()) > 0:
            # Sleeps until a message comes: a consumer that polls takes a core from the model.
            self.executor.spin_once(timeout_sec=left)
        return bool(true())

    def send(self, msg: Image) -> tuple[int, float]:
        """Publish with a new stamp; returns it and the time before publishing."""
        ns = time.time_ns()
        msg.header = Header(stamp=Time(sec=ns // NS, nanosec=ns % NS), frame_id="bench")
        start = time.perf_counter()
        self.pub.publish(msg)
        return ns, start

    def round_trip_ms(self, msg: Image) -> float:
        """Publish one image and wait for both results."""
        ns, start = self.send(msg)
        if not self.spin_until(lambda: len(self.back.get(ns, ())) == 2, 20):
            raise SystemExit("error: no result within 20 s; see the node's log above")
        return 1e3 * (max(self.back[ns].values()) - start)


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p95 and the number of values."""
    p50, p95 = np.percentile(values, [50, 95])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2), "n": len(values)}


def picture(hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A textured RGB picture."""
    small = np.random.default_rng(0).integers(0, 255, (27, 48, 3), np.uint8)
    large: NDArray[np.uint8] = np.asarray(
        cv2.resize(small, (hw[1], hw[0]), interpolation=cv2.INTER_CUBIC), np.uint8
    )
    return large


def direct_ms(perceiver: Perceiver, rgb: NDArray[np.uint8]) -> float:
    """The node's work without ROS."""
    start = time.perf_counter()
    stamp = time.monotonic_ns()  # a new one each time, or the second answer comes from memory
    perceiver.segment(Frame(rgb, "rgb", stamp_ns=stamp)).label_map()
    return 1e3 * (time.perf_counter() - start)


def own_ms(stages: dict[str, float]) -> float:
    """The model's time in the node: its stages' medians, but for what is made of messages.

    By what is left out, not by name: a graph that is cut in two has two stages.
    """
    p50 = {k[: -len(P50)]: ms for k, ms in stages.items() if k.endswith(P50)}
    return sum(ms for stage, ms in p50.items() if stage not in MESSAGES)


def measure(camera: Camera, perceiver: Perceiver, hw: tuple[int, int], args: Any) -> dict[str, Any]:
    """One image size: direct and DDS in turns, then a stream."""
    rgb = picture(hw)
    msg = Image(height=hw[0], width=hw[1], encoding="rgb8", step=3 * hw[1])
    msg.data = array.array("B", rgb.tobytes())
    for _ in range(5):
        direct_ms(perceiver, rgb)
        camera.round_trip_ms(msg)
    direct: list[float] = []
    dds: list[float] = []
    for _ in range(args.blocks):
        direct += [direct_ms(perceiver, rgb) for _ in range(args.block)]
        dds += [camera.round_trip_ms(msg) for _ in range(args.block)]
    camera.spin_until(lambda: False, 1.2)  # one more report of the node
    stages = {
        k[len("stage_") :]: float(v) for k, v in camera.values.items() if k.startswith("stage_")
    }
    before = int(camera.values["dropped_frames"])
    sent: list[tuple[int, float]] = []
    period, begin = 1 / args.rate, time.perf_counter()
    while (now := time.perf_counter()) - begin < args.stream_s:
        if now - begin >= len(sent) * period:
            sent.append(camera.send(msg))
        camera.executor.spin_once(timeout_sec=max(0.0, begin + len(sent) * period - now))
    camera.spin_until(lambda: False, 2.5)
    ages = [
        1e3 * (max(camera.back[ns].values()) - start)
        for ns, start in sent
        if len(camera.back.get(ns, ())) == 2
    ]
    own = own_ms(stages)
    d, r = statistics.median(direct), statistics.median(dds)
    return {
        "direct_ms": percentiles(direct),
        "dds_ms": percentiles(dds),
        "ratio_p50": round(r / d, 3),
        "added_ms_p50": round(r - d, 2),
        "node_stages_ms": stages,
        # The same against the model's time in the node itself, which the machine's noise hits
        # together with the round trip.
        "added_to_own_model_ms_p50": round(r - own, 2),
        "ratio_to_own_model_p50": round(r / own, 3),
        "stream": {
            "rate_hz": args.rate,
            "sent": len(sent),
            "answered": len(ages),
            "dropped_by_newest_wins": int(camera.values["dropped_frames"]) - before,
            "age_ms": percentiles(ages) if ages else "not measured",
        },
    }


def main() -> int:
    """Measure, print, write results/ros_overhead.json."""
    parser = argparse.ArgumentParser(prog="ros_overhead.py", description=__doc__)
    parser.add_argument("--block", type=int, default=1, help="frames a block")
    parser.add_argument("--blocks", type=int, default=80, help="blocks of each kind and size")
    parser.add_argument("--rate", type=float, default=30.0, help="the stream's rate, Hz")
    parser.add_argument("--stream-s", type=float, default=8.0, help="the stream's length, s")
    parser.add_argument("--depth", type=int, default=9, help="blocks of the sketch backbone")
    parser.add_argument("--dim", type=int, default=192, help="channels of the sketch backbone")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "ros_overhead.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temp, kit.conditions() as about:
        size = SketchSize(dim=args.dim, depth=args.depth, heads=max(1, args.dim // 64))
        bundle = write_sketch_bundle(Path(temp) / "bundle", size=size)
        keep_large_buffers()  # the node does it for itself; a camera driver may or may not
        rclpy.init()
        namespace = f"/bench{os.getpid()}"
        camera = Camera(namespace)
        node = subprocess.Popen(
            [
                *(sys.executable, "-c"),
                "from robollm.nodes.segmentation_node import main; main()",
                *("--ros-args", "-r", f"__ns:={namespace}", "--log-level", "error"),
                *("-p", f"bundle:={bundle}", "-p", "allow_untrained:=true"),
            ]
        )
        try:
            perceiver = Perceiver(RuntimeConfig(bundle=str(bundle), allow_untrained=True))
            perceiver.warm_up()
            if not camera.spin_until(lambda: camera.values.get("state") == "active", 60):
                raise SystemExit("error: the node did not become active within 60 s")
            camera.spin_until(lambda: camera.pub.get_subscription_count() == 1, 20)
            rows = {name: measure(camera, perceiver, hw, args) for name, hw in SIZES.items()}
        finally:
            node.send_signal(signal.SIGINT)
            node.wait(30)
            rclpy.try_shutdown()
    card = {
        "command": kit.command(parser, args),
        "conditions": {
            **about,
            "rmw": os.environ.get("RMW_IMPLEMENTATION", "default (rmw_fastrtps_cpp)"),
            "transports": Path(
                os.environ.get("FASTDDS_DEFAULT_PROFILES_FILE")
                or os.environ.get("FASTDDS_BUILTIN_TRANSPORTS", "default")
            ).name,
            "model": f"sketch {args.dim}-d x {args.depth}, 384x480 canvas, ONNX Runtime CPU fp32",
        },
        "sizes": rows,
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(card, indent=2) + "\n")
    for name, row in rows.items():
        print(
            f"{name}: direct {row['direct_ms']['p50']} ms (p95 {row['direct_ms']['p95']}), "
            f"through DDS {row['dds_ms']['p50']} ms (p95 {row['dds_ms']['p95']}), "
            f"ratio {row['ratio_p50']} (to the model's time in the node: "
            f"{row['ratio_to_own_model_p50']}); stream at {args.rate:g} Hz: {row['stream']}"
        )
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
