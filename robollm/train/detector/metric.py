"""Average precision of masks and boxes, under the protocols that are used for ARMBench, by name."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from robollm.core.errors import ConfigError
from robollm.train.detector.totes import CLASSES, class_count

KINDS = {"mask": "segm", "box": "bbox"}
_OTHER_IOU = 0.5  # COCO's lowest threshold: below it nothing counts as found
_IGNORED_AREA = 1e12  # beyond COCO's areas: matched like any other, and counted for nothing
_ALL = [0.0, 1e10]


class Protocol(NamedTuple):
    """What counts.

    Attributes:
        truth: category -> class; absent: left out.
        found: predicted label -> class; absent: left out.
        others: categories whose finds are taken out first, since no label tells them apart.
    """

    truth: Mapping[str, int]
    found: Mapping[int, int]
    others: Sequence[str] = ()


PROTOCOLS: dict[str, dict[str, Protocol]] = {
    "agnostic": {
        "class_agnostic": Protocol({"tote": 0, "object": 0, "other": 0}, {0: 0}),
        "object_only": Protocol({"object": 0}, {0: 0}, ("tote", "other")),
    },
    "two": {
        "two_class": Protocol({"tote": 0, "object": 1}, {0: 0, 1: 1}),
        "class_agnostic": Protocol({"tote": 0, "object": 0}, {0: 0, 1: 0}),
        "object_only": Protocol({"object": 0}, {1: 0}),
    },
    "object": {"object_only": Protocol({"object": 0}, {0: 0})},
}


@METRICS.register_module()
class InstanceMetric(BaseMetric):  # type: ignore[misc]
    """Mask and box AP over the images that were evaluated, by pycocotools, without files.

    Results are named PROTOCOL_KIND_mAP, _mAP50 and _mAP75, for example
    `object_only_mask_mAP50`. Not a number: there is no truth to find. Protocols:

    - `two_class`: mean over Tote and Object (ARMBench's devkit).
    - `class_agnostic`: everything is one class (RoboLLM's code).
    - `object_only`: objects alone. A class-agnostic model can't tell, so what it finds of a tote
      (or of a category of another name) is taken out, at all thresholds alike: whatever has an
      IoU of .5 and more with one, and less with every object.

    Args:
        classes: as of the model and its `ToteData`.
        kinds: of "mask" and "box".
        groups: upper ends of groups of images by their number of objects, for example (5, 12):
            1-5, 6-12, 13 and more; adds results such as `object_only_mask_mAP50_1-5`.
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
        kinds: Sequence[str] = ("mask", "box"),
        groups: Sequence[int] = (),
        max_detections: int = 100,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(collect_device=collect_device)
        class_count(classes)
        if not set(kinds) <= set(KINDS) or not kinds or max_detections < 1:
            raise ConfigError(
                f"kinds {tuple(kinds)}, max_detections {max_detections}; want kinds of "
                f"{', '.join(KINDS)}, and 1 detection or more",
                fix="correct val_evaluator",
            )
        if list(groups) != sorted(set(groups)) or any(g < 1 for g in groups):
            raise ConfigError(f"groups are {tuple(groups)}, want rising numbers from 1")
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
                    "hw": tuple(sample["ori_shape"]),
                    "truth": [dict(t) for t in sample["instances"]],
                    "boxes": _array(found["bboxes"])[best],
                    "scores": scores[best],
                    "labels": _array(found["labels"])[best],
                    "masks": [_rle(masks[int(i)]) for i in best],
                }
            )

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Precision of all images together, then by group."""
        out: dict[str, float] = {}
        for name, protocol in PROTOCOLS[self.classes].items():
            for kind in self._kinds:
                out |= self._scores(f"{name}_{kind}_mAP", results, protocol, kind)
                for label, group in self._split(results):
                    some = self._scores(f"{name}_{kind}_mAP", group, protocol, kind)
                    out[f"{name}_{kind}_mAP50_{label}"] = some[f"{name}_{kind}_mAP50"]
        return out

    def _split(self, results: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
        if not self._groups:
            return []
        lows = [1, *(g + 1 for g in self._groups)]
        highs: list[float] = [*self._groups, float("inf")]
        return [
            (
                f"{low}-{high}" if high != float("inf") else f"{low}+",
                [r for r in results if low <= _objects(r) <= high],
            )
            for low, high in zip(lows, highs, strict=True)
        ]

    def _scores(
        self, name: str, results: list[dict[str, Any]], protocol: Protocol, kind: str
    ) -> dict[str, float]:
        truth = _index(results, lambda r: _truths(r, protocol))
        if not any(t["area"] < _IGNORED_AREA and not t["iscrowd"] for t in truth.anns.values()):
            return dict.fromkeys((name, f"{name}50", f"{name}75"), float("nan"))
        found = _index(results, lambda r: _finds(r, protocol, kind))
        with contextlib.redirect_stdout(io.StringIO()):
            run = COCOeval(truth, found, KINDS[kind])
            run.params.areaRng, run.params.areaRngLbl = [_ALL], ["all"]
            run.params.maxDets = [self._max]
            run.evaluate()
            run.accumulate()
        precision = run.eval["precision"][..., 0, 0]  # (IoU, recall, class); -1: no truth

        def mean(part: Any) -> float:
            return float(part[part > -1].mean())

        return {
            name: mean(precision),
            f"{name}50": mean(precision[0]),
            f"{name}75": mean(precision[5]),
        }


def _array(values: Any) -> Any:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _rle(mask: Any) -> dict[str, Any]:
    """COCO's run lengths of an (H, W) bool mask; only the window that it fills is looked at."""
    mask = _array(mask).astype(bool, copy=False)
    h, w = mask.shape
    ys = np.flatnonzero(mask.any(1))
    y0, y1 = (int(ys[0]), int(ys[-1]) + 1) if len(ys) else (0, 0)
    xs = np.flatnonzero(mask[y0:y1].any(0))
    x0, x1 = (int(xs[0]), int(xs[-1]) + 1) if len(xs) else (0, 0)
    columns = np.zeros((x1 - x0, y1 - y0 + 2), np.int8)  # an empty pixel before and after each
    columns[:, 1:-1] = mask[y0:y1, x0:x1].T
    column, row = np.nonzero(np.diff(columns, axis=1))
    edges = (x0 + column) * h + y0 + row
    joined = np.flatnonzero(edges[1:-1:2] == edges[2::2])  # from a column's foot to the next's head
    edges = np.delete(edges, np.concatenate([2 * joined + 1, 2 * joined + 2]))
    counts = np.diff(edges, prepend=0, append=h * w)
    counts = counts[: len(counts) - int(len(edges) > 0 and edges[-1] == h * w)]
    return dict(coco_mask.frPyObjects({"size": [h, w], "counts": counts.tolist()}, h, w))


