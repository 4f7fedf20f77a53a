"""Gathers pick, container and post-pick views; hands over each pick once, complete or in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from std_msgs.msg import String
from vision_msgs.msg import Detection2D

from robollm.core.errors import FrameError, MessageError
from robollm.core.picks import UNCLAIMED, Case, Pick, PickBook, refuse_future, refuse_stale
from robollm.core.settings import PickConfig, view_regions, view_topics
from robollm.data.ros_fields import to_container
from robollm.nodes import messages, qos
from robollm.runtime.arrival import Arrival
from robollm.runtime.pick_views import PickView, post_pick

if TYPE_CHECKING:
    from robollm.nodes.base import PerceptionNode

TICK_S = 0.02


class PickDesk:
    """The pick protocol of one node.

    Deadlines run on the monotonic clock, not on ROS time: a stopped /clock must not leave a
    controller without its answer.

    Args:
        node: the node that owns the subscriptions.
        on_case: called once per pick, in the executor's thread.
        on_pick: called when a pick was announced, before its case can be handed over.
        on_container: listen to `container`, too, and call this when the id has changed.
    """

    def __init__(
        self,
        node: PerceptionNode,
        *,
        on_case: Callable[[Case[Arrival]], None],
        on_pick: Callable[[Pick], None] = lambda pick: None,
        on_container: Callable[[], None] | None = None,
    ) -> None:
        self._node = node
        self._on_case = on_case
        self._on_pick = on_pick
        self._config = node.settings(PickConfig)
        self._regions = view_regions(self._config)
        self.views = tuple(view_topics(self._config))
        self.container: str | None = None
        self._book: PickBook[Arrival] = PickBook(
            self.views, self._config.view_timeout_s, delay_s=self._config.view_delay_s
        )
        self._container_sub: Subscription[Any] | None = None
        self._latched_container = False
        self._pick_sub = node.ears.subscribe(Detection2D, "pick", self._take_pick, qos.RESULTS)
        self._on_container = on_container
        if on_container is not None:
            self._listen_to_container(qos.LATCHED)
        for name, topic in view_topics(self._config).items():
            node.add_image_source(topic, name, self._take_view)
        self._timer = node.steady_timer(TICK_S, self._tick)

    @property
    def waiting(self) -> int:
        """Number of picks that wait for views."""
        return len(self._book)

    def close(self) -> list[Case[Arrival]]:
        """End the subscriptions (images are the node's) and return the picks still open."""
        self._node.destroy_timer(self._timer)
        self._node.ears.close(self._pick_sub)
        if self._container_sub is not None:
            self._node.ears.close(self._container_sub)
        return self._book.flush()

    def time_jumped_back(self) -> None:
        """Hand over what is open as it is; forget the rest."""
        for case in self._book.flush():
            self._on_case(case)

    def pick_views(self, case: Case[Arrival]) -> list[PickView]:
        """The expected views of a pick, decoded, in the order of the setting."""
        limit = self._config.view_timeout_s
        return [
            post_pick(name, case.views.get(name), self._regions.get(name), limit, self._node.refuse)
            for name in self.views
        ]

    def _listen_to_container(self, profile: QoSProfile) -> None:
        self._latched_container = profile is qos.LATCHED
        self._container_sub = self._node.ears.subscribe(
            String,
            "container",
            self._take_container,
            profile,
            overridable=False,
            on_deaf=self._volatile_container,
        )

    def _volatile_container(self) -> bool:
        """Somebody publishes without transient local, as `ros2 topic pub` does: hear them, too."""
        if not self._latched_container:
            return False
        self._node.get_logger().info(
            "container has a volatile publisher: an id published before this node is not heard"
        )
        assert self._container_sub is not None
        self._node.ears.close(self._container_sub)
        self._listen_to_container(qos.RESULTS)
        return True

    def _take_container(self, msg: String) -> None:
        try:
            self.container = to_container(msg.data)
        except MessageError as e:
            self._node.refuse("container", e)
            self.container = None
            return
        self._node.get_logger().info(f"container {self.container}")
        if self._on_container is not None:
            self._on_container()

    def _take_pick(self, msg: Detection2D) -> None:
        try:
            pick = messages.to_pick(msg, self.container)
            before = self._book.moved
            self._book.open(pick, time.monotonic())
        except MessageError as e:
            self._node.refuse("pick", e)
            return
        if moved := self._book.moved - before:
            self._node.stats.count("views_moved", moved)
            if self._node.trouble.due("pick", "views_moved"):
                self._node.get_logger().warning(
                    f"pick {pick.pick_id}: {moved} view images that another pick waited for are "
                    "newer than its tote image: they count as its own\n  fix: announce a pick "
                    "before its views; if the next tote image is taken while the arm still shows "
                    "the item before, set view_delay_s"
                )
        self._on_pick(pick)
        self._node.stats.count("picks")
        self._hand_over()

    def _take_view(self, name: str, arrival: Arrival) -> None:
        config, now_ns = self._node.settings(PickConfig), self._node.get_clock().now().nanoseconds
        played = self._node.get_parameter("use_sim_time").value
        try:
            refuse_stale(arrival.stamp_ns, now_ns, config.max_view_age_s)
            if not played:  # /clock may be behind the images
                refuse_future(arrival.stamp_ns, now_ns, config.max_view_lead_s)
        except FrameError as e:
            self._node.refuse(name, e)
            return
        self._book.add_view(name, arrival.stamp_ns, arrival, time.monotonic())
        self._hand_over()

    def _tick(self) -> None:
        late = self._book.drop_unclaimed(time.monotonic())
        if late:
            self._node.stats.count(UNCLAIMED, late)
        self._hand_over()

    def _hand_over(self) -> None:
        for case in self._book.due(time.monotonic()):
            if case.timed_out:
                self._node.stats.count("picks_timed_out")
            self._on_case(case)
