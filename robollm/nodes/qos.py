"""Quality of service: what is published how, and how an image subscription adapts."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

# Measured: 1080p images over BEST_EFFORT and default transports don't arrive at all.
IMAGES = QoSProfile(
    depth=5, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE
)
RESULTS = QoSProfile(  # deep: while models load, no pick and no verdict may fall out
    depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE
)
UPDATES = QoSProfile(  # a whole shift's manifests, sent in one go
    depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE
)
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


def publisher(node: LifecycleNode, kind: Any, topic: str, profile: QoSProfile) -> Publisher[Any]:
    """A publisher that is silent unless the node is active; its QoS may be overridden.

    Args:
        node: who publishes.
        kind: message type.
        topic: name before remapping.
        profile: is copied, because rclpy writes overrides into the one that it gets.
    """
    return node.create_lifecycle_publisher(
        kind, topic, copy.copy(profile), qos_overriding_options=overridable()
    )


def image_subscription(best_effort: bool) -> QoSProfile:
    """Volatile, keep last 5; the node keeps only the newest by itself."""
    reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=5,
        reliability=reliability,
        durability=DurabilityPolicy.VOLATILE,
    )


def any_best_effort(offered: Iterable[QoSProfile]) -> bool:
    """True if a reliable subscription would miss one of these publishers."""
    return any(q.reliability == ReliabilityPolicy.BEST_EFFORT for q in offered)


def overridable(*, reliability: bool = True) -> QoSOverridingOptions:
    """Let users override a topic's QoS with `qos_overrides.<topic>...` parameters.

    Args:
        reliability: False for image subscriptions, whose reliability is `image_qos`.
    """
    kinds = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.DURABILITY]
    if reliability:
        kinds.append(QoSPolicyKind.RELIABILITY)
    return QoSOverridingOptions(kinds)
