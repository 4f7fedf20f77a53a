"""Backbone map -> instances in source pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core import boxes as bx
from robollm.core.detections import Detections
from robollm.core.errors import InferenceError, ModelFileError
from robollm.core.letterbox import Letterbox
from robollm.runtime.backbone import Features
from robollm.runtime.bundle import Bundle
from robollm.runtime.pixels import paste_mask
from robollm.runtime.precision import placed
from robollm.runtime.session import Place, Session
from robollm.runtime.timing import Laps

_CANDIDATES = ("levels.*", "candidates", "candidate_scores", "candidate_levels")
_LIMITS = ("proposals", "score_min")


class Segmenter:
    """The Cascade Mask R-CNN head of a bundle (thesis chapter 8; ViTDet, arXiv:2203.16527).

    Two graphs. `proposals` (pyramid and region proposals) has static shapes and takes most of the
    time: it runs where the backbone does. `rois` (suppression, box and mask stages) works on as
    many boxes as there are, and runs where that is fast (`placed`).

    Args:
        bundle: a verified bundle.
        place: where to run, and in which precision.
        proposals: boxes that go to the RoI heads; 0: the bundle's.

    Raises:
        ModelFileError: see `Session`; or the two graphs don't fit together.
    """

    def __init__(self, bundle: Bundle, place: Place, proposals: int = 0) -> None:
        self._bundle = bundle
        self._limit = np.array([proposals or bundle.proposals], np.int64)
        self._proposals = Session(
            *placed(bundle, "proposals", place), inputs=("map",), outputs=_CANDIDATES
        )
        self._rois = Session(
            *placed(bundle, "rois", place),
            inputs=(*_CANDIDATES, *_LIMITS),
            outputs=("boxes", "scores", "labels", "masks"),
        )
        lost = set(self._rois.inputs) - {*self._proposals.outputs, *_LIMITS}
        if lost:
            raise ModelFileError(
                f"rois wants {', '.join(sorted(lost))}, which proposals doesn't give: the two "
                "graphs are of different detectors",
                fix="export the bundle again",
            )
        self.where = {"proposals": self._proposals.where, "rois": self._rois.where}

    @property
    def proposals(self) -> int:
        """Boxes that go to the RoI heads, at most."""
        return int(self._limit[0])

    def run(
        self,
        features: Features,
        letterbox: Letterbox,
        *,
        score_min: float,
        max_instances: int,
        laps: Laps,
    ) -> Detections:
        """Find the instances of one image.

        Args:
            features: of one image at the tote size.
            letterbox: how that image was fitted.
            score_min: drop instances below this score.
            max_instances: keep at most this many.
            laps: takes the times of the stages `proposals`, `rois` and `masks`.

        Raises:
            InferenceError: if a run fails or a label is unknown.
        """
        boxes, scores, labels, masks = self._on_canvas(features, score_min, laps)
        with laps.stage("masks"):
            source = letterbox.to_source(boxes.astype(np.float32))
            order = np.argsort(-scores, kind="stable")
            good = (scores[order] >= score_min) & (bx.area(source)[order] >= 1.0)
            index = order[good][:max_instances]
            threshold = self._bundle.thresholds.mask_min
            return Detections(
                boxes=source[index],
                scores=scores[index].astype(np.float32),
                labels=labels[index].astype(np.int32),
                masks=tuple(
                    paste_mask(masks[i].astype(np.float32), source[i], letterbox.src_hw, threshold)
                    for i in index
                ),
                hw=letterbox.src_hw,
            )

    def _on_canvas(
        self, features: Features, score_min: float, laps: Laps
    ) -> tuple[NDArray[Any], ...]:
        """Boxes (n, 4) in canvas px, scores (n,), labels (n,) and masks (n, M, M), checked."""
        with laps.stage("proposals"):
            values = self._proposals.run({"map": features.map})
        candidates = dict(zip(self._proposals.outputs, values, strict=True))
        with laps.stage("rois"):
            # the graph leaves out what scores as much as its limit; `score_min` itself may stay
            below = np.nextafter(np.array([score_min], np.float32), np.float32(-1))
            given = {**candidates, "proposals": self._limit, "score_min": below}
            found = self._rois.run(given)
        boxes, scores, labels, masks = found
        n = len(scores)
        shapes = (boxes.shape, scores.shape, labels.shape, masks.shape[:1])
        if shapes != ((n, 4), (n,), (n,), (n,)) or masks.ndim != 3:
            raise InferenceError(
                f"rois gave boxes {boxes.shape}, scores {scores.shape}, labels {labels.shape}, "
                f"masks {masks.shape}, want (n, 4), (n,), (n,), (n, M, M)",
                fix="export the bundle again",
            )
        names = len(self._bundle.instance_labels)
        if n and not 0 <= int(labels.min()) <= int(labels.max()) < names:
            raise InferenceError(
                f"rois gave labels {int(labels.min())} to {int(labels.max())}, the bundle names "
                f"{names}",
                fix="export the bundle with its own label list",
            )
        return boxes, scores, labels, masks
