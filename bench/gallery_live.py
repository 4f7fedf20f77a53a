"""Does a node notice that its gallery changes all the time? Errors, and latency with and without.

`python bench/gallery_live.py` writes results/gallery_live.json. One process runs the real
identification_node on a gallery of many products; this one sends totes of ten instances at 5 Hz and
waits for their names; a third one commits changes, one by one: products added, renamed, given a new
picture and removed, containers changed. Quiet and changing stretches take turns in one run.

- search: ten searches in the container's manifest, in the node, ms for each tote.
- answer: from `publish(detections)` until `identifications` are here, ms.
- seen: how long after the last commit the node used that generation, s.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from kit import ROOT, WORK
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String
from vision_msgs.msg import Detection2D, Detection2DArray

from robollm.gallery.records import MadeWith, Product
from robollm.gallery.store import create_gallery, open_writer, read_card
from robollm.nodes import qos
from robollm.nodes.identification import IdentificationNode
from robollm.nodes.run import run
from robollm.runtime.bundle import Bundle, load_bundle
from robollm.runtime.measure import conditions, machine
from robollm.runtime.station import Station
from robollm.runtime.timing import Laps

NS = 1_000_000_000
NAMESPACE = f"/live{os.getpid()}"
HW, INSTANCES, IN_CONTAINER = (480, 640), 10, 50
BAD = ("internal_error", "inference_error", "reload_failed")


class Measured(IdentificationNode):
    """The node as it is; it also keeps every tote's search time, not only percentiles."""

    def __init__(self, out: Path) -> None:
        super().__init__(Station())
        self._out, self._search_ms = out, dict[int, float]()

    def finished(self, laps: Laps, stamp_ns: int) -> None:
        """See `PerceptionNode`."""
        super().finished(laps, stamp_ns)
        self._search_ms[stamp_ns] = laps.ms["search"]

    def destroy_node(self) -> None:
        """Write them and go."""
        super().destroy_node()
        self._out.write_text(json.dumps(self._search_ms))


def write(folder: Path, changes: int, seconds: float) -> None:
    """Commit changes, evenly over the time; one JSON object on stdout."""
    card, rng, took = read_card(folder), np.random.default_rng(7), []
    start = time.monotonic()
    with open_writer(folder, made_with=card.made_with) as writer:
        for n in range(changes):
            time.sleep(max(0.0, start + n * seconds / changes - time.monotonic()))
            begin, product = time.perf_counter(), f"new-{n // 5}"
            vector = rng.normal(size=(1, card.dim))
            if n % 5 == 0:
                writer.add_references(product, vector, sources=[f"{product}/1"], sha256s=["1"])
            elif n % 5 == 1:
                writer.put_product(Product(product, title=f"thing {n}"))
            elif n % 5 == 2:
                listed = rng.integers(0, 1000, IN_CONTAINER)
                writer.put_container(f"tote-{1 + n % 9}", {product, *map("P{:06d}".format, listed)})
            elif n % 5 == 3:
                writer.remove_reference(f"{product}/1")
                writer.add_references(product, vector, sources=[f"{product}/1"], sha256s=["2"])
            else:
                writer.remove_product(product)
            generation = writer.commit()
            took.append(1e3 * (time.perf_counter() - begin))
    print(json.dumps({"generation": generation, "ended": time.time(), "commit_ms": spread(took)}))


