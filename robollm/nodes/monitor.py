"""Joins all that is said about a pick: what `verdict_monitor` shows.

It is an ordinary subscriber in a process of its own: all it hears came over DDS.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray

from robollm.core.errors import FrameError
from robollm.core.settings import NodeConfig, PickConfig, view_topics
from robollm.nodes import messages, monitor_picture, qos
from robollm.nodes.health import NOT_MEASURED
from robollm.nodes.images import STEADY, ImageSource
from robollm.nodes.monitor_report import TOTAL, TOTES, Row
from robollm.runtime.arrival import Arrival

KEPT = 24  # messages of each kind that wait to be joined
TIMES_KEPT = 4096  # arrival times: a live cell has 30 images a second of each view
NAME_S = 5.0  # longest wait for a pick's identification, once its verdict is there
JOIN_S = 1.0  # the same, for what the nodes' diagnostics tell of the pick
NODES = ("defect_node", "identification_node")


class _Recent(dict[Any, Any]):
    """A dict that forgets its oldest entries."""

    def __init__(self, kept: int = KEPT) -> None:
        super().__init__()
        self._kept = kept

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        while len(self) > self._kept:
            del self[next(iter(self))]


class VerdictMonitor(Node):
    """Joins everything that is said about a pick.

    Args:
        config: which views there are.
        on_row: called once per pick, with its row and a function that draws its picture.
    """

    def __init__(
        self, config: PickConfig, on_row: Callable[[Row, Callable[[], Any]], None]
    ) -> None:
        super().__init__("verdict_monitor")
        self._on_row = on_row
        self.bundle = "unknown"
        self.trained: bool | None = None
        self.repeated = 0
        self.tote_ms: dict[str, tuple[float, float]] = {}  # stage -> (p50, p95) of tote images
        self._active: set[str] = set()
        self._rows: dict[str, tuple[Row, Detection2D, float]] = {}
        self._done: set[str] = set()
        self._named, self._evidence = _Recent(), _Recent()
        self._totes, self._found, self._masks, self._tote_names = (_Recent() for _ in range(4))
        self._views: dict[str, dict[Any, Any]] = {}
        self._stages = _Recent()
        self._came_s = _Recent(TIMES_KEPT)  # (stream, stamp) or pick id -> monotonic s

        def listen(kind: Any, topic: str, callback: Callable[[Any], None]) -> None:
            profile = qos.IMAGES if kind is Image else qos.RESULTS
            self.create_subscription(kind, topic, callback, profile)

        listen(Detection2D, "pick", self._take_pick)
        listen(Detection2DArray, "defects/views", self._take_evidence)
        listen(Detection2DArray, "defects", self._take_verdict)
        listen(Detection2DArray, "pick_identifications", self._take_name)
        listen(Detection2DArray, "detections", lambda m: self._keep(self._found, m))
        listen(Detection2DArray, "identifications", lambda m: self._keep(self._tote_names, m))
        listen(Image, "masks", lambda m: self._keep(self._masks, m))
        listen(DiagnosticArray, "/diagnostics", self._take_diagnostics)
        plain = NodeConfig()
        topics = {"image": "image", **view_topics(config)}
        self._sources = [
            ImageSource(
                self,
                topic,
                name,
                plain,
                on_arrival=self._take_image,
                on_bad=self._refuse,
            )
            for name, topic in topics.items()
        ]
        self.create_timer(0.05, self._join, clock=STEADY)

    def ready(self) -> bool:
        """True once the nodes are active and found: nothing they say will be missed."""
        topics = ("defects", "defects/views", "pick_identifications")
        return set(NODES) <= self._active and all(
            self.count_publishers(self.resolve_topic_name(t)) for t in topics
        )

    def _keep(self, store: dict[Any, Any], msg: Any) -> None:
        store[messages.stamp_ns(msg.header.stamp)] = msg

    def _refuse(self, stream: str, error: FrameError) -> None:
        self.get_logger().warning(f"{stream}: {error}")

    def _take_image(self, stream: str, arrival: Arrival) -> None:
        if stream == "image":
            self._totes[arrival.stamp_ns] = arrival
        else:
            self._came_s[(stream, arrival.stamp_ns)] = time.monotonic()
            self._views.setdefault(stream, _Recent())[arrival.stamp_ns] = arrival

    def _take_pick(self, msg: Detection2D) -> None:
        self._came_s[msg.id] = time.monotonic()

    def _take_evidence(self, msg: Detection2DArray) -> None:
        for d in msg.detections:
            pick_id, _, view = d.id.rpartition("/")
            self._evidence.setdefault(pick_id, {})[view] = d

    def _take_name(self, msg: Detection2DArray) -> None:
        now = time.monotonic()
        for d in msg.detections:
            self._named[d.id] = (d, now)

    def _take_verdict(self, msg: Detection2DArray) -> None:
        now = time.monotonic()
        for d in msg.detections:
            if d.id in self._rows or d.id in self._done:
                self.repeated += 1
                self.get_logger().error(f"a second verdict on {d.id}")
                continue
            first = d.results[0].hypothesis
            row = Row(d.id, first.class_id, first.score)
            self._rows[d.id] = (row, d, now)

    def _take_diagnostics(self, msg: DiagnosticArray) -> None:
        ours = self.get_namespace().rstrip("/")
        for status in msg.status:
            namespace, _, node = status.name.rpartition("/")
            if namespace != ours:
                continue  # /diagnostics is everybody's, other cells' too
            values = {v.key: v.value for v in status.values}
            if values.get("state") == "active":
                self._active.add(node)
            if "bundle" in values and "bundle_status" in values:
                self.bundle = f"{values['bundle']} ({status.hardware_id})"
                self.trained = values["bundle_status"] == "trained"
            if node == TOTES:
                self.tote_ms = _spreads(values)
            if node in NODES and "last_pick" in values:
                stages = {
                    k[len("last_") : -len("_ms")]: float(v)
                    for k, v in values.items()
                    if k.startswith("last_") and k.endswith("_ms")
                }
                if stages:
                    self._stages[(node, values["last_pick"])] = stages

    def _join(self) -> None:
        for pick_id, (row, verdict, since) in list(self._rows.items()):
            waited = time.monotonic() - since
            told = all((n, pick_id) in self._stages for n in NODES) or waited > JOIN_S
            if (pick_id in self._named and told) or waited > NAME_S:
                del self._rows[pick_id]
                self._done.add(pick_id)
                self._emit(row, verdict, since)

    def _emit(self, row: Row, verdict: Detection2D, since: float) -> None:
        evidence = self._evidence.get(row.pick_id, {})
        row.views = {
            name: [(r.hypothesis.class_id, r.hypothesis.score) for r in d.results]
            for name, d in evidence.items()
        }
        came = [
            self._came_s.get((view, messages.stamp_ns(d.header.stamp)))
            for view, d in evidence.items()
        ]
        known = [t for t in [*came, self._came_s.get(row.pick_id)] if t is not None]
        start = max(known, default=float("nan"))
        row.latency_ms = 1e3 * (since - start)
        if row.pick_id in self._named:
            named, named_s = self._named[row.pick_id]
            row.product = named.results[0].hypothesis.class_id
            row.probability = named.results[0].hypothesis.score
            row.event_ms = 1e3 * (max(since, named_s) - start)
        row.stages_ms = {
            n: self._stages[(n, row.pick_id)] for n in NODES if (n, row.pick_id) in self._stages
        }
        self._on_row(row, self._picture(row, verdict, evidence))

    def _picture(
        self, row: Row, verdict: Detection2D, evidence: dict[str, Detection2D]
    ) -> Callable[[], Any]:
        ns = messages.stamp_ns(verdict.header.stamp)
        views = {}
        for name in (s for s in self._views if s in evidence):
            stamp = messages.stamp_ns(evidence[name].header.stamp)
            views[name] = _decoded(self._views[name].get(stamp))
        return functools.partial(
            monitor_picture.compose,
            tote=_decoded(self._totes.get(ns)),
            masks=self._masks.get(ns),
            found=self._found.get(ns),
            names=self._tote_names.get(ns),
            target=messages.to_box(verdict.bbox),
            views=views,
            evidence=row.views,
            verdict=(row.verdict, row.score),
            product=(row.product or "not identified", row.probability),
            pick_id=row.pick_id,
            trained=self.trained is not False,
        )


def _spreads(values: dict[str, str]) -> dict[str, tuple[float, float]]:
    """Stage -> (p50, p95), ms, from a node's diagnostics; without what it hasn't measured yet."""
    found = {}
    for key in values:
        name, told, percentile = key.rpartition("_ms_")
        if not told or percentile != "p50" or not (name == TOTAL or name.startswith("stage_")):
            continue
        both = values[key], values.get(f"{name}_ms_p95", NOT_MEASURED)
        if NOT_MEASURED not in both:
            found[name.removeprefix("stage_")] = (float(both[0]), float(both[1]))
    return found


def _decoded(arrival: Arrival | None) -> Any:
    try:
        return arrival.frame() if arrival else None
    except FrameError:
        return None
