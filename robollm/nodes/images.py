"""One image input: raw or compressed, reliable or best effort, whatever is published."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]  # Humble has it here only
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from robollm.core.errors import FrameError
from robollm.core.frame import Frame
from robollm.core.settings import NodeConfig
from robollm.nodes import messages, qos
from robollm.runtime.arrival import Arrival, StampCheck

LOOK_S = 0.5  # how often the graph is looked at
STEADY = Clock(clock_type=ClockType.STEADY_TIME)  # a node on simulated time must not freeze
SILENT, UNUSABLE = "no_image", "no_usable_image"  # kinds of a camera's trouble


class ImageSource:
    """Subscribes to `topic` and `topic/compressed` and hands over arrivals.

    Until a publisher is seen both are subscribed, reliable, so that the first image is not lost.
    Then: a best-effort publisher makes the subscription best effort (`image_qos: auto`), and a
    raw publisher ends the compressed one (`image_transport: auto`), which would otherwise bring
    every image twice.

    Args:
        node: the node that owns the subscriptions.
        topic: name of the raw topic, before remapping.
        stream: name that its frames carry.
        config: `image_qos` and `image_transport`.
        on_arrival: called with every usable image, in the executor's thread.
        on_bad: called with the error of every unusable one.
        now: seconds, of a clock that never goes back and that simulated time doesn't touch.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        stream: str,
        config: NodeConfig,
        *,
        on_arrival: Callable[[str, Arrival], None],
        on_bad: Callable[[str, FrameError], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._now = now
        self.stream = stream
        self._auto_qos = config.image_qos == "auto"
        self._auto_transport = config.image_transport == "auto"
        self._on_arrival = on_arrival
        self._on_bad = on_bad
        self._heard_s = self._now()
        self._bad: _Bad | None = None  # since the last one that could be used
        self._stamps = StampCheck()
        best_effort = config.image_qos == "best_effort"
        self._best_effort = {"raw": best_effort, "compressed": best_effort}
        self._topics = {"raw": topic, "compressed": f"{topic}/compressed"}
        self._subs: dict[str, Subscription[Any]] = {}
        for kind in ("raw", "compressed"):
            if config.image_transport in ("auto", kind):
                self._subscribe(kind)
        self._timer = node.create_timer(LOOK_S, self._look, clock=STEADY)

    @property
    def topic(self) -> str:
        """The topic's full name, after remapping."""
        first = next(iter(self._subs.values()))
        return str(first.topic_name)

    def trouble(self, limit_s: float, *, silence: bool = True) -> FrameError | None:
        """What is wrong with the input; None if nothing is known to be.

        An image that nobody has decoded yet is neither good nor bad.

        Args:
            limit_s: how long it may go on, s.
            silence: False for a camera that sends nothing for long.
        """
        now, bad = self._now(), self._bad
        silent_s = now - self._heard_s
        if silent_s > limit_s:
            text = f"no image on {self.topic} for {silent_s:.0f} s"
            fix = "check the camera, the remapping and its QoS"
            return FrameError(text, kind=SILENT, fix=fix) if silence else None
        if bad is None or now - bad.first_s <= limit_s or now - bad.last_s > limit_s:
            return None
        return FrameError(
            f"images arrive on {self.topic}, none was usable for {now - bad.first_s:.0f} s: "
            f"last error: {bad.error.what}",
            kind=UNUSABLE,
            fix=bad.error.fix,
        )

    def time_jumped_back(self) -> None:
        """A bag started again: the stamp of the image before may come once more."""
        self._stamps.reset()

    def close(self) -> None:
        """End the subscriptions."""
        self._node.destroy_timer(self._timer)
        for sub in self._subs.values():
            self._node.destroy_subscription(sub)
        self._subs.clear()

    def _subscribe(self, kind: str) -> None:
        if kind in self._subs:
            self._node.destroy_subscription(self._subs[kind])
        topic = self._topics[kind]
        events = SubscriptionEventCallbacks(
            incompatible_qos=lambda event: self._incompatible(topic, event)
        )
        self._subs[kind] = self._node.create_subscription(
            Image if kind == "raw" else CompressedImage,
            topic,
            self._take_raw if kind == "raw" else self._take_compressed,
            qos.image_subscription(self._best_effort[kind]),
            event_callbacks=events,
            qos_overriding_options=qos.overridable(reliability=False),
        )

    def _look(self) -> None:
        offered = {
            kind: [
                info.qos_profile for info in self._node.get_publishers_info_by_topic(sub.topic_name)
            ]
            for kind, sub in self._subs.items()
        }
        if self._auto_qos:
            for kind, profiles in offered.items():
                if profiles and qos.any_best_effort(profiles) != self._best_effort[kind]:
                    self._best_effort[kind] = not self._best_effort[kind]
                    word = "best effort" if self._best_effort[kind] else "reliable"
                    self._node.get_logger().info(
                        f"{self._subs[kind].topic_name}: the publisher is {word}, so is this node"
                    )
                    self._subscribe(kind)
        if not self._auto_transport:
            return
        if offered.get("raw") and "compressed" in self._subs:
            self._node.destroy_subscription(self._subs.pop("compressed"))
        elif not offered.get("raw") and "compressed" not in self._subs:
            self._subscribe("compressed")

    def _incompatible(self, topic: str, event: Any) -> None:
        if self._auto_qos:
            return  # `_look` adapts within half a second
        self._node.get_logger().warning(
            f"a publisher on {topic} has an incompatible QoS ({event.last_policy_kind.name}): "
            "nothing will be received from it\n  fix: set image_qos: auto",
            throttle_duration_sec=10.0,
        )

    def _take_raw(self, msg: Image) -> None:
        self._heard_s = self._now()
        try:
            frame = messages.to_frame(msg, self.stream)
        except FrameError as e:
            self._refuse(e)
            return
        self._arrived("raw", Arrival(frame.stamp_ns, lambda: frame))

    def _take_compressed(self, msg: CompressedImage) -> None:
        self._heard_s = self._now()
        try:
            ns = messages.stamp_ns(msg.header.stamp)
        except FrameError as e:
            self._refuse(e)
            return
        self._arrived("compressed", Arrival(ns, lambda: self._decode(msg)))

    def _decode(self, msg: CompressedImage) -> Frame:
        """In the thread that needs the frame. Whoever that is tells of an error."""
        try:
            frame = messages.decode_compressed(msg, self.stream)
        except FrameError as e:
            self._note(e)
            raise
        self._bad = None
        return frame

    def _arrived(self, kind: str, arrival: Arrival) -> None:
        try:
            if not self._stamps.is_new(kind, arrival.stamp_ns):
                return
        except FrameError as e:
            self._refuse(e)
            return
        if kind == "raw":
            self._bad = None
        self._on_arrival(self.stream, arrival)

    def _refuse(self, error: FrameError) -> None:
        self._note(error)
        self._on_bad(self.stream, error)

    def _note(self, error: FrameError) -> None:
        now, before = self._now(), self._bad
        self._bad = _Bad(before.first_s if before else now, now, error)


@dataclass(frozen=True, slots=True)
class _Bad:
    """Images that can't be used, one after the other.

    Attributes:
        first_s: when the first of them was found to be bad, monotonic, s.
        last_s: the same of the last.
        error: of the last.
    """

    first_s: float
    last_s: float
    error: FrameError
