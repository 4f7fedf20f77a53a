"""Counts and curves of defect detection, in NumPy; definitions in `docs/defects.md`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

NAN = float("nan")


class Rates(NamedTuple):
    """One class against the rest; nan where the denominator is 0."""

    precision: float
    recall: float
    fpr: float


def rates(predicted: ArrayLike, true: ArrayLike) -> Rates:
    """Precision TP/(TP+FP), recall TP/(TP+FN) and FPR FP/(FP+TN).

    Args:
        predicted: (N,) bool.
        true: (N,) bool.
    """
    said, is_so = np.asarray(predicted, bool), np.asarray(true, bool)
    tp, fp = int((said & is_so).sum()), int((said & ~is_so).sum())
    positives, negatives = int(is_so.sum()), int((~is_so).sum())
    return Rates(
        tp / (tp + fp) if tp + fp else NAN,
        tp / positives if positives else NAN,
        fp / negatives if negatives else NAN,
    )


def roc(scores: ArrayLike, true: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The exact ROC curve: one point per distinct score, and (0, 0).

    A sample is called positive if its score is at least the threshold, so samples of equal score
    are called together.

    Args:
        scores: (N,) higher is more likely positive.
        true: (N,) bool, with both values.

    Returns:
        FPR and recall, (M,) each, both ascending from 0 to 1.
    """
    values, is_so = np.asarray(scores, np.float64), np.asarray(true, bool)
    order = np.argsort(-values, kind="stable")
    values, is_so = values[order], is_so[order]
    last = np.r_[values[1:] != values[:-1], True]
    tp, fp = np.cumsum(is_so)[last], np.cumsum(~is_so)[last]
    return np.r_[0.0, fp / (~is_so).sum()], np.r_[0.0, tp / is_so.sum()]


def auc(scores: ArrayLike, true: ArrayLike) -> float:
    """Area under the ROC curve by trapezoids: a positive and a negative of equal score count 1/2.

    Returns:
        nan if all samples are positive, or none.
    """
    is_so = np.asarray(true, bool)
    if is_so.all() or not is_so.any():
        return NAN
    fpr, recall = roc(scores, is_so)
    return float(np.sum(np.diff(fpr) * (recall[1:] + recall[:-1]) / 2))


def recall_at(scores: ArrayLike, true: ArrayLike, fpr: float) -> float:
    """The best recall among the points of the ROC curve whose FPR is at most `fpr`.

    Nothing is interpolated: every point is one that a threshold reaches.

    Returns:
        nan if all samples are positive, or none.
    """
    is_so = np.asarray(true, bool)
    if is_so.all() or not is_so.any():
        return NAN
    rate, recall = roc(scores, is_so)
    return float(recall[rate <= fpr + 1e-12].max())
