"""What was found in one image against the truth: overlaps, once for all protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from robollm.core.errors import EvalError
from robollm.metrics.average_precision import Matched, Vector, match

_OTHER_IOU = 0.5  # COCO's lowest threshold: below it nothing counts as found


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """One annotated instance.

    Attributes:
        category: "tote", "object" or "other".
        box: (x, y, width, height), source px.
        mask: COCO's compressed run lengths.
        crowd: whether it stands for several that were not told apart: costs nothing.
        ignore: whether it costs nothing, found or not.
    """

    category: str
    box: Sequence[float]
    mask: Mapping[str, Any]
    crowd: bool = False
    ignore: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ImageResult:
    """The truth of one image, and what was found in it; nothing, if there is no prediction.

    Attributes:
        key: names the image, once.
        truth: the instances.
        boxes: (N, 4) x, y, width, height, source px.
        scores: (N,), in any order.
        labels: (N,) int, as `Protocol.found` knows them.
        masks: N of COCO's compressed run lengths.
    """

    key: str
    truth: Sequence[Truth]
    boxes: NDArray[Any]
    scores: NDArray[Any]
    labels: NDArray[Any]
    masks: Sequence[Mapping[str, Any]]

    def __post_init__(self) -> None:
        """Raise `ValueError` if the parts don't belong together."""
        n = len(self.masks)
        shapes = self.boxes.shape, self.scores.shape, self.labels.shape
        if shapes != ((n, 4), (n,), (n,)):
            raise ValueError(f"boxes, scores, labels are {shapes} for {n} masks")


class Wanted(NamedTuple):
    """One class of one protocol, of one kind; several protocols may have the same."""

    kind: str
    truth: frozenset[str]
    found: frozenset[int]
    others: frozenset[str]


class Overlap:
    """IoU of everything found in one image with everything there, for all protocols."""

    def __init__(self, result: ImageResult, kind: str) -> None:
        self._result = result
        shape = len(result.boxes), len(result.truth)
        found: Any = list(result.masks)
        truth: Any = [t.mask for t in result.truth]
        if kind == "box":
            found = np.array(result.boxes, np.float64)
            truth = np.array([t.box for t in result.truth], np.float64).reshape(-1, 4)
        else:
            _check_sizes(result.key, [*found, *truth])

        def ious(crowd: Sequence[bool]) -> Vector:
            if not all(shape):
                return np.zeros(shape)
            return np.asarray(coco_mask.iou(found, truth, list(map(int, crowd))), np.float64)

        self._crowd = [t.crowd for t in result.truth]
        self._plain = ious([False] * shape[1])
        self._ious = ious(self._crowd) if any(self._crowd) else self._plain

    def matched(self, one: Wanted, most: int) -> Matched | None:
        """Match one class; None: there is none of it, found or not."""
        result = self._result
        truth = np.flatnonzero([t.category in one.truth for t in result.truth])
        keep = np.isin(result.labels, list(one.found)) & ~self._of(one.others)
        found = np.flatnonzero(keep)
        if not len(truth) and not len(found):
            return None
        return match(
            np.asarray(result.scores, np.float64)[found],
            self._ious[np.ix_(found, truth)],
            [result.truth[i].ignore or self._crowd[i] for i in truth],
            [self._crowd[i] for i in truth],
            most=most,
        )

    def _of(self, others: frozenset[str]) -> NDArray[np.bool_]:
        """(N,) whether a find is one of `others` rather than anything else."""
        other = np.array([t.category in others for t in self._result.truth], np.bool_)
        to_other = self._plain[:, other].max(1, initial=0.0)
        to_rest = self._plain[:, ~other].max(1, initial=0.0)
        return np.asarray((to_other >= _OTHER_IOU) & (to_other > to_rest), np.bool_)


def _check_sizes(key: str, masks: Sequence[Mapping[str, Any]]) -> None:
    """Pycocotools says -1 of masks of two sizes, without a word."""
    sizes = {tuple(m["size"]) for m in masks}
    if len(sizes) > 1:
        raise EvalError(
            f"image {key} has masks of {' and '.join(f'{h}x{w}' for h, w in sorted(sizes))} px, "
            "want one size",
            fix="predict again: the picture or its annotation was changed",
        )
