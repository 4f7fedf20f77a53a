"""How the views of a pick are joined for each defect: the largest probability, or the mean."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from robollm.core.defects import ANY, MEAN
from robollm.data.armbench_defects import LABELS
from robollm.eval.thresholds.parts import AUTO, Mask, Wish
from robollm.metrics.curves import Ranking
from robollm.metrics.tally import Vector

SURE = 0.95
"""Share of resamples in which the mean has to rank better, to be taken."""


def joined(said: Vector, unit: NDArray[np.intp], count: int, ways: Mapping[str, str]) -> Vector:
    """(I, 3) what an induct's pictures say of each class; -inf: none was judged.

    Args:
        said: (N, 3) probabilities of the pictures; NaN: not judged.
        unit: (N,) each picture's induct.
        count: I, of inducts.
        ways: defect -> one of `core.defects.OVER_VIEWS`; "any" where it says nothing.
    """
    out = np.full((count, len(LABELS)), -np.inf)
    judged = np.isfinite(said).all(axis=1)
    np.maximum.at(out, unit[judged], said[judged])
    views = np.bincount(unit[judged], minlength=count)
    for c, label in enumerate(LABELS):
        if ways.get(label, ANY) == MEAN:
            total = np.bincount(unit[judged], said[judged, c], minlength=count)
            out[:, c] = np.where(views > 0, total / np.maximum(views, 1), -np.inf)
    return out


def better(largest: Vector, mean: Vector, true: Mask, wish: Wish) -> str:
    """Which way of one defect ranks inducts better.

    "auto" takes the largest of the views, with which one view is enough for an alarm, unless the
    mean's area under the ROC curve is the larger one in `SURE` of the bootstrap's resamples.

    Args:
        largest: (I,) scores of inducts; -inf: not judged, which is left out.
        mean: (I,).
        true: (I,) bool.
        wish: `over_views`, `draws` and `seed` count.
    """
    if wish.over_views != AUTO:
        return wish.over_views
    judged = np.isfinite(largest)
    count, is_so = int(judged.sum()), true[judged]
    if not is_so.any() or is_so.all():
        return ANY
    a, b = Ranking(largest[judged], is_so), Ranking(mean[judged], is_so)
    rng = np.random.default_rng(wish.seed)
    won = 0
    for _ in range(wish.draws):
        weights = np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)
        won += b.auc(weights) > a.auc(weights)  # not so if a resample has one side alone: NaN
    return MEAN if won >= SURE * wish.draws else ANY
