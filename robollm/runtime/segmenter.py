"""Backbone map -> instances in source pixels."""

from __future__ import annotations

import numpy as np

from robollm.core import boxes as bx
from robollm.core.detections import Detections
from robollm.core.errors import InferenceError
from robollm.core.letterbox import Letterbox
from robollm.runtime.backbone import Features
from robollm.runtime.bundle import Bundle
from robollm.runtime.pixels import paste_mask
from robollm.runtime.session import Session
from robollm.runtime.timing import Laps


class Segmenter:
    """The Cascade Mask R-CNN head of a bundle (thesis chapter 8; ViTDet, arXiv:2203.16527).

    Args:
        bundle: a verified bundle.
        provider: where to run.
        threads: intra-op threads; 0: one per core.

    Raises:
        ModelFileError: see `Session`.
    """

    def __init__(self, bundle: Bundle, provider: str, threads: int) -> None:
        self._bundle = bundle
        self._session = Session(
            bundle.graphs["segmentation"],
            provider,
            threads=threads,
            inputs=("map",),
            outputs=("boxes", "scores", "labels", "masks"),
        )

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
            laps: takes the times of the stages `heads` and `masks`.

        Raises:
            InferenceError: if the run fails or a label is unknown.
        """
        with laps.stage("heads"):
            boxes, scores, labels, masks = self._session.run({"map": features.map})
        n = len(scores)
        shapes = (boxes.shape, scores.shape, labels.shape, masks.shape[:1])
        if shapes != ((n, 4), (n,), (n,), (n,)) or masks.ndim != 3:
            raise InferenceError(
                f"segmentation gave boxes {boxes.shape}, scores {scores.shape}, labels "
                f"{labels.shape}, masks {masks.shape}, want (n, 4), (n,), (n,), (n, M, M)",
                fix="export the bundle again",
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(
            self._bundle.instance_labels
        ):
            raise InferenceError(
                f"segmentation gave label {int(labels.max())}, the bundle names "
                f"{len(self._bundle.instance_labels)}",
                fix="export the bundle with its own label list",
            )
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
