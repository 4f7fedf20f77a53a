"""COCO's average precision, kept so that it is quick for any resample of the images.

The same numbers as pycocotools' `COCOeval` (area "all"): greedy matching per image and class by
score, precision at 101 recalls, its envelope from the right. Source: pycocotools cocoeval.py
(Lin et al., 2014, and the code since).

It is no share, though it lies between 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
THRESHOLDS: Vector = np.linspace(0.5, 0.95, 10, dtype=np.float64)
"""IoU from which a find is one of the truth, by level."""
RECALLS: Vector = np.linspace(0, 1, 101, dtype=np.float64)
LEVELS = len(THRESHOLDS)
_ONE = 1 - 1e-10  # COCO's: an IoU of 1 counts, whatever its last bits


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """Finds of one class in one image, best first, after matching.

    Attributes:
        scores: (N,) float64, descending.
        hits: (N,) uint16; bit `level`: is one of the truth at `THRESHOLDS[level]`.
        ignored: (N,) uint16; bit `level`: counts for nothing there.
        truths: how many instances are to be found.
    """

    scores: Vector
    hits: NDArray[np.uint16]
    ignored: NDArray[np.uint16]
    truths: int


def match(
    scores: Vector,
    ious: Vector,
    ignored: Sequence[bool],
    crowd: Sequence[bool],
    *,
    most: int = 100,
) -> Matched:
    """Match finds to the truth as COCO does, at all thresholds.

    The best find chooses first: of what is left, the instance with the largest IoU, the last of
    equals; one that is ignored only where no other will do. A crowd can be chosen again.

    Args:
        scores: (N,) of the finds; equal ones keep their order.
        ious: (N, M) of finds and truth; for a crowd, of the find's own area (`mask.iou`).
        ignored: (M,) instances that cost nothing, found or not; all crowds are.
        crowd: (M,) instances that stand for several.
        most: finds that count, the best.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="mergesort")[:most]
    last = np.argsort(np.asarray(ignored, np.bool_), kind="mergesort")  # of the truth
    rows = np.asarray(ious, np.float64).reshape(len(scores), len(ignored))[np.ix_(order, last)]
    may = rows >= THRESHOLDS[0]
    candidates = [
        (i, [(int(g), float(rows[i, g])) for g in np.flatnonzero(may[i])])
        for i in np.flatnonzero(may.any(1))
    ]
    free = [bool(ignored[g]) for g in last]
    many = [bool(crowd[g]) for g in last]
    hits, spared = np.zeros(len(order), np.uint16), np.zeros(len(order), np.uint16)
    for level, threshold in enumerate(THRESHOLDS.tolist()):
        taken: set[int] = set()
        for row, choices in candidates:
            found = _choose(choices, taken, free, many, min(threshold, _ONE))
            if found is not None:
                taken.add(found)
                (spared if free[found] else hits)[row] |= np.uint16(1 << level)
    return Matched(
        np.asarray(scores, np.float64)[order], hits, spared, len(free) - sum(map(bool, free))
    )


def _choose(
    choices: list[tuple[int, float]],
    taken: set[int],
    free: list[bool],
    many: list[bool],
    threshold: float,
) -> int | None:
    found, best = None, threshold
    for g, iou in choices:
        if g in taken and not many[g]:
            continue
        if found is not None and free[g] and not free[found]:
            break
        if iou >= best:
            found, best = g, iou
    return found


