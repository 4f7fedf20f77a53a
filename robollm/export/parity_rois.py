"""The detector's outputs next to MMDetection's, without depending on how near-ties fall."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.export.reference import Array, Candidates, Found, TorchModels

Outputs = Mapping[str, NDArray[Any]]
Note = Callable[[str, float], None]
_CANDIDATES = ("candidates", "candidate_scores", "candidate_levels")
_SAME_PX, _SAME_SCORE = 0.5, 0.01  # two instances are one: for the whole chain
_FAR_PX = 1.0  # more than this, and a box comes from another candidate


def check_candidates(
    torch: TorchModels, levels: Sequence[Array], made: Outputs, note: Note, tie: float
) -> None:
    """Every candidate must be an anchor of MMDetection's, and what its RPN proposes among them.

    Args:
        torch: the models.
        levels: torch's pyramid.
        made: outputs of the graph `proposals`.
        note: takes distances.
        tie: a proposal is excused if its score is so near to the last candidate's of a level: both
            cut at a number of boxes.
    """
    have, rank, level = (made[k] for k in _CANDIDATES)
    for number, (anchors, values) in enumerate(torch.anchors(levels)):
        mine = (level == number) & (rank >= 0)
        order = np.argsort(values, kind="stable")
        for box, score in zip(have[mine], rank[mine], strict=True):
            low, high = np.searchsorted(values, (score - tie, score + tie), sorter=order)
            near = order[max(min(low, high - 1), 0) : high + 1]
            far = np.abs(anchors[near] - box).max(1)
            place = int(np.argmin(far))
            note("proposals.candidates", float(far[place]))
            note("proposals.candidate_scores", float(abs(values[near[place]] - score)))
    boxes, scores = torch.proposals(levels)
    lowest = [float(rank[(level == i) & (rank >= 0)].min(initial=1.0)) for i in np.unique(level)]
    for box, score in zip(boxes, scores, strict=True):
        far = np.abs(have - box).max(1) if len(have) else np.array([math.inf])
        # Of boxes in one place the one with the nearest score.
        place = int(np.argmin(far + np.abs(rank - score)))
        if far[place] > _FAR_PX and any(abs(score - low) <= tie for low in lowest):
            continue
        note("proposals.candidates", float(far[place]))
        note("proposals.candidate_scores", float(abs(rank[place] - score)))
    note("proposals.candidates", 0.0)
    note("proposals.candidate_scores", 0.0)


def check_instances(
    torch: TorchModels,
    levels: Sequence[Array],
    made: Outputs,
    found: Outputs,
    proposals: int,
    note: Note,
) -> None:
    """Every instance must be what MMDetection's heads make of one of the candidates.

    Args:
        torch: the models.
        levels: torch's pyramid, on which the graph `rois` ran, too.
        made: outputs of the graph `proposals`.
        found: outputs of the graph `rois`.
        proposals: how many candidates it kept.
        note: takes distances.
    """
    boxes, scores, labels = found["boxes"], found["scores"], found["labels"]
    candidates = Candidates(*(made[k] for k in _CANDIDATES))
    rows = torch.classify(levels, candidates, proposals)
    apart = _nearest(rows, boxes, scores, labels)
    others = np.flatnonzero(apart[:, 0] > _FAR_PX)
    if len(others):  # the graph's suppression may have kept a candidate that torch's did not
        near = _touching(candidates.boxes, boxes[others])
        rows = torch.classify(levels, Candidates(*(c[near] for c in candidates)), 0)
        apart[others] = _nearest(rows, boxes[others], scores[others], labels[others])
    note("rois.boxes", float(apart[:, 0].max(initial=0.0)))
    note("rois.scores", float(apart[:, 1].max(initial=0.0)))
    wanted = torch.masks(levels, boxes, labels)
    if wanted.shape != found["masks"].shape:
        note("rois.masks", math.inf)
    else:
        note("rois.masks", float(np.abs(found["masks"] - wanted).max(initial=0.0)))


def _nearest(
    rows: tuple[Array, Array], boxes: Array, scores: Array, labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Distance of each instance to the nearest of torch's rows: (n, 2), px and score."""
    out = np.full((len(boxes), 2), math.inf, np.float64)
    have, rank = rows
    for i in range(len(boxes)):
        label = int(labels[i])
        if not len(have) or label >= rank.shape[1]:
            continue
        own = have[:, min(label, have.shape[1] - 1)]
        px, score = np.abs(own - boxes[i]).max(1), np.abs(rank[:, label] - scores[i])
        place = int(np.argmin(px + 10 * score))
        out[i] = px[place], score[place]
    return out


def _touching(candidates: Array, boxes: Array) -> NDArray[np.intp]:
    """Candidates that overlap any of the boxes."""
    low = np.maximum(candidates[:, None, :2], boxes[None, :, :2])
    high = np.minimum(candidates[:, None, 2:], boxes[None, :, 2:])
    both = np.asarray((high > low).all(2))
    return np.flatnonzero(both.any(1))


def share_lost(want: Found, found: Outputs) -> tuple[int, int]:
    """Instances of one side that the other lacks, and the instances of both sides.

    Two are one if box, score and label agree, far more loosely than the single outputs must.
    """
    boxes, scores, labels = found["boxes"], found["scores"], found["labels"]
    total = len(want.boxes) + len(boxes)
    if not len(want.boxes) or not len(boxes):
        return total, total
    same = (
        (np.abs(want.boxes[:, None] - boxes[None]).max(2) <= _SAME_PX)
        & (np.abs(want.scores[:, None] - scores[None]) <= _SAME_SCORE)
        & (want.labels[:, None] == labels[None])
    )
    return int((~same.any(1)).sum() + (~same.any(0)).sum()), total
