"""`segmentation_node`: tote image in, instances and masks out. Wiring only."""

from __future__ import annotations

from typing import Any

from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from robollm.core.detections import Detections
from robollm.core.errors import FrameError, InferenceError
from robollm.core.frame import Frame
from robollm.core.settings import SegmentationConfig
from robollm.nodes import messages, qos
from robollm.nodes.base import PerceptionNode
from robollm.runtime import overlay
from robollm.runtime.arrival import Arrival
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.station import Station
from robollm.runtime.timing import Laps


class SegmentationNode(PerceptionNode):
    """Turns `image` into `detections`, `masks`, `label_info` and, on demand, an overlay."""

    def __init__(self, station: Station, **kwargs: Any) -> None:
        super().__init__("segmentation_node", station, **kwargs)
        station.segments_here = True
        self._detections = qos.publisher(self, Detection2DArray, "detections", qos.RESULTS)
        self._masks = qos.publisher(self, Image, "masks", qos.IMAGES)
        self._labels = qos.publisher(self, LabelInfo, "label_info", qos.LATCHED)
        self._overlay = qos.publisher(self, CompressedImage, "overlay/compressed", qos.IMAGES)
        self._announced = LabelInfo()

    def load(self, perceiver: Perceiver) -> None:
        """Nothing else to load."""

    def unload(self) -> None:
        """Free the tote images."""
        self.station.frames.clear()

    def start(self) -> None:
        """Announce the class names, then listen to the tote camera."""
        self._announce()
        self.add_image_source("image", "image", self._take)

    def stop(self) -> None:
        """Nothing is left open: an image that nobody processed is dropped."""

    def settings_changed(self) -> None:
        """Announce the threshold that holds now."""
        if self._label_info().threshold != self._announced.threshold:
            self._announce()

    def time_jumped_back(self) -> None:
        """Forget the tote images of the time before."""
        self.station.frames.clear()

    def process(self, item: Arrival) -> None:
        """Segment one image and publish, with the image's own header."""
        assert self.perceiver is not None
        config, laps = self.settings(SegmentationConfig), Laps()
        try:
            with laps.stage("decode"):
                frame = item.frame()
            # Before the run: newer images must not push out the one that a pick may be planned on.
            self.station.frames.mark_used(frame.stamp_ns)
            found = self.perceiver.segment(
                frame,
                score_min=None if config.score_min < 0 else config.score_min,
                max_instances=config.max_instances,
                laps=laps,
            )
        except FrameError as e:
            self.refuse("image", e)
            return
        except InferenceError as e:
            self.trouble.failed("image", e)
            return
        with laps.stage("publish"):
            self._publish(frame, found, config)
        self.finished(laps, frame.stamp_ns)

    def _take(self, stream: str, arrival: Arrival) -> None:
        self.station.frames.add(arrival)
        if self.enabled:
            self.box.put(arrival)

    def _publish(self, frame: Frame, found: Detections, config: SegmentationConfig) -> None:
        assert self.perceiver is not None
        names = self.perceiver.bundle.instance_labels
        head = messages.header(frame.stamp_ns, frame.frame_id)
        self._detections.publish(messages.detections(head, found, names))
        labels = found.label_map()
        self._masks.publish(messages.mask_image(head, labels))
        if config.overlay and self._overlay.get_subscription_count():
            boxes = [(float(b[0]), float(b[1]), float(b[2]), float(b[3])) for b in found.boxes]
            texts = [f"{i + 1} {s:.2f}" for i, s in enumerate(found.scores)]
            picture = overlay.draw_instances(overlay.to_bgr(frame), labels, boxes, texts)
            if not self.perceiver.bundle.trained:
                picture = overlay.untrained_mark(picture)
            self._overlay.publish(messages.jpeg(head, picture))

    def _announce(self) -> None:
        self._announced = self._label_info()
        self._labels.publish(self._announced)

    def _label_info(self) -> LabelInfo:
        assert self.perceiver is not None
        bundle, config = self.perceiver.bundle, self.settings(SegmentationConfig)
        limit = bundle.thresholds.score_min if config.score_min < 0 else config.score_min
        head = messages.header(self.get_clock().now().nanoseconds, "")
        return messages.label_info(head, bundle.instance_labels, limit)