class Ranking:
    """All finds of one class, best first, over many images.

    Args:
        matched: of each image, in order; None: there is none of the class, or it is left out.
        levels: how many of `THRESHOLDS` will be asked for.
    """

    def __init__(self, matched: Sequence[Matched | None], *, levels: int = LEVELS) -> None:
        units = np.repeat(
            np.arange(len(matched)), [0 if m is None else len(m.scores) for m in matched]
        )
        there = [m for m in matched if m is not None]
        scores = np.concatenate([m.scores for m in there] or [np.zeros(0)])
        order = np.argsort(-scores, kind="mergesort")
        self.scores: Vector = scores[order]
        self.unit: NDArray[np.intp] = units[order]
        self.truths = np.array([0 if m is None else m.truths for m in matched], np.int64)
        none = [np.zeros(0, np.uint16)]
        hits = np.concatenate([m.hits for m in there] or none)[order]
        spared = np.concatenate([m.ignored for m in there] or none)[order]
        bits = [np.uint16(1 << level) for level in range(levels)]
        self.hits = [np.flatnonzero(hits & bit) for bit in bits]
        self.ignored = [np.flatnonzero(spared & bit) for bit in bits]
        # How many ignored finds stand before each hit.
        self._before = [np.searchsorted(i, h) for i, h in zip(self.ignored, self.hits, strict=True)]

    def precision(
        self, counts: NDArray[np.int64] | None = None, levels: Sequence[int] = range(LEVELS)
    ) -> Vector:
        """Precision at `RECALLS`, its envelope.

        Of equally scored finds of several images, the earlier image's count first, as in COCO.

        Args:
            counts: (U,) how often each image counts; None: once.
            levels: of `THRESHOLDS`.

        Returns:
            (levels, 101) float64; NaN where there is nothing to find.
        """
        if counts is None:
            counts = np.ones(len(self.truths), np.int64)
        truths = int(counts @ self.truths)
        out = np.zeros((len(levels), len(RECALLS)))
        if not truths:
            return out + np.nan
        weights = counts.take(self.unit)
        finds = np.cumsum(weights)
        for row, level in zip(out, levels, strict=True):
            # Precision falls at what is no hit, so its envelope has its corners at hits: only
            # these are looked at.
            hits, ignored = self.hits[level], self.ignored[level]
            right, said = np.cumsum(weights.take(hits)), finds.take(hits)
            if len(ignored):
                spared = np.concatenate([[0], np.cumsum(weights.take(ignored))])
                said = said - spared.take(self._before[level])
            at = np.searchsorted(right / truths, RECALLS, side="left")
            at = at[at < len(hits)]
            if len(at):
                best = np.maximum.reduceat(right / np.maximum(said, 1), at)
                row[: len(at)] = np.maximum.accumulate(best[::-1])[::-1]
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """What is left of all finds from one score on, at IoU .5.

    Attributes:
        threshold: the lowest score that is left; inf: there are no finds.
        hits: (U,) int64, how many of each image's finds are right.
        finds: (U,) int64, how many each image has, the ignored left out.
        truths: (U,) int64, how many are to be found.
    """

    threshold: float
    hits: NDArray[np.int64]
    finds: NDArray[np.int64]
    truths: NDArray[np.int64]


def counted(rankings: Sequence[Ranking]) -> tuple[Vector, NDArray[np.bool_], NDArray[np.intp]]:
    """All finds of some classes at IoU .5, best first, the ignored left out.

    Args:
        rankings: the classes; over the same images.

    Returns:
        scores (N,), descending; whether each is right (N,); its image (N,).
    """
    scores, right, unit = [], [], []
    for r in rankings:
        hit, counts = np.zeros(len(r.scores), np.bool_), np.ones(len(r.scores), np.bool_)
        hit[r.hits[0]], counts[r.ignored[0]] = True, False
        scores.append(r.scores[counts])
        right.append(hit[counts])
        unit.append(r.unit[counts])
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    return (
        np.concatenate(scores)[order],
        np.concatenate(right)[order],
        np.concatenate(unit)[order],
    )


def best_cut(rankings: Sequence[Ranking]) -> Cut:
    """Cut all finds at the one score that has the best F1 over all images and classes.

    Args:
        rankings: the classes; over the same images.
    """
    scores, right, unit = counted(rankings)
    truths = np.sum([r.truths for r in rankings], axis=0)
    units = len(truths)
    if not len(scores):
        none = np.zeros(units, np.int64)
        return Cut(math.inf, none, none, truths)
    f1 = 2 * np.cumsum(right) / (np.arange(1, len(scores) + 1) + truths.sum())
    f1[:-1][np.diff(scores) == 0] = -1  # no cut between equals
    kept = slice(int(np.argmax(f1)) + 1)
    return Cut(
        float(scores[kept][-1]),
        np.bincount(unit[kept][right[kept]], minlength=units),
        np.bincount(unit[kept], minlength=units),
        truths,
    )


def mean_precision(rankings: Sequence[Vector]) -> Vector:
    """Mean over classes, those left out that have nothing to find.

    Args:
        rankings: (levels, 101) of each class, as `Ranking.precision` gives them.

    Returns:
        (levels, 101); NaN if no class has anything to find.
    """
    there = [p for p in rankings if not np.isnan(p).any()]
    if not there:
        return np.full_like(rankings[0], np.nan)
    return np.asarray(np.mean(there, axis=0), np.float64)
