"""What the three nodes have in common: settings, lifecycle, one worker thread, diagnostics."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.timer import Timer
from std_srvs.srv import SetBool

from robollm.core.errors import ConfigError, FrameError, MessageError, RobollmError
from robollm.core.settings import NODE_SETTINGS, NodeConfig, RuntimeConfig
from robollm.nodes import params, qos
from robollm.nodes.ears import Ears
from robollm.nodes.health import ERROR, Report, rss_mb
from robollm.nodes.images import STEADY, ImageSource
from robollm.nodes.trouble import Trouble
from robollm.runtime.mailbox import Mailbox
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.station import Station
from robollm.runtime.timing import Laps, Stats

C = TypeVar("C")
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
STOP_S = 30.0  # longest wait for one model run to end
JUMP = Duration(nanoseconds=-100_000_000)  # a bag that starts again, not a late /clock message


class PerceptionNode(LifecycleNode, ABC):
    """A lifecycle node with one inference worker.

    configure loads the models, activate subscribes, deactivate stops the stream but keeps the
    models warm, cleanup frees them. A failed configure leaves the node alive and unconfigured,
    with the reason in the log and in /diagnostics. Publishers live as long as the node, so that
    subscribers have found it before the first result.

    Args:
        name: node name; its settings are `NODE_SETTINGS[name]`.
        station: what the nodes of this process share.
        kwargs: passed to rclpy's node (context, namespace, parameter_overrides ...).
    """

    def __init__(self, name: str, station: Station, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.station = station
        self.role = name  # the node may be renamed by a remapping
        self.kinds = NODE_SETTINGS[name]
        self._wrong = params.declare(self, self.kinds)
        self.add_on_set_parameters_callback(self._on_parameters)
        self.stats = Stats()
        self.trouble = Trouble(self.get_logger(), self.stats)  # counts and logs failures
        self.ears = Ears(self)
        self.box: Mailbox[Any, Any] = Mailbox()
        self.perceiver: Perceiver | None = None
        self.enabled = True
        self.last: dict[str, object] = {}  # replaced as a whole: two threads read it
        self.must_arrive: list[Publisher[Any]] = []  # waited for before the node stops
        self._runtime: RuntimeConfig | None = None
        self._worker: threading.Thread | None = None
        self._sources: list[ImageSource] = []
        self._active = False
        self._dropped = 0
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.RESULTS)
        self.create_service(SetBool, "~/enable", self._on_enable)
        period = self.get_parameter("diagnostics_period_s").value
        self.steady_timer(float(period or 1.0), self.publish_diagnostics)
        back = JumpThreshold(min_forward=None, min_backward=JUMP, on_clock_change=False)
        self._jump = self.get_clock().create_jump_callback(back, post_callback=self._on_jump)

    # What a node adds.

    @abstractmethod
    def load(self, perceiver: Perceiver) -> None:
        """Read what else is needed (in configure). Raises `RobollmError` to refuse."""

    @abstractmethod
    def start(self) -> None:
        """Create subscriptions (in activate)."""

    @abstractmethod
    def stop(self) -> None:
        """End subscriptions and answer what is still open (in deactivate, worker running)."""

    @abstractmethod
    def process(self, item: Any) -> None:
        """Do one item from the mailbox, in the worker's thread."""

    @abstractmethod
    def time_jumped_back(self) -> None:
        """A bag started again: forget what was kept by stamp."""

    def abandon(self, item: Any) -> None:
        """Answer a kept item without work, because the node stops (in the worker's thread)."""

    def unload(self) -> None:
        """Free what `load` made (in cleanup)."""

    def settings_changed(self) -> None:
        """Tell others of live settings that they go by (in the executor's thread)."""

    def report_more(self, report: Report) -> None:
        """Add facts to the diagnostics."""

    # What a node uses.

    def settings(self, kind: type[C]) -> C:
        """The current values of one settings class."""
        return params.read(self, kind)

    def steady_timer(self, period_s: float, callback: Callable[[], None]) -> Timer:
        """A timer that goes on when /clock stands still; destroy it with `destroy_timer`."""
        return self.create_timer(period_s, callback, clock=STEADY)

    def add_image_source(self, topic: str, stream: str, on_arrival: Any) -> None:
        """Subscribe to images until deactivate; bad ones are counted and logged."""
        self._sources.append(
            ImageSource(
                self,
                topic,
                stream,
                self.settings(NodeConfig),
                on_arrival=on_arrival,
                on_bad=self.refuse,
            )
        )

    def refuse(self, stream: str, error: FrameError | MessageError) -> None:
        """Count and log an input that can't be used."""
        self.trouble.refused(stream, error)

    def finished(self, laps: Laps, stamp_ns: int) -> None:
        """Account for one finished item."""
        age_ms = (self.get_clock().now().nanoseconds - stamp_ns) / 1e6
        self.stats.finished(laps, now_s=time.monotonic(), age_ms=age_ms)
        self.trouble.error = ""

    # Lifecycle.

    def refuse_settings(self, wrong: Iterable[str]) -> None:
        """Let configure fail for settings that the node itself doesn't see, in these words."""
        self._wrong.extend(wrong)

    def autostart(self) -> None:
        """Configure and activate, unless the setting `autostart` says no."""
        if self.get_parameter("autostart").value and self.trigger_configure() is SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the settings and load the models."""
        try:
            if self._wrong:
                raise ConfigError("; ".join(self._wrong), fix="correct the parameter file")
            for kind in self.kinds:
                self.settings(kind)
            runtime = self.settings(RuntimeConfig)
            self.perceiver = self.station.acquire(runtime)
            self._runtime = runtime
            self.load(self.perceiver)
        except RobollmError as e:
            self._release()
            self.trouble.error = f"configure failed: {e.what}"
            self.get_logger().error(f"configure failed: {e}")
            return FAILURE
        except Exception as e:  # rclpy would swallow it without a word
            self.trouble.crashed("configure", e)
            self._release()
            return FAILURE
        self.trouble.error = ""
        bundle = self.perceiver.bundle
        self.get_logger().info(f"bundle {bundle.title}: {self.perceiver.summary}")
        if not bundle.trained:
            self.get_logger().warning(
                f"UNTRAINED bundle {bundle.name}: random weights, results mean nothing"
            )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and subscribe."""
        self.box = Mailbox()
        self._worker = threading.Thread(target=self._work, args=(self.box,), daemon=True)
        result = super().on_activate(state)
        self._worker.start()
        self._active = True
        try:
            self.start()
        except Exception as e:  # a topic name that ROS refuses, say; rclpy would swallow it
            self._halt()
            self.trouble.crashed("activate", e)
            super().on_deactivate(state)
            return FAILURE
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, answer what is open, end the worker."""
        if not self._halt():  # never free a model that a thread still runs
            self.get_logger().error(f"inference did not stop within {STOP_S:g} s")
            return TransitionCallbackReturn.ERROR
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the models."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free, from any state."""
        self._halt()
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Fall back to unconfigured."""
        self._halt()
        self._release()
        return SUCCESS

    def destroy_node(self) -> None:
        """Stop the worker and free the models before the node goes."""
        self._halt()
        self._release()
        self._jump.unregister()
        super().destroy_node()

    def _halt(self) -> bool:
        if not self._active:
            return True
        self._active = False
        for source in self._sources:
            source.close()
        self._sources.clear()
        self.stop()
        self.box.close()
        assert self._worker is not None
        self._worker.join(STOP_S)
        self._dropped += self.box.dropped
        self.box.dropped = 0
        if self._worker.is_alive():
            return False
        for publisher in self.must_arrive:
            publisher.wait_for_all_acked(Duration(seconds=1))
        return True

    def _release(self) -> None:
        if self._worker is not None and self._worker.is_alive():
            self.get_logger().error("a model run does not end: its models stay in memory")
            return
        if self._runtime is not None:
            self.unload()
            self.station.release(self._runtime)
        self._runtime = None
        self.perceiver = None

    def _work(self, box: Mailbox[Any, Any]) -> None:
        while not box.closed or box.waiting:
            item = box.get(timeout_s=0.5)
            if item is None:
                continue
            try:
                if box.closed:
                    self.abandon(item)
                else:
                    self.process(item)
            except Exception as e:  # our mistake; a dead worker would answer nothing any more
                self.trouble.crashed(type(item).__name__, e)

    # Services, parameters, time.

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> Any:
        self.enabled = bool(request.data)
        response.success = True
        response.message = "enabled" if self.enabled else "disabled: inputs are not processed"
        self.get_logger().info(response.message)
        return response

    def _on_parameters(self, parameters: list[Parameter[Any]]) -> Any:
        result = params.refuse_bad(self, self.kinds, parameters)
        # Afterwards: here they aren't changed yet, and Humble has no callback for when they are.
        if result.successful and self._active and self.executor is not None:
            self.executor.create_task(self._tell_settings)
        return result

    def _tell_settings(self) -> None:
        if self._active:
            self.settings_changed()

    def _on_jump(self, jump: TimeJump) -> None:
        self.get_logger().info("time jumped back: forgetting what was kept by stamp")
        self.stats.count("time_jumps")
        for source in self._sources:
            source.time_jumped_back()
        self.time_jumped_back()

    # Diagnostics.

    def publish_diagnostics(self) -> None:
        """Publish the facts now."""
        msg = DiagnosticArray()
        msg.header.stamp = self.get_clock().now().to_msg()
        msg.status.append(self._report().status(self._summary()))
        self._diagnostics.publish(msg)

    def _summary(self) -> str:
        p50, p95 = self.stats.age_ms()
        state = "active" if self._active else "not active"
        return f"{state}, {self.stats.rate_hz(time.monotonic()):.1f} Hz, age {p50:.0f}/{p95:.0f} ms"

    def _report(self) -> Report:
        r = Report(self.get_fully_qualified_name())
        now = time.monotonic()
        r.put(
            "state", "active" if self._active else "inactive" if self.perceiver else "unconfigured"
        )
        r.put("enabled", self.enabled)
        if self.perceiver:
            r.add_models(self.perceiver)
        if self.trouble.error:
            r.problems.append((ERROR, self.trouble.error))
            r.put("last_error", self.trouble.error)
        r.problems.extend(self._camera_troubles())
        r.problems.extend(self.ears.problems())
        r.put("dropped_frames", self._dropped + self.box.dropped)
        r.add_stats(self.stats, now)
        r.put_all("last_", self.last)
        r.put("rss_mb", rss_mb())
        self.report_more(r)
        return r

    def _camera_troubles(self) -> Iterable[tuple[bytes, str]]:
        limit = float(self.get_parameter("no_image_warn_s").value or 0.0)
        for source in self._sources if self._active and limit else ():
            # Post-pick cameras are silent between picks; a pick without views says so itself.
            wrong = source.trouble(limit, silence=source.stream == "image")
            if wrong:
                if self.trouble.due(source.stream, wrong.kind, max(limit, 5.0)):
                    self.get_logger().warning(str(wrong))
                yield ERROR, wrong.what