class World:
    """Camera, segmentation and controller: sends totes, notes when their names come."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("world", namespace=NAMESPACE)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        create = self.node.create_publisher
        self._images = create(Image, "image", qos.IMAGES)
        self._boxes = create(Detection2DArray, "detections", qos.RESULTS)
        self._container = create(String, "container", qos.LATCHED)
        self.sent: dict[int, float] = {}
        self.answer_ms: dict[int, float] = {}
        self.values: dict[str, str] = {}
        self.node.create_subscription(
            Detection2DArray, "identifications", self._answered, qos.RESULTS
        )
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._told, qos.RESULTS)
        small = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
        self._rgb = cv2.resize(small, (HW[1], HW[0]), interpolation=cv2.INTER_CUBIC)

    def until(self, true: Any, timeout_s: float) -> bool:
        """Spin until `true()` or the time is up."""
        end = time.monotonic() + timeout_s
        while not true() and (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.1))
        return bool(true())

    def ready(self) -> None:
        """Wait for the node, put a container in front of it."""
        both = (self._images, self._boxes)
        if not self.until(lambda: all(p.get_subscription_count() for p in both), 120):
            raise SystemExit("error: the node did not become active; see its log above")
        self._container.publish(String(data="tote-0"))
        self.until(lambda: self.values.get("container") == "tote-0", 10)

    def play(self, hz: float, true: Any) -> list[int]:
        """Send totes while `true()`; the stamps."""
        stamps: list[int] = []
        begin = time.monotonic()
        while true():
            ns = time.time_ns()
            head = Header(stamp=Time(sec=ns // NS, nanosec=ns % NS), frame_id="tote")
            self._rgb[0, 0] = np.frombuffer(ns.to_bytes(8, "little"), np.uint8)[:3]
            data = array.array("B", self._rgb.tobytes())
            self._images.publish(
                Image(header=head, height=HW[0], width=HW[1], encoding="rgb8", step=3 * HW[1],
                      data=data)
            )  # fmt: skip
            # Half a period later, as after a segmentation: two topics have no common order.
            self._spin_to(begin + (len(stamps) + 0.5) / hz)
            self.sent[ns] = time.perf_counter()
            self._boxes.publish(Detection2DArray(header=head, detections=_boxes(head, ns)))
            stamps.append(ns)
            self._spin_to(begin + len(stamps) / hz)
        self.until(lambda: all(ns in self.answer_ms for ns in stamps), 5)
        return stamps

    def close(self) -> None:
        """Leave."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown()

    def _spin_to(self, at: float) -> None:
        self.until(lambda: time.monotonic() >= at, at - time.monotonic())

    def _answered(self, msg: Detection2DArray) -> None:
        ns = msg.header.stamp.sec * NS + msg.header.stamp.nanosec
        self.answer_ms[ns] = 1e3 * (time.perf_counter() - self.sent[ns])

    def _told(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            if status.name == f"{NAMESPACE}/identification_node":
                self.values = {v.key: v.value for v in status.values}


def _boxes(head: Header, seed: int) -> list[Detection2D]:
    rng, rows = np.random.default_rng(seed), []
    for i in range(INSTANCES):
        row = Detection2D(header=head, id=str(i + 1))
        x, y = rng.uniform(100, 540), rng.uniform(100, 380)
        row.bbox.center.position.x, row.bbox.center.position.y = float(x), float(y)
        row.bbox.size_x, row.bbox.size_y = 120.0, 90.0
        rows.append(row)
    return rows


def spread(values: list[float]) -> dict[str, float]:
    """p50, p99, the largest and the number of values."""
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3),
            "max": round(max(values), 3), "n": len(values)}  # fmt: skip


def make_gallery(folder: Path, bundle: Bundle, products: int) -> None:
    """A synthetic gallery of this bundle, with ten containers; kept between runs."""
    if folder.is_dir():
        return
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    made_with = MadeWith(bundle.embedding_sha256, bundle.title)
    create_gallery(part, dim=bundle.embedding_dim, made_with=made_with)
    rng = np.random.default_rng(0)
    with open_writer(part, made_with=made_with) as writer:
        for n in range(products):
            name = f"P{n:06d}"
            vector = rng.normal(size=(1, bundle.embedding_dim))
            writer.add_references(name, vector, sources=[f"{name}/1"], sha256s=["1"])
            if n % 10_000 == 9_999:
                writer.commit()
        for c in range(10):
            listed = rng.choice(products, IN_CONTAINER, replace=False)
            writer.put_container(f"tote-{c}", [f"P{n:06d}" for n in listed])
        writer.commit()
    part.rename(folder)


def sketch(work: Path) -> Path:
    """A small untrained bundle whose embeddings are as long as real ones."""
    from robollm.export.sketch import SketchSize, write_sketch_bundle

    out = work / "sketch"
    if not out.is_dir():
        size = SketchSize(dim=32, depth=2, heads=2, embedding=768, channels=16)
        write_sketch_bundle(out, size=size, tote_hw=(192, 240), crop_hw=(96, 96))
    return out


def start_node(gallery: Path, bundle: Path, times: Path) -> subprocess.Popen[bytes]:
    """The real node, in a process of its own."""
    params = {
        "bundle": bundle, "gallery": gallery, "watch": True, "allow_untrained": True, "threads": 1,
        "diagnostics_period_s": 0.1, "no_image_warn_s": 0.0,
    }  # fmt: skip
    values = [w for k, v in params.items() for w in ("-p", f"{k}:={json.dumps(v, default=str)}")]
    words = [str(Path(__file__).resolve()), "--as-node", str(times)]
    ros = ["--ros-args", "-r", f"__ns:={NAMESPACE}", "--log-level", "warn", *values]
    return subprocess.Popen([sys.executable, *words, *ros])


