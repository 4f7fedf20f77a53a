"""From which score on an instance is published: the best F1 at IoU .5, or a wanted precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import CalibrationError
from robollm.eval.records import SEGMENTATION, Json, SegmentationRecord
from robollm.eval.run_folder import RunFolder
from robollm.eval.tasks.segmentation_score import MAIN, result
from robollm.eval.thresholds.parts import Chosen, Mask, Shares, Wish, between, first_half
from robollm.metrics.instances import PROTOCOLS, ImageResult, InstanceTally
from robollm.metrics.tally import Vector

LEAST = 20
"""Images with something to find: fewer choose nothing."""
_OBJECTS = MAIN.partition("_mask")[0]


@dataclass(frozen=True, slots=True, eq=False)
class Finds:
    """All finds that count, best first, and what there was to find.

    Attributes:
        images: names of the images.
        scenes: name of the scene of each, its own if it stands alone.
        subsets: the subset of each.
        truths: (U,) instances of each.
        scores: (N,) float64, descending.
        right: (N,) bool, at IoU .5.
        image: (N,) each find's place in `images`.
        no_answer: images whose record has an error: nothing is found there.
    """

    images: tuple[str, ...]
    scenes: tuple[str, ...]
    subsets: tuple[str, ...]
    truths: NDArray[np.int64]
    scores: Vector
    right: NDArray[np.bool_]
    image: NDArray[np.intp]
    no_answer: int


def finds_of(run: RunFolder) -> Finds | None:
    """Match a run's instances, all subsets together; None: it has none.

    Raises:
        EvalError: for a record that can't be understood.
    """
    streams = [s for s in run.streams if s.startswith(SEGMENTATION)]
    if not streams:
        return None
    classes = str(run.card["predictor"].get("classes", "agnostic"))
    failed = 0
    scenes: dict[str, str] = {}

    def results() -> Iterator[ImageResult]:
        nonlocal failed
        for stream in streams:
            for record in run.records(stream):
                assert isinstance(record, SegmentationRecord)
                failed += record.error is not None
                one = result(record, classes)
                key = f"{stream}/{one.key}"
                scenes[key] = f"{stream}/scene {record.scene}" if record.scene else key
                yield replace(one, key=key)

    protocols = {_OBJECTS: PROTOCOLS[classes][_OBJECTS]}
    tally = InstanceTally(results(), protocols, kinds=("mask",), groups=())
    scores, right, image = tally.instances(MAIN)
    subsets = tuple(u.split("/")[1] for u in tally.units)
    truths = tally.at_best(MAIN).truths
    shared = tuple(scenes[u] for u in tally.units)
    return Finds(tally.units, shared, subsets, truths, scores, right, image, failed)


def choose(finds: Finds, images: Mask, wish: Wish) -> float:
    """The score from which on finds are published.

    Args:
        finds: see `finds_of`.
        images: (U,) those that may be looked at.
        wish: `mask_precision` counts.

    Raises:
        CalibrationError: nothing right was found there, or no score has the wanted precision.
    """
    mine = images[finds.image]
    scores, right = finds.scores[mine], finds.right[mine]
    found, count = np.cumsum(right), np.arange(1, len(scores) + 1)
    if not len(scores) or not found[-1]:
        raise CalibrationError(
            f"none of {len(scores)} finds in {int(images.sum())} images is right",
            fix="train longer, or choose score_min yourself with robollm export --thresholds",
        )
    last = np.append(np.diff(scores) < 0, True)  # no cut between equals
    if wish.mask_precision:
        good = np.flatnonzero(last & (found / count >= wish.mask_precision) & (found > 0))
        if not len(good):
            best = float((found / count)[last].max())
            raise CalibrationError(
                f"no score has a precision of {wish.mask_precision:g}: the best one has {best:.3f}",
                fix="ask for less with --mask-precision, or leave it out for the best F1",
            )
        at = int(good[-1])
    else:
        f1 = 2 * found / (count + finds.truths[images].sum())
        at = int(np.argmax(np.where(last, f1, -1.0)))
    below = float(scores[at + 1]) if at + 1 < len(scores) else 0.0
    return between(below, float(scores[at]))


def shares(finds: Finds, images: Mask, cut: Vector) -> Shares:
    """Precision, recall and F1 of some images.

    Args:
        finds: see `finds_of`.
        images: (U,) those that count.
        cut: (U,) the score from which on an image's finds are published.
    """
    left = finds.scores >= cut[finds.image]
    count = len(finds.images)
    said = np.bincount(finds.image[left], minlength=count)
    hits = np.bincount(finds.image[left & finds.right], minlength=count)
    rows = np.flatnonzero(images)
    parts = {
        "precision": (hits[rows], said[rows]),
        "recall": (hits[rows], finds.truths[rows]),
        "f1": (2 * hits[rows], (said + finds.truths)[rows]),
    }
    return Shares([finds.scenes[i] for i in rows], parts)


def calibrate(run: RunFolder, before: Json, wish: Wish) -> Chosen:
    """Choose `score_min`.

    Args:
        run: whose records tell.
        before: `thresholds` of the bundle that answered.
        wish: what to keep to.

    Raises:
        CalibrationError: a wanted precision can't be had.
        EvalError: for a record that can't be understood.
    """
    finds = finds_of(run)
    if finds is None:
        return Chosen(kept={"score_min": "the run has no segmentation"})
    every = np.ones(len(finds.images), np.bool_)
    record: Json = {
        "images": len(finds.images),
        "scenes": len({*finds.scenes}),
        "images_by_subset": {s: finds.subsets.count(s) for s in sorted({*finds.subsets})},
        "images_without_answer": finds.no_answer,
        "instances": int(finds.truths.sum()),
        "finds": len(finds.scores),
        "counted": "masks of objects at IoU .5, at most 100 finds per image",
        "by": f"precision of {wish.mask_precision:g} or more" if wish.mask_precision else "best F1",
    }
    useful = int((finds.truths > 0).sum())
    if useful < LEAST:
        why = f"{useful} images have something to find, want {LEAST}"
        return Chosen(kept={"score_min": why}, loud=(f"score_min: {why}",), record=record)
    first = first_half(finds.scenes, finds.subsets, wish.seed)
    try:
        value = choose(finds, every, wish)
        sides = [choose(finds, half, wish) for half in (first, ~first)]
    except CalibrationError as e:
        if wish.mask_precision:
            raise
        return Chosen(
            kept={"score_min": e.what}, loud=(f"score_min stays: {e.what}",), record=record
        )

    def told(cuts: Vector) -> Json:
        return shares(finds, every, cuts).told(wish)

    old = float(before["segmentation"]["score_min"])
    record |= {
        "held_out": told(np.where(first, sides[1], sides[0])),
        "held_out_values": [{"score_min": side} for side in sides],
        "on_all": told(np.full(len(every), value)),
        "before": {"score_min": old, **told(np.full(len(every), old))},
    }
    return Chosen(values={"score_min": value}, record=record)
