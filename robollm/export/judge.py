"""What a bundle is worth: the metrics of training, measured through the runtime that will serve it.

Pre- and post-processing are the product's: pictures go into a `Perceiver` as a node would give
them. Queries of a variant search the gallery of the reference, as they will.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count as counting
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from robollm.core.detections import Detections
from robollm.core.errors import ConfigError
from robollm.core.frame import Frame
from robollm.core.fuse import our_views
from robollm.data.armbench_defects import LABELS, NOMINAL
from robollm.export.collect import Collected
from robollm.export.split_data import Rgb, SplitData
from robollm.metrics.instances import PROTOCOLS
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region
from robollm.train.defects.metric import DefectMetric
from robollm.train.detector.metric import InstanceMetric
from robollm.train.identification.metric import RetrievalMetric

DEFECTS = tuple(label for label in LABELS if label != NOMINAL)
_BATCH = 16
_STAMPS = counting(1)
"""No two frames are one to the runtime's memory of features."""
_MOST = 100  # instances per image, as in the metric
T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Metrics of one variant.

    Attributes:
        metrics: name with task and protocol -> value, 0 to 1.
        samples: task -> how many samples it was measured on.
        cases: of a metric that is one defect's recall: how many samples have that defect, or 0,
            and then the metric isn't there.
    """

    metrics: Mapping[str, float]
    samples: Mapping[str, int]
    cases: Mapping[str, int] = field(default_factory=dict)

    def loss_of(self, other: Verdict) -> dict[str, float]:
        """Points of 100 that the other one has less than this one, by metric; gains are < 0."""
        return {k: round(100 * (v - other.metrics[k]), 3) for k, v in self.metrics.items()}


class _Recall(RetrievalMetric):
    default_prefix = ""  # none, and no warning about it


class _Defects(DefectMetric):
    default_prefix = ""


class Judge:
    """Measures bundles on one split; the first must be the reference.

    Args:
        data: the pictures.
        parts: says what was trained.
        say: takes a line now and then.
    """

    def __init__(self, data: SplitData, parts: Collected, say: Say = lambda text: None) -> None:
        self._data, self._say = data, say
        self._classes, self._frames = str(parts.detector.classes), parts.frames
        self._gallery: list[dict[str, Any]] = []
        self._recalls: dict[str, float] = {}
        self._cases: dict[str, int] = {}

    def measure(self, perceiver: Perceiver, name: str) -> Verdict:
        """Measure a bundle, all tasks.

        Args:
            perceiver: runs it.
            name: of the variant, for the lines that are said.

        Raises:
            ConfigError: there is nothing to measure on, or to find.
            InferenceError: a model fails.
        """
        metrics: dict[str, float] = {}
        samples: dict[str, int] = {}
        steps = {
            "segmentation": self._segmentation,
            "identification": self._identification,
            "defects": self._defects,
        }
        for task, measure in steps.items():
            metric, value, count = measure(perceiver)
            if not math.isfinite(value):
                raise ConfigError(
                    f"{task}/{metric} can't be measured: split {self._data.split} has {count} "
                    "samples, and no truth among them",
                    fix="judge on more pictures, or on another split",
                )
            metrics[f"{task}/{metric}"] = value
            samples[task] = count
            self._say(f"{name}: {task}/{metric} {value:.4f} on {count}")
        return Verdict({**metrics, **self._recalls}, samples, self._cases)

    def _segmentation(self, perceiver: Perceiver) -> tuple[str, float, int]:
        metric = InstanceMetric(self._classes, kinds=("mask",))
        for tote in self._data.totes():
            found = perceiver.segment(_frame(tote.rgb), score_min=0.0, max_instances=_MOST)
            metric.process(None, [{**tote.truth, "pred_instances": as_predicted(found)}])
        name = f"{next(iter(PROTOCOLS[self._classes]))}_mask_mAP50"
        return name, metric.compute_metrics(metric.results)[name], len(metric.results)

    def _identification(self, perceiver: Perceiver) -> tuple[str, float, int]:
        if not self._gallery:
            for some in _batches(self._data.references()):
                vectors = perceiver.embed([_region(rgb) for _, rgb in some])
                self._gallery += [
                    {**about, "embedding": v} for (about, _), v in zip(some, vectors, strict=True)
                ]
        metric = _Recall(at=(1,), galleries=("container",), protocols=("product",))
        metric.process(None, self._gallery)
        count = 0
        for picks in _batches(self._data.picks()):
            rest = iter(queries(perceiver, [p.views for p in picks if p.views]))
            found = [{**p.about, **({"embedding": next(rest)} if p.views else {})} for p in picks]
            metric.process(None, found)
            count += len(picks)
        name = "recall@1_container"
        return name, metric.compute_metrics(metric.results)[name], count

    def _defects(self, perceiver: Perceiver) -> tuple[str, float, int]:
        metric = _Defects()
        count = 0
        several = self._frames > 1
        for inducts in _batches(self._data.inducts()):
            regions = [[_region(f) for f in one.frames] for one in inducts]
            rows = iter(_in_order(perceiver.inspect([r for some in regions for r in some])))
            for one, some in zip(inducts, regions, strict=True):
                each = np.stack([next(rows) for _ in some])
                whole = each[0]
                if "defects_sequence" in perceiver.bundle.graphs:
                    like = None if one.reference is None else _region(one.reference)
                    (whole,) = _in_order([perceiver.inspect_sequence(some, reference=like)])
                judged = {
                    "probabilities": whole,
                    "frame_probabilities": each if several else whole[None],
                    "sequence": several,
                }
                metric.process(None, [{**one.about, **judged}])
            count += len(inducts)
        kind = "sequence_" if several else ""
        figures = metric.compute_metrics(metric.results)
        truth = [LABELS[one["label"]] for one in metric.results]
        self._cases = {f"defects/{kind}{d}_recall": truth.count(d) for d in DEFECTS}
        self._recalls = {
            name: figures[name.partition("/")[2]] for name, n in self._cases.items() if n
        }
        return f"{kind}mean_recall", figures[f"{kind}mean_recall"], count


def queries(perceiver: Perceiver, picks: Sequence[Mapping[str, Rgb]]) -> NDArray[np.float32]:
    """Embed picks as `identify_pick` does, each from the views that are there.

    Args:
        perceiver: runs the bundle.
        picks: ARMBench's name of a view -> picture, at least one each.

    Returns:
        (N, D) float32, unit length.
    """
    if not perceiver.fused_views:  # trained on one view
        return perceiver.embed([_region(next(iter(views.values()))) for views in picks])
    vectors = np.zeros((len(picks), perceiver.bundle.embedding_dim), np.float32)
    for row, views in zip(vectors, picks, strict=True):
        names = our_views(tuple(views))
        regions = [_region(rgb) for rgb in views.values()]
        row[:] = perceiver.embed_views(dict(zip(names, regions, strict=True)))
    return vectors


def as_predicted(found: Detections) -> dict[str, Any]:
    """Instances in source px as `InstanceMetric` takes them."""
    masks = [m.full(found.hw) for m in found.masks]
    return {
        "bboxes": found.boxes,
        "scores": found.scores,
        "labels": found.labels,
        "masks": np.stack(masks) if masks else np.zeros((0, *found.hw), np.bool_),
    }


def _in_order(found: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    """Probabilities by name to rows in the order of `LABELS`."""
    return np.array([[p[name] for name in LABELS] for p in found], np.float64)


def _region(rgb: Rgb) -> Region:
    return Region(_frame(rgb))


def _frame(rgb: Rgb) -> Frame:
    return Frame(rgb, "rgb", stamp_ns=next(_STAMPS))


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, _BATCH)):
        yield some