def measure(args: argparse.Namespace, bundle: Path, gallery: Path, times: Path) -> dict[str, Any]:
    """Quiet and changing stretches in turns, on one node."""
    world, node = World(), start_node(gallery, bundle, times)
    stamps: dict[str, list[int]] = {"quiet": [], "changing": []}
    commits, seen = [], []
    try:
        world.ready()
        warm = time.monotonic() + 5
        world.play(args.hz, lambda: time.monotonic() < warm)
        begin = {k: int(v) for k, v in world.values.items() if k.startswith("count_")}
        dropped = int(world.values["dropped_frames"])
        for _ in range(args.rounds):
            end = time.monotonic() + args.seconds
            stamps["quiet"] += world.play(args.hz, lambda end=end: time.monotonic() < end)
            words = ["--as-writer", str(gallery), str(args.changes // args.rounds)]
            with subprocess.Popen(
                [sys.executable, __file__, *words, str(args.seconds)], stdout=subprocess.PIPE
            ) as writer:
                stamps["changing"] += world.play(args.hz, lambda w=writer: w.poll() is None)
                assert writer.stdout is not None
                said = json.loads(writer.stdout.read())
            commits.append(said["commit_ms"])
            last = str(said["generation"])
            if world.until(lambda last=last: world.values["gallery_generation"] == last, 20):
                seen.append(round(time.time() - said["ended"], 2))
        world.until(lambda: False, 0.5)  # the last diagnostics
        values = world.values
    finally:
        node.send_signal(signal.SIGINT)
        code = node.wait(60)
        world.close()
    search = {int(k): v for k, v in json.loads(times.read_text()).items()}
    counts = {k: int(v) - begin.get(k, 0) for k, v in values.items() if k.startswith("count_")}
    return {
        **{
            kind: {
                "totes": len(sent),
                "instances": INSTANCES * len(sent),
                "unanswered": sum(ns not in world.answer_ms for ns in sent),
                "search_ms": spread([search[ns] for ns in sent if ns in search]),
                "answer_ms": spread([world.answer_ms[ns] for ns in sent if ns in world.answer_ms]),
            }
            for kind, sent in stamps.items()
        },
        "errors": sum(counts.get(f"count_{kind}", 0) for kind in BAD) + (code != 0),
        "dropped": int(values["dropped_frames"]) - dropped,
        "counts": counts,
        "commits": commits,
        "seen_s": seen,
        "rss_mb": float(values["rss_mb"]),
        "plan": values["gallery_plan"],
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="a real one; else a sketch, untrained")
    parser.add_argument("--products", type=int, default=190_000)
    parser.add_argument("--changes", type=int, default=1000, help="commits in all")
    parser.add_argument("--rounds", type=int, default=4, help="quiet and changing, each so often")
    parser.add_argument("--seconds", type=float, default=15.0, help="of one stretch")
    parser.add_argument("--hz", type=float, default=5.0, help=f"totes of {INSTANCES} a second")
    parser.add_argument("--work", type=Path, default=WORK / "gallery_live")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gallery_live.json")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    folder = args.bundle or sketch(args.work)
    bundle = load_bundle(folder, allow_untrained=True)
    kept = args.work / f"{bundle.embedding_sha256[:12]}-{args.products}"
    make_gallery(kept, bundle, args.products)
    with tempfile.TemporaryDirectory(dir=args.work) as tmp, conditions(()) as load:
        shutil.copytree(kept, Path(tmp) / "gallery")
        found = measure(args, folder, Path(tmp) / "gallery", Path(tmp) / "times.json")
    card = {
        "command": "python bench/gallery_live.py",
        "machine": machine(),
        "bundle": bundle.title,
        "products": args.products,
        "changes": args.changes,
        "hz": args.hz,
        "in_container": IN_CONTAINER,
        **found,
        "conditions": {
            k: load[k] for k in ("load_before", "load_after", "seconds", "others_cores")
        },
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(card, indent=1) + "\n")
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-node"]:
        run(lambda: [Measured(Path(sys.argv[2]))], sys.argv[2:])
    elif sys.argv[1:2] == ["--as-writer"]:
        write(Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    else:
        main()
