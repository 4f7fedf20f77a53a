"""The nodes that a bag is replayed into: are they up, how are they set, do they listen?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from std_msgs.msg import String

from robollm.core.errors import ConfigError, EvalError
from robollm.core.settings import PickConfig, view_topics
from robollm.nodes import qos
from robollm.nodes.replay_ear import NODES, Ear
from robollm.nodes.replay_feed import ASKED, CONTAINER, TOTE
from robollm.nodes.replay_steps import NO_CONTAINER, Rules, StoppedError, refuse_silence
from robollm.nodes.signals import Stop

WAKE_S = 0.05
REFUSED = ("configure failed", "internal error on configure")


class ReplayCell:
    """Waits for the nodes of one namespace.

    Args:
        node: in that namespace.
        ear: what the nodes say.
        spin: take in messages for at most so many seconds.
        stop: asked while waiting.
    """

    def __init__(self, node: Node, ear: Ear, spin: Callable[[float], None], stop: Stop) -> None:
        self._node, self._ear, self._spin, self._stop = node, ear, spin, stop

    def until(self, true: Callable[[], bool], seconds: float) -> bool:
        """Wait; False when the time is over.

        Raises:
            EvalError: if a node that was heard falls silent.
            StoppedError: if a signal came.
        """
        end = time.monotonic() + seconds
        while not true():
            if self._stop.asked():
                raise StoppedError
            if time.monotonic() > end:
                return False
            self._spin(WAKE_S)
            refuse_silence(self._ear)
        return True

    def wait_until_active(self, seconds: float) -> None:
        """Wait until all three nodes are active.

        Raises:
            EvalError: if they aren't in time, or one refuses to be.
        """
        self.until(self._active, seconds)
        if missing := [n for n in NODES if self._ear.value(n, "state") != "active"]:
            space = self._node.get_namespace()
            raise EvalError(
                f"{', '.join(missing)} in {space} not active after {seconds:g} s",
                fix="start `perception` in this namespace and this ROS_DOMAIN_ID, or wait longer",
            )
        if idle := [n for n in NODES if self._ear.value(n, "enabled") != "True"]:
            raise EvalError(
                f"{', '.join(idle)} disabled", fix="call ~/enable with true before the replay"
            )

    def rules(self, limit_s: float) -> Rules:
        """Ask the nodes how they are set.

        Raises:
            EvalError: if they don't answer, or what they say makes a replay meaningless.
        """
        asked = ("views", "view_timeout_s", "view_delay_s", "max_view_age_s", "use_sim_time")
        first, second = (self._parameters(node, asked, limit_s) for node in NODES[1:])
        if first != second:
            raise EvalError(
                f"the nodes don't agree: {first} and {second}",
                fix="give both the same parameter file",
            )
        if not first["use_sim_time"]:
            raise EvalError(
                "the nodes are on the machine's time: every recorded view would be stale",
                fix="start them with use_sim_time: true",
            )
        timeout = float(first["view_timeout_s"])
        try:
            views = view_topics(PickConfig(views=tuple(first["views"])))
        except ConfigError as e:
            raise EvalError(f"the nodes' views can't be used: {e.what}", fix=e.fix) from e
        kept = self._parameters(NODES[1], ("frame_history",), limit_s)["frame_history"]
        return Rules(
            views, timeout, float(first["max_view_age_s"]), float(first["view_delay_s"]),
            int(kept), limit_s + timeout,
        )  # fmt: skip

    def wait_until_heard(self, roles: dict[str, str], seconds: float) -> None:
        """Wait until the nodes have subscribed to what will be published.

        Raises:
            EvalError: if nobody listens to a topic.
        """
        self.until(lambda: not self._unheard(roles), seconds)
        if deaf := self._unheard(roles):
            raise EvalError(
                f"the nodes don't listen to {', '.join(deaf)}",
                fix="give eval_replay and the nodes the same remappings, and see image_transport",
            )

    def clear_container(self, seconds: float) -> None:
        """Take back the container of a bag before: a pick must not be searched in it.

        Raises:
            EvalError: if the node doesn't hear of it.
        """

        def cleared() -> bool:
            return self._ear.value(NODES[1], "container") == NO_CONTAINER

        if cleared():
            return
        publisher = self._node.create_publisher(String, CONTAINER, qos.LATCHED)
        publisher.publish(String())  # latched: it is heard whenever the two have met
        done = self.until(cleared, seconds)
        self._node.destroy_publisher(publisher)
        if not done:
            raise EvalError(
                f"{NODES[1]} still has a container after {seconds:g} s",
                fix="is a controller running beside? it must not publish during a replay",
            )

    def _active(self) -> bool:
        for name in NODES:
            error = self._ear.value(name, "last_error")
            if error.startswith(REFUSED):
                raise EvalError(f"{name}: {error}", fix="see the nodes' log")
        return all(self._ear.value(n, "state") == "active" for n in NODES)

    def _unheard(self, roles: dict[str, str]) -> list[str]:
        listeners = {TOTE: NODES[:1], CONTAINER: NODES[1:2], ASKED: NODES[1:]}
        out = []
        for topic, role in roles.items():
            name = self._node.resolve_topic_name(topic)
            there = self._node.get_subscriptions_info_by_topic(name)
            nodes = {i.node_name for i in there if i.node_namespace == self._node.get_namespace()}
            if not nodes >= set(listeners.get(role, NODES[1:])):
                out.append(name)
        return out

    def _parameters(self, node: str, names: tuple[str, ...], seconds: float) -> dict[str, Any]:
        client: Any = self._node.create_client(GetParameters, f"{node}/get_parameters")
        future = None
        if self.until(client.service_is_ready, seconds):
            future = client.call_async(GetParameters.Request(names=list(names)))
            self.until(future.done, seconds)
        self._node.destroy_client(client)
        answer = future.result() if future is not None and future.done() else None
        if answer is None:
            raise EvalError(
                f"{node} doesn't tell its parameters within {seconds:g} s", fix="see its log"
            )
        return dict(zip(names, map(_plain, answer.values), strict=True))


def _plain(value: Any) -> Any:
    kinds: dict[int, Callable[[], Any]] = {
        ParameterType.PARAMETER_BOOL: lambda: bool(value.bool_value),
        ParameterType.PARAMETER_INTEGER: lambda: int(value.integer_value),
        ParameterType.PARAMETER_DOUBLE: lambda: float(value.double_value),
        ParameterType.PARAMETER_STRING_ARRAY: lambda: list(value.string_array_value),
    }
    return kinds.get(value.type, lambda: None)()
