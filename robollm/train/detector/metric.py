"""Average precision of masks and boxes while a detector learns, see `robollm.metrics.instances`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from robollm.metrics.instances import (
    KINDS,
    PROTOCOLS,
    ImageResult,
    InstanceTally,
    Truth,
    check_settings,
)
from robollm.metrics.rle import mask_rle
from robollm.train.detector.totes import class_count


@METRICS.register_module()
class InstanceMetric(BaseMetric):  # type: ignore[misc]
    """`InstanceTally` over the images that were evaluated.

    Results are named PROTOCOL_KIND_mAP, _mAP50 and _mAP75, for example
    `object_only_mask_mAP50`. Not a number: there is no truth to find.

    Args:
        classes: as of the model and its `ToteData`; a key of `PROTOCOLS`.
        kinds: of "mask" and "box".
        groups: see `InstanceTally`; adds results such as `object_only_mask_mAP50_1-5`.
        max_detections: per image, the best ones.
        collect_device: MMEngine's.

    Raises:
        ConfigError: for a setting out of range.
    """

    default_prefix = ""  # none, and no warning about it

    def __init__(
        self,
        classes: str = "agnostic",
        *,
        kinds: Sequence[str] = KINDS,
        groups: Sequence[int] = (),
        max_detections: int = 100,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(collect_device=collect_device)
        class_count(classes)
        check_settings(kinds, groups, max_detections)
        self.classes, self._kinds, self._max = classes, tuple(kinds), max_detections
        self._groups = tuple(groups)

    @property
    def names(self) -> list[str]:
        """Names of the results over all images."""
        return [
            f"{protocol}_{kind}_mAP{level}"
            for protocol in PROTOCOLS[self.classes]
            for kind in self._kinds
            for level in ("", "50", "75")
        ]

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep one batch, masks as run lengths.

        Args:
            data_batch: not used.
            data_samples: dicts of `DetDataSample`s with `pred_instances` (bboxes (N, 4) xyxy in
                source px, scores (N,), labels (N,), masks (N, H, W) bool) and `instances`, as
                `ToteData` gives them.
        """
        for sample in data_samples:
            found = sample["pred_instances"]
            scores = _array(found["scores"])
            best = np.argsort(-scores, kind="stable")[: self._max]
            masks = found["masks"]
            self.results.append(
                {
                    "truth": [_truth(t) for t in sample["instances"]],
                    "boxes": _xywh(_array(found["bboxes"])[best]),
                    "scores": scores[best],
                    "labels": _array(found["labels"])[best],
                    "masks": [_rle(masks[int(i)]) for i in best],
                }
            )

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Precision of all images together, then by group."""
        images = (ImageResult(str(i), **r) for i, r in enumerate(results))
        return InstanceTally(
            images,
            PROTOCOLS[self.classes],
            self._kinds,
            self._groups,
            max_detections=self._max,
        ).figures()


def _array(values: Any) -> Any:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _rle(mask: Any) -> dict[str, Any]:
    return mask_rle(_array(mask).astype(bool, copy=False))


def _truth(one: Mapping[str, Any]) -> Truth:
    return Truth(
        one["category"],
        _xywh([one["bbox"]])[0],
        one["mask"],
        crowd=bool(one["crowd"]),
        ignore=bool(one["ignore"]),
    )


def _xywh(boxes: Any) -> Any:
    """(N, 4) xyxy to x, y, width, height, float64."""
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes
