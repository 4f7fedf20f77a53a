"""Subscriptions to what is no image, and the publishers that they can't hear."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.subscription import Subscription

from robollm.nodes import qos
from robollm.nodes.health import WARN

if TYPE_CHECKING:
    from robollm.nodes.base import PerceptionNode

POLICIES = ("reliability", "durability")  # the ones of ours that a publisher can fall short of


class Ears:
    """One node's subscriptions. A publisher with an incompatible QoS is warned about.

    ROS connects nothing then, and its own line in the log is all that the controller's silence
    would look like.

    Args:
        node: the node that owns the subscriptions.
    """

    def __init__(self, node: PerceptionNode) -> None:
        self._node = node
        self._deaf: dict[str, QoSProfile] = {}  # topic with such a publisher -> what we want

    def subscribe(
        self,
        kind: Any,
        topic: str,
        callback: Callable[[Any], None],
        profile: QoSProfile,
        *,
        overridable: bool = True,
        on_deaf: Callable[[], bool] = lambda: False,
    ) -> Subscription[Any]:
        """Create a subscription.

        Args:
            kind: message type.
            topic: name before remapping.
            callback: called with every message, in the executor's thread.
            profile: is copied.
            overridable: let users override the profile by parameters.
            on_deaf: called when a publisher can't be heard; True: something was done about it.
        """
        own, full = copy.copy(profile), self._node.resolve_topic_name(topic)

        def deaf(event: Any) -> None:
            if not on_deaf():
                self._deaf[full] = own
                self._warn(full, own)

        return self._node.create_subscription(
            kind,
            topic,
            callback,
            own,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=deaf),
            qos_overriding_options=qos.overridable() if overridable else None,
        )

    def close(self, subscription: Subscription[Any]) -> None:
        """End a subscription."""
        self._deaf.pop(subscription.topic_name, None)
        self._node.destroy_subscription(subscription)

    def problems(self) -> Iterator[tuple[bytes, str]]:
        """Publishers that are there now and can't be heard: level and text."""
        for full, own in list(self._deaf.items()):
            words = self._words(full, own)
            if words:
                yield WARN, words
            else:  # it has gone
                self._deaf.pop(full, None)

    def _words(self, full: str, own: QoSProfile) -> str:
        offered = [i.qos_profile for i in self._node.get_publishers_info_by_topic(full)]
        bad = [o for o in offered if qos_check_compatible(o, own)[0] == QoSCompatibility.ERROR]
        if not bad:
            return ""
        short = [p for p in POLICIES if any(getattr(b, p) != getattr(own, p) for b in bad)]
        seen = ", ".join(sorted({getattr(b, p).name.lower() for p in short for b in bad}))
        want = ", ".join(getattr(own, p).name.lower() for p in short)
        return f"{len(bad)} of {len(offered)} publishers on {full} not heard: {seen}, want {want}"

    def _warn(self, full: str, own: QoSProfile) -> None:
        what = self._words(full, own) or f"a publisher on {full} has an incompatible QoS"
        if self._node.trouble.due(full, "qos"):
            self._node.get_logger().warning(
                f"{what}\n  fix: let it publish that way"
                f" (here it could be changed by qos_overrides.{full}.subscription.*)"
            )
