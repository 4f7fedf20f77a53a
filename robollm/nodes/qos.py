"""Quality of service: what is published how, and how an image subscription adapts."""

from __future__ import annotations

from collections.abc import Iterable

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
