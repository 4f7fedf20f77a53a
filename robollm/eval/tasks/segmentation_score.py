"""Scoring segmentation: records of instances to average precision, curves, and the worst images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from robollm.eval.figures import Cell, Curve, Section, Table, Worst
from robollm.eval.records import Json, SegmentationRecord
from robollm.eval.tasks.scored import Notes, Scored, diagram, no_answer, worst
from robollm.eval.tasks.training import learned_from
from robollm.metrics.average_precision import RECALLS
from robollm.metrics.bootstrap import Interval
from robollm.metrics.calibration import ReliabilityTally
from robollm.metrics.grouped import Grouped
from robollm.metrics.instances import FULL, PROTOCOLS, ImageResult, InstanceTally, Truth
from robollm.metrics.joined import Joined
from robollm.metrics.tally import Tally

MAIN = "object_only_mask_mAP50"
"""By this the worst images and the reliability of scores are found."""
_LABELS: dict[str, dict[str, int]] = {"two": {"tote": 0, "object": 1}, "agnostic": {}, "object": {}}


def score(
    records: Iterable[SegmentationRecord], card: Json, subset: str, *, task: str = "segmentation"
) -> Scored:
    """Count the instances of a stream.

    Args:
        records: of one stream; read once, one at a time.
        card: of the run.
        subset: of the data.
        task: of the section.

    Raises:
        EvalError: if an image comes twice.
    """
    notes, seen = Notes(), _Seen()
    classes = str(card["predictor"].get("classes", "agnostic"))
    results = (result(r, classes) for r in seen.of(notes.of(records)))
    tally = InstanceTally(results, PROTOCOLS[classes], full=FULL)
    scores, right, unit = tally.instances(MAIN)
    held = None
    if len(scores):
        held = ReliabilityTally(scores, right, [tally.units[u] for u in unit])
    whole: Tally = Joined([tally, held]) if held else tally
    shared = any(seen.scenes.values())
    if shared:
        whole = Grouped(whole, seen.scenes)

    def section(figures: Mapping[str, Interval]) -> Section:
        curves = _curves(tally, list(PROTOCOLS[classes]))
        if held is not None:
            curves["reliability"] = diagram(held, "instances, found at IoU .5")
        made = Section(
            task=task,
            subset=subset,
            split=card["data"]["split"],
            protocol=_protocol(card, classes, subset, task),
            samples=notes.samples,
            units=len(whole.units),
            unit="scene" if shared else "image",
            figures=figures,
            curves=curves,
            tables={"objects": seen.by_objects(figures), "sizes": seen.size_table()},
            counts={**seen.counts, "images": notes.samples},
            worst=worst(_worst(tally, seen)),
        )
        return notes.complete(made)

    return Scored(whole, section)


def result(record: SegmentationRecord, classes: str) -> ImageResult:
    """A record as the metrics take it; without an answer nothing is found.

    Args:
        record: of one image.
        classes: how the instance labels were made, a key of `PROTOCOLS`.
    """
    labels = _LABELS[classes]
    other = max(labels.values(), default=-1) + 1
    found = [] if record.error else record.found
    return ImageResult(
        record.key,
        [
            Truth(
                t["category"],
                t["bbox"],
                _packed(t["segmentation"]),
                bool(t["iscrowd"]),
                bool(t.get("ignore")),
            )
            for t in record.truth
        ],
        np.array([f["bbox"] for f in found], np.float64).reshape(-1, 4),
        np.array([f["score"] for f in found], np.float64),
        np.array([labels.get(f["category"], other) for f in found], np.int64),
        [_packed(f["segmentation"]) for f in found],
    )


def _packed(rle: Json) -> Json:
    return {"size": rle["size"], "counts": rle["counts"].encode("ascii")}


class _Seen:
    """What passes by beside the masks."""

    def __init__(self) -> None:
        self.sizes: Counter[str] = Counter()
        self.objects: Counter[int] = Counter()
        self.errors: dict[str, str] = {}
        self.scenes: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def of(self, records: Iterable[SegmentationRecord]) -> Iterator[SegmentationRecord]:
        for one in records:
            self.sizes[f"{one.hw[1]}x{one.hw[0]}"] += 1
            self.scenes[one.key] = one.scene
            kinds = Counter(t["category"] for t in one.truth)
            self.objects[kinds["object"]] += 1
            self.counts["instances"] += len(one.truth)
            self.counts["instances_of_other_categories"] += kinds["other"]
            self.counts["ignored_instances"] += sum(bool(t.get("ignore")) for t in one.truth)
            self.counts["crowds"] += sum(t["iscrowd"] for t in one.truth)
            self.counts["finds"] += len(one.found)
            self.counts["images_without_truth"] += not one.truth
            self.counts["images_without_finds"] += not one.found
            if one.error is not None:
                self.errors[one.key] = no_answer(one)
            yield one

    def by_objects(self, figures: Mapping[str, Interval]) -> Table:
        rows: list[tuple[Cell, ...]] = []
        for name, interval in figures.items():
            if not name.startswith(f"{MAIN}_"):
                continue
            group = name.removeprefix(f"{MAIN}_")
            low, _, high = group.removesuffix("+").partition("-")
            last = int(high) if high else (10**9 if group.endswith("+") else int(low))
            images = sum(n for objects, n in self.objects.items() if int(low) <= objects <= last)
            rows.append((group, images, interval.value, interval.low, interval.high))
        note = "Objects in the image, and the mAP50 of these images' masks, objects only."
        return Table(("objects", "images", "mAP50", "low", "high"), tuple(rows), note)

    def size_table(self) -> Table:
        rows = tuple((size, n) for size, n in self.sizes.most_common())
        return Table(("size, px", "images"), rows, "Sizes of the images.")


def _curves(tally: InstanceTally, protocols: Iterable[str]) -> dict[str, Curve]:
    recall = tuple(RECALLS.tolist())
    out = {}
    for protocol in protocols:
        for level in ("50", "75"):
            name = f"{protocol}_mask_mAP{level}"
            line = tuple(tally.curve(name).tolist())
            label = f"{protocol.replace('_', ' ')}, mask, IoU .{level}"
            out[f"pr_{name}"] = Curve("pr", recall, line, "recall", "precision", label)
    return out


def _worst(tally: InstanceTally, seen: _Seen) -> Iterator[Worst]:
    cut = tally.at_best(MAIN)
    for row, key in enumerate(tally.units):
        hits, finds, truths = int(cut.hits[row]), int(cut.finds[row]), int(cut.truths[row])
        missed, false = truths - hits, finds - hits
        f1 = 2 * hits / (finds + truths) if finds + truths else 1.0
        if key in seen.errors:
            badness = float(np.log1p(max(truths, 1)))
            yield Worst(key, badness, seen.errors[key], {"outcome": "no answer"})
        elif missed or false:
            # The more mistakes, the worse: an image of one object is not the worst of all.
            badness = (1 - f1) * float(np.log1p(missed + false))
            yield Worst(
                key,
                badness,
                f"Of {truths} objects {missed} missed; of {finds} finds {false} false, "
                f"at scores from {cut.threshold:.2f} (IoU .5).",
                {"outcome": _outcome(missed, false), "threshold": float(cut.threshold)},
            )


def _outcome(missed: int, false: int) -> str:
    if not false:
        return "missed instances"
    if not missed:
        return "false finds"
    return "missed and false"


def _protocol(card: Json, classes: str, subset: str, task: str) -> str:
    settings = card.get("settings", {})
    masks = settings.get("masks", "polygons")
    told = {
        "two": "a model of two classes: two_class is the devkit's mean over Tote and Object",
        "agnostic": "a model of one class for all: class_agnostic is RoboLLM's way; for "
        "object_only what it finds of a tote is taken out",
        "object": "a model of objects alone",
    }
    words = [
        "COCO average precision (area all, 100 finds per image)",
        f"truth as {masks}",
        told[classes],
    ]
    if settings.get("min_area"):
        words.append(f"instances below {settings['min_area']:g} px cost nothing")
    if settings.get("min_visibility"):
        words.append(
            f"those of which less than {settings['min_visibility']:.0%} shows cost nothing"
        )
    if task != "station":
        words.append(learned_from(card, "segmentation", subset))
    return "; ".join(words)
