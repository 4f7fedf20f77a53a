"""`identification_node`: which product is each instance, and which one was picked? Wiring only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.subscription import Subscription
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D, Detection2DArray

from robollm.core.decide import Identification
from robollm.core.errors import FrameError, InferenceError, MessageError
from robollm.core.frame import Frame
from robollm.core.picks import Case, Pick
from robollm.core.settings import IdentificationConfig, PickConfig, view_topics
from robollm.gallery.catalogue import Catalogue
from robollm.gallery.keeper import Sight
from robollm.nodes import messages, qos
from robollm.nodes.base import PerceptionNode
from robollm.nodes.gallery_desk import GalleryDesk
from robollm.nodes.health import WARN, Report
from robollm.nodes.pick_desk import PickDesk
from robollm.runtime.arrival import Arrival
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pick_views import PickView, pre_pick
from robollm.runtime.pixels import Region
from robollm.runtime.station import Station
from robollm.runtime.timing import Laps


@dataclass(frozen=True, slots=True)
class _Tote:
    """One tote image whose instances wait for a name."""

    arrival: Arrival
    msg: Detection2DArray
    container: str | None


class IdentificationNode(PerceptionNode):
    """Names instances on `identifications` and picked products on `pick_identifications`.

    In one process with the segmentation node it uses that node's images; alone it subscribes to
    `image` itself.
    """

    def __init__(self, station: Station, **kwargs: Any) -> None:
        super().__init__("identification_node", station, **kwargs)
        self._tote = qos.publisher(self, Detection2DArray, "identifications", qos.RESULTS)
        self._picks = qos.publisher(self, Detection2DArray, "pick_identifications", qos.RESULTS)
        # A group of its own: it waits for the answer, and the others must not.
        apart = MutuallyExclusiveCallbackGroup()
        self.create_service(Trigger, "~/reload_manifest", self._on_reload, callback_group=apart)
        self.must_arrive = [self._picks]
        self._gallery: GalleryDesk | None = None
        self._sights: dict[str, Sight] = {}  # pick id -> what it will be named from
        self._desk: PickDesk | None = None
        self._sub: Subscription[Any] | None = None

    def load(self, perceiver: Perceiver) -> None:
        """Read manifest and gallery."""
        self.station.frames.resize(self.settings(IdentificationConfig).frame_history)
        known, views = perceiver.fused_views, view_topics(self.settings(PickConfig))
        if known and not set(views) <= set(known):
            self.get_logger().warning(
                f"views {', '.join(v for v in views if v not in known)} are left out: the bundle "
                f"joins {', '.join(known)}\n  fix: name the views as the bundle does"
            )
        self._gallery = GalleryDesk(self, perceiver)

    def unload(self) -> None:
        """Free gallery, manifest and tote images."""
        if self._gallery is not None:
            self._gallery.close()
        self._gallery = None
        if not self.station.segments_here:
            self.station.frames.clear()

    def start(self) -> None:
        """Listen to instances, picks and views."""
        self._desk = PickDesk(
            self,
            on_case=self._take_case,
            on_pick=self._note_pick,
            on_container=self._container_changed,
        )
        self._sub = self.ears.subscribe(
            Detection2DArray, "detections", self._take_detections, qos.RESULTS
        )
        if not self.station.segments_here:
            self.add_image_source(
                "image", "image", lambda _, arrival: self.station.frames.add(arrival)
            )

    def stop(self) -> None:
        """Answer the open picks: unknown."""
        if self._sub:
            self.ears.close(self._sub)
        for case in self._desk.close() if self._desk else ():
            self.abandon(case)

    def time_jumped_back(self) -> None:
        """Answer the open picks with what there is, forget old tote images."""
        if self._desk:
            self._desk.time_jumped_back()
        if not self.station.segments_here:
            self.station.frames.clear()

    def process(self, item: _Tote | Case[Arrival]) -> None:
        """Name one picked product, or the instances of one tote image."""
        if isinstance(item, _Tote):
            self._name_instances(item)
        else:
            self._name_pick(item)

    def abandon(self, item: _Tote | Case[Arrival]) -> None:
        """The node stops before this pick's turn: unknown."""
        if isinstance(item, Case):
            self._answer(item.pick, Identification.nothing("the node was stopped"))

    def report_more(self, report: Report) -> None:
        """Gallery and manifest sizes, the container in front of the arm."""
        report.put("waiting_picks", self._desk.waiting if self._desk else 0)
        if self._stranger():
            report.problems.append((WARN, f"container {self._stranger()!r} is not in the manifest"))
        report.put("container", (self._desk.container if self._desk else None) or "none announced")
        if self._gallery:
            self._gallery.report(report)

    def _stranger(self) -> str | None:
        """The announced container, if no manifest knows it."""
        container = self._desk.container if self._desk else None
        known = self._gallery.catalogue.manifests.containers if self._gallery else {}
        return container if container is not None and container not in known else None

    def _container_changed(self) -> None:
        if self._stranger():
            error = MessageError(
                f"container {self._stranger()!r} is not in the manifest: every product in it is "
                "unknown",
                kind="unknown_container",
                fix="add it to the manifest file and call ~/reload_manifest, or send it on the "
                "topic `manifest`",
            )
            self.refuse("container", error)

    def _take_detections(self, msg: Detection2DArray) -> None:
        if not self.enabled:
            return
        try:
            ns = messages.stamp_ns(msg.header.stamp)
            arrival = self.station.frames.get(ns)
            if arrival is None:
                raise MessageError(
                    f"no tote image with the stamp {ns / 1e9:.9f} s is kept",
                    kind="detections_without_image",
                    fix="raise frame_history, or check that `image` is the one that was segmented",
                )
        except (FrameError, MessageError) as e:
            self.refuse("detections", e)
            return
        self.station.frames.mark_used(ns)  # a pick may be planned on it
        container = self._desk.container if self._desk else None
        self.box.put(_Tote(arrival, msg, container))

    def _name_instances(self, item: _Tote) -> None:
        assert self.perceiver is not None
        assert self._gallery is not None
        laps = Laps()
        catalogue = self._gallery.catalogue  # the same to the end, whatever changes meanwhile
        config = self.settings(IdentificationConfig)
        try:
            with laps.stage("decode"):
                frame = item.arrival.frame()
                boxes = [self._box(d, frame) for d in item.msg.detections]
            named = self.perceiver.identify_instances(
                frame,
                [b for b in boxes if b is not None],
                catalogue=catalogue,
                container=item.container,
                policy=self.perceiver.policy(config, catalogue.gallery)[0],
                laps=laps,
            )
        except FrameError as e:
            self.refuse("detections", e)
            return
        except InferenceError as e:
            self.trouble.failed("detections", e)
            return
        rest, none = iter(named), Identification.nothing("its box can't be used")
        found = [none if b is None else next(rest) for b in boxes]
        with laps.stage("publish"):
            self._tote.publish(messages.identifications(item.msg, found))
        self.finished(laps, frame.stamp_ns)

    def _box(self, instance: Detection2D, frame: Frame) -> messages.Box | None:
        """An instance's box, px of the tote image; None if it can't be used: nobody knows what."""
        try:
            box = messages.to_box(instance.bbox)
            _ = Region(frame, box).window  # in the image?
        except (FrameError, MessageError) as e:
            what = f"instance {instance.id!r} is unknown: {e.what}"
            self.refuse("detections", MessageError(what, kind=e.kind, fix=e.fix))
            return None
        return box

    def _note_pick(self, pick: Pick) -> None:
        """What is taken out of the manifest because of this pick must not change its name."""
        if self._gallery is not None:
            self._sights[pick.pick_id] = self._gallery.sight()

    def _seen_by(self, pick: Pick) -> Catalogue:
        assert self._gallery is not None
        sight = self._sights.get(pick.pick_id) or self._gallery.sight()
        if sight.waiting:
            self.stats.count("pick_before_manifest_update")
        return sight.catalogue

    def _take_case(self, case: Case[Arrival]) -> None:
        if self.enabled:
            self.box.keep(case)
        else:
            self._answer(case.pick, Identification.nothing("disabled by ~/enable"))

    def _name_pick(self, case: Case[Arrival]) -> None:
        assert self.perceiver is not None
        assert self._gallery is not None
        assert self._desk is not None
        laps, pick = Laps(), case.pick
        catalogue = self._seen_by(pick)
        try:
            config = self.settings(IdentificationConfig)
            with laps.stage("decode"):
                views = [self._pre_pick(pick), *self._desk.pick_views(case)]
            answer = self.perceiver.identify_pick(
                views,
                catalogue=catalogue,
                container=pick.container,
                policy=self.perceiver.policy(config, catalogue.gallery)[0],
                quality=self.settings(PickConfig),
                laps=laps,
            )
        except InferenceError as e:
            self.trouble.failed(f"pick {pick.pick_id}", e)
            self._answer(pick, Identification.nothing(f"the model failed: {e.what}"))
            return
        except Exception as e:  # whatever it is, the controller waits for an answer
            self.trouble.crashed(f"pick {pick.pick_id}", e)
            self._answer(pick, Identification.nothing(f"internal error: {e!r}"))
            return
        with laps.stage("publish"):
            self._answer(pick, answer)
        self.finished(laps, pick.stamp_ns)
        times = {f"{name}_ms": ms for name, ms in laps.ms.items()}
        self.last = {**self.last, "gallery_generation": catalogue.gallery.generation, **times}
        self.publish_diagnostics()

    def _pre_pick(self, pick: Pick) -> PickView:
        arrival = self.station.frames.get(pick.stamp_ns)
        if arrival is None:
            self.stats.count("pick_without_tote_image")
            if self.trouble.due("pick", "pick_without_tote_image"):
                self.get_logger().warning(
                    f"pick {pick.pick_id}: its tote image, stamp {pick.stamp_ns / 1e9:.9f} s, is "
                    "not kept: it is named without\n  fix: raise frame_history "
                    f"({self.settings(IdentificationConfig).frame_history}) above the images "
                    "between a tote image and its pick's message"
                )
        return pre_pick(arrival, pick.box, self.refuse)

    def _answer(self, pick: Pick, answer: Identification) -> None:
        self._sights.pop(pick.pick_id, None)
        self._picks.publish(messages.pick_answer(pick, answer.ranked))
        self.stats.count(f"pick_{answer.decision}")
        name, score = answer.ranked[0]
        why = f" ({answer.reason})" if answer.reason else ""
        text = f"pick {pick.pick_id}: {name} {score:.2f} on {len(answer.views)} views{why}"
        self.last = {"pick": pick.pick_id, "identification": text}
        self.get_logger().info(text)

    async def _on_reload(self, request: Trigger.Request, response: Trigger.Response) -> Any:
        desk = self._gallery
        if desk is None:
            response.success = False
            response.message = "the node is not configured: nothing to reload"
        else:
            response.success, response.message = await desk.reload()
        return response