def _objects(result: Mapping[str, Any]) -> int:
    return sum(t["category"] == "object" for t in result["truth"])


def _truths(result: Mapping[str, Any], protocol: Protocol) -> list[dict[str, Any]]:
    out = []
    for one in result["truth"]:
        if one["category"] not in protocol.truth:
            continue
        label = protocol.truth[one["category"]]
        area = float(coco_mask.area(one["mask"]))
        x1, y1, x2, y2 = one["bbox"]
        out.append(
            {
                "category_id": label,
                "segmentation": one["mask"],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": _IGNORED_AREA if one["ignore"] else area,
                "iscrowd": int(one["crowd"]),
            }
        )
    return out


def _finds(result: Mapping[str, Any], protocol: Protocol, kind: str) -> list[dict[str, Any]]:
    out = []
    of_others = _finds_of(protocol.others, result, kind)
    for box, score, label, mask, other in zip(
        result["boxes"], result["scores"], result["labels"], result["masks"], of_others, strict=True
    ):
        if int(label) in protocol.found and not other:
            x1, y1, x2, y2 = map(float, box)
            area = (x2 - x1) * (y2 - y1) if kind == "box" else float(coco_mask.area(mask))
            out.append(
                {
                    "category_id": protocol.found[int(label)],
                    "score": float(score),
                    "segmentation": mask,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": area,
                    "iscrowd": 0,
                }
            )
    return out


def _finds_of(others: Sequence[str], result: Mapping[str, Any], kind: str) -> Any:
    """(N,) bool: whether a detection is one of `others` rather than anything else."""
    count = len(result["boxes"])
    if not (count and others):
        return np.zeros(count, bool)

    def best(truth: list[Mapping[str, Any]]) -> Any:
        """(N,): each detection's largest IoU with one of them, 0 without any."""
        if not truth:
            return np.zeros(count)
        if kind == "mask":
            pair = result["masks"], [t["mask"] for t in truth]
        else:
            pair = _xywh(result["boxes"]), _xywh([t["bbox"] for t in truth])
        return np.asarray(coco_mask.iou(*pair, [0] * len(truth))).max(1)

    to_other = best([t for t in result["truth"] if t["category"] in others])
    to_rest = best([t for t in result["truth"] if t["category"] not in others])
    return (to_other >= _OTHER_IOU) & (to_other > to_rest)


def _xywh(boxes: Any) -> Any:
    boxes = np.array(boxes, np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def _index(
    results: Sequence[Mapping[str, Any]], rows: Callable[[Mapping[str, Any]], list[dict[str, Any]]]
) -> Any:
    coco = COCO()
    annotations = [{**row, "image_id": i} for i, r in enumerate(results) for row in rows(r)]
    for number, row in enumerate(annotations, start=1):
        row["id"] = number
    coco.dataset = {
        "images": [{"id": i, "height": r["hw"][0], "width": r["hw"][1]}
                   for i, r in enumerate(results)],
        "annotations": annotations,
        "categories": [{"id": i} for i in range(max(map(class_count, CLASSES)))],
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
