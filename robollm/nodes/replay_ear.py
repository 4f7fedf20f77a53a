"""What the nodes say while a bag is replayed, joined by pick and by tote image."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from robollm.core.errors import MessageError
from robollm.core.frame import NS
from robollm.core.picks import Pick
from robollm.nodes import messages, qos

NODES = ("segmentation_node", "identification_node", "defect_node")
STAGES_S = 1.0  # longest wait for the stage times of a pick that is answered

Ranked = list[tuple[str, float]]


@dataclass(slots=True)
class Told:
    """The last diagnostics of one node.

    Attributes:
        values: key -> value.
        clock_ns: the node's time when it wrote them.
        at_s: when they came, monotonic s.
        count: how many came in all.
    """

    values: dict[str, str] = field(default_factory=dict)
    clock_ns: int = -1
    at_s: float = 0.0
    count: int = 0


@dataclass(slots=True)
class Heard:
    """One pick that was sent, and what came back.

    Attributes:
        pick: as the nodes read it.
        sent_s: when it was sent, monotonic s.
        last_sent_s: the same for the last message that it may have waited for.
        deadline_ns: bag time after which a view is too late for it.
        totes: how many tote images were sent before it.
        shown: views that were sent for it.
        given_up: no longer waited for.
        named: published product hypotheses, best first; None: not yet.
        verdict: published classes, the decision first; None: not yet.
        evidence: view, stamp, window and probabilities of each judged view; None: not yet.
        stages_ms: stage -> ms, as the nodes' diagnostics tell.
        answer_ms: from the last message about it until the last of the three answers.
    """

    pick: Pick
    sent_s: float
    last_sent_s: float
    deadline_ns: int
    totes: int = 0
    shown: set[str] = field(default_factory=set)
    given_up: bool = False
    named: Ranked | None = None
    verdict: Ranked | None = None
    evidence: list[dict[str, Any]] | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    answer_ms: float = 0.0
    answered_s: float = 0.0

    @property
    def missing(self) -> list[str]:
        """Topics that have not answered."""
        parts = {"pick_identifications": self.named, "defects": self.verdict,
                 "defects/views": self.evidence}  # fmt: skip
        return [topic for topic, part in parts.items() if part is None]

    def told(self) -> bool:
        """True if nothing more is to be waited for."""
        if self.missing:
            return False
        timed = {name.partition("_")[0] for name in self.stages_ms}
        # A pick that nothing was computed for has no stage times.
        return len(timed) == 2 or time.monotonic() - self.answered_s > STAGES_S


@dataclass(slots=True)
class Tote:
    """One tote image that was sent, and what came back."""

    wants_masks: bool
    rows: list[tuple[int, str, float]] | None = None  # pixel value, class, score; best first
    labels: NDArray[np.uint16] | None = None

    @property
    def complete(self) -> bool:
        """True if all came."""
        return self.rows is not None and (self.labels is not None or not self.wants_masks)


class Ear:
    """Subscriptions to the answers and to the diagnostics.

    Args:
        node: in the namespace of the nodes.
        masks: listen to `masks`, too (large messages).

    Attributes:
        picks: (id, stamp) -> what was heard, for the picks that were sent and not yet recorded.
        totes: stamp -> the same for tote images.
        told: node -> its last diagnostics.
        counts: answers that nobody waited for, by kind.
    """

    def __init__(self, node: Node, *, masks: bool) -> None:
        self.picks: dict[tuple[str, int], Heard] = {}
        self.totes: dict[int, Tote] = {}
        self.told = {name: Told() for name in NODES}
        self.counts: Counter[str] = Counter()
        space = node.get_namespace().rstrip("/")
        self._names = {f"{space}/{name}": name for name in NODES}

        def listen(kind: Any, topic: str, callback: Any) -> None:
            profile = qos.IMAGES if kind is Image else qos.RESULTS
            node.create_subscription(kind, topic, callback, profile)

        listen(Detection2DArray, "pick_identifications", self._take_name)
        listen(Detection2DArray, "defects", self._take_verdict)
        listen(Detection2DArray, "defects/views", self._take_evidence)
        listen(Detection2DArray, "detections", self._take_found)
        if masks:
            listen(Image, "masks", self._take_masks)
        # Last: endpoints are announced in the order of creation, so a node whose diagnostics
        # arrive knows all of the subscriptions above.
        listen(DiagnosticArray, "/diagnostics", self._take_diagnostics)

    def silent_s(self) -> dict[str, float]:
        """Node -> seconds since its last diagnostics, for those that have been heard."""
        now = time.monotonic()
        return {name: now - told.at_s for name, told in self.told.items() if told.count}

    def value(self, node: str, key: str) -> str:
        """One diagnostic value, or empty."""
        return self.told[node].values.get(key, "")

    def counters(self, node: str) -> dict[str, int]:
        """A node's counters and `dropped_frames`."""
        values = self.told[node].values
        out = {k[len("count_") :]: int(v) for k, v in values.items() if k.startswith("count_")}
        out["dropped_frames"] = int(values.get("dropped_frames", 0))
        return out

    def risen(self, node: str, before: dict[str, int]) -> list[str]:
        """Kinds of trouble that a node has counted since."""
        now = self.counters(node)
        return [k for k, v in now.items() if v > before.get(k, 0) and k != "time_jumps"]

    def open(self) -> list[Heard]:
        """Picks that lack an answer, oldest first."""
        return [h for h in self.picks.values() if h.missing]

    def _about(self, pick_id: str, stamp_ns: int, part: str) -> Heard | None:
        heard = self.picks.get((pick_id, stamp_ns))
        if heard is None:
            self.counts["answer_to_another_pick"] += 1
        elif getattr(heard, part) is not None:
            self.counts["second_answer"] += 1
            heard = None
        return heard

    def _answered(self, heard: Heard) -> None:
        if not heard.missing:
            heard.answered_s = time.monotonic()
            heard.answer_ms = 1e3 * (heard.answered_s - heard.last_sent_s)

    def _take_name(self, msg: Detection2DArray) -> None:
        for d in msg.detections:
            if heard := self._about(d.id, messages.stamp_ns(d.header.stamp), "named"):
                heard.named = _ranked(d)
                self._answered(heard)

    def _take_verdict(self, msg: Detection2DArray) -> None:
        for d in msg.detections:
            if heard := self._about(d.id, messages.stamp_ns(d.header.stamp), "verdict"):
                heard.verdict = _ranked(d)
                self._answered(heard)

    def _take_evidence(self, msg: Detection2DArray) -> None:
        ns = messages.stamp_ns(msg.header.stamp)
        if msg.detections:
            pick_id = msg.detections[0].id.rpartition("/")[0]
        else:  # no view was judged: the message has nothing but the pick's stamp
            waiting = (h for h in self.picks.values() if h.evidence is None)
            pick_id = next((h.pick.pick_id for h in waiting if h.pick.stamp_ns == ns), "")
        if heard := self._about(pick_id, ns, "evidence"):
            heard.evidence = [
                {
                    "view": d.id.rpartition("/")[2],
                    "stamp_ns": messages.stamp_ns(d.header.stamp),
                    "probabilities": dict(_ranked(d)),
                    "box": list(messages.to_box(d.bbox)),
                    "reason": "",
                }
                for d in msg.detections
            ]
            self._answered(heard)

    def _take_found(self, msg: Detection2DArray) -> None:
        tote = self.totes.get(messages.stamp_ns(msg.header.stamp))
        if tote is not None:
            tote.rows = [
                (int(d.id), name, score) for d in msg.detections for name, score in _ranked(d)[:1]
            ]

    def _take_masks(self, msg: Image) -> None:
        tote = self.totes.get(messages.stamp_ns(msg.header.stamp))
        if tote is None or not tote.wants_masks:
            return
        if msg.encoding != "mono16" or len(msg.data) != 2 * msg.height * msg.width:
            raise MessageError(
                f"masks is {msg.encoding} with {len(msg.data)} bytes, want mono16",
                fix="is another program publishing on this topic?",
            )
        kind = ">u2" if msg.is_bigendian else "<u2"
        labels = np.frombuffer(msg.data, kind).reshape(msg.height, msg.width)
        tote.labels = labels.astype(np.uint16)

    def _take_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            name = self._names.get(status.name)
            if name is None:
                continue
            told = self.told[name]
            told.values = {v.key: v.value for v in status.values}
            told.clock_ns = msg.header.stamp.sec * NS + msg.header.stamp.nanosec
            told.at_s = time.monotonic()
            told.count += 1
            self._note_stages(name, told.values)

    def _note_stages(self, node: str, values: dict[str, str]) -> None:
        what = {"identification_node": "identify", "defect_node": "inspect"}.get(node)
        if what is None or "last_pick" not in values:
            return
        for heard in self._all(values["last_pick"]):
            for key, value in values.items():
                if key.startswith("last_") and key.endswith("_ms"):
                    heard.stages_ms[f"{what}_{key[len('last_') : -len('_ms')]}"] = float(value)

    def _all(self, pick_id: str) -> Iterable[Heard]:
        return (h for (name, _), h in self.picks.items() if name == pick_id)


def _ranked(d: Any) -> Ranked:
    return [(r.hypothesis.class_id, r.hypothesis.score) for r in d.results]
