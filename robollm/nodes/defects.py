"""`defect_node`: one fused verdict per pick. Wiring only."""

from __future__ import annotations

from typing import Any

from vision_msgs.msg import Detection2DArray

from robollm.core.defects import UNINSPECTED, Verdict, ViewEvidence
from robollm.core.errors import InferenceError
from robollm.core.picks import Case, Pick
from robollm.core.settings import DefectConfig, PickConfig
from robollm.nodes import messages, qos
from robollm.nodes.base import PerceptionNode
from robollm.nodes.health import Report
from robollm.nodes.pick_desk import PickDesk
from robollm.runtime.arrival import Arrival
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pick_views import uninspected
from robollm.runtime.station import Station
from robollm.runtime.timing import Laps


class DefectNode(PerceptionNode):
    """Turns each `pick` and its post-pick views into one verdict on `defects`.

    Whatever goes wrong, a pick that was announced to the active node gets its one message; if
    nothing could be judged it says `uninspected`, never nominal.
    """

    def __init__(self, station: Station, **kwargs: Any) -> None:
        super().__init__("defect_node", station, **kwargs)
        self._verdicts = qos.publisher(self, Detection2DArray, "defects", qos.RESULTS)
        self._evidence = qos.publisher(self, Detection2DArray, "defects/views", qos.RESULTS)
        self.must_arrive = [self._evidence, self._verdicts]
        self._desk: PickDesk | None = None

    def load(self, perceiver: Perceiver) -> None:
        """Nothing else to load."""

    def start(self) -> None:
        """Listen to picks and views."""
        self._desk = PickDesk(self, on_case=self._take)

    def stop(self) -> None:
        """Answer the open picks: uninspected."""
        if self._desk:
            for case in self._desk.close():
                self.abandon(case)

    def time_jumped_back(self) -> None:
        """Answer the open picks with what there is."""
        if self._desk:
            self._desk.time_jumped_back()

    def process(self, item: Case[Arrival]) -> None:
        """Judge one pick and publish the evidence, then the verdict."""
        assert self.perceiver is not None
        assert self._desk is not None
        laps, pick = Laps(), item.pick
        try:
            with laps.stage("decode"):
                views = self._desk.pick_views(item)
            config = self.settings(DefectConfig)
            verdict, evidence = self.perceiver.inspect_pick(
                views,
                thresholds=self.perceiver.defect_thresholds(config),
                quality=self.settings(PickConfig),
                min_views=config.min_views,
                laps=laps,
            )
        except InferenceError as e:
            self.trouble.failed(f"pick {pick.pick_id}", e)
            self._answer(pick, *uninspected(self._desk.views, f"the model failed: {e.what}"))
            return
        except Exception as e:  # whatever it is, the controller waits for an answer
            self.trouble.crashed(f"pick {pick.pick_id}", e)
            self._answer(pick, *uninspected(self._desk.views, f"internal error: {e!r}"))
            return
        with laps.stage("publish"):
            self._answer(pick, verdict, evidence)
        newest = max((e.stamp_ns for e in evidence), default=0) or pick.stamp_ns
        self.finished(laps, newest)
        self.last = {**self.last, **{f"{name}_ms": ms for name, ms in laps.ms.items()}}
        self.publish_diagnostics()

    def abandon(self, item: Case[Arrival]) -> None:
        """The node stops before this pick's turn: uninspected."""
        views = self._desk.views if self._desk else ()
        self._answer(item.pick, *uninspected(views, "the node was stopped"))

    def report_more(self, report: Report) -> None:
        """How many picks wait for views."""
        report.put("waiting_picks", self._desk.waiting if self._desk else 0)

    def _take(self, case: Case[Arrival]) -> None:
        if self.enabled:
            self.box.keep(case)
        else:
            views = self._desk.views if self._desk else ()
            self._answer(case.pick, *uninspected(views, "disabled by ~/enable"))

    def _answer(self, pick: Pick, verdict: Verdict, evidence: list[ViewEvidence]) -> None:
        self._evidence.publish(messages.evidence(pick, evidence))
        self._verdicts.publish(messages.verdict(pick, verdict))
        self.stats.count(f"verdict_{verdict.decision}")
        total = len(verdict.inspected) + len(verdict.missing)
        lost = "; ".join(f"{name}: {why}" for name, why in verdict.missing)
        text = (
            f"pick {pick.pick_id}: {verdict.decision} {verdict.ranked[0][1]:.2f} on "
            f"{len(verdict.inspected)} of {total} views" + (f" ({lost})" if lost else "")
        )
        self.last = {"pick": pick.pick_id, "verdict": text}
        if verdict.decision == UNINSPECTED:
            self.get_logger().warning(text)
        else:
            self.get_logger().info(text)
