"""One class against the rest: rates, and the curves of a score, in NumPy; cases may weigh more.

Weights are how often a case was drawn. What a case is worth comes out the same as if it stood
there so often; definitions in `docs/defects.md`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
NAN = float("nan")
_SAME = 1e-12  # an FPR of 1/20 is at most .05


class Rates(NamedTuple):
    """One class against the rest; nan where the denominator is 0."""

    precision: float
    recall: float
    fpr: float


def rates(predicted: ArrayLike, true: ArrayLike, weights: ArrayLike | None = None) -> Rates:
    """Precision TP/(TP+FP), recall TP/(TP+FN) and FPR FP/(FP+TN).

    Args:
        predicted: (N,) bool.
        true: (N,) bool.
        weights: (N,) >= 0; None: 1 each.
    """
    said, is_so = np.asarray(predicted, bool), np.asarray(true, bool)
    each = np.ones(len(is_so)) if weights is None else np.asarray(weights, np.float64)
    tp, fp = float(each[said & is_so].sum()), float(each[said & ~is_so].sum())
    positives, negatives = float(each[is_so].sum()), float(each[~is_so].sum())
    return Rates(
        tp / (tp + fp) if tp + fp else NAN,
        tp / positives if positives else NAN,
        fp / negatives if negatives else NAN,
    )


class Ranking:
    """Cases in the order of their scores, sorted once; then curves of any weights are quick.

    A case is called positive if its score is at least the threshold, so cases of equal score are
    called together. A score of -inf is that of a case that nothing was said about.

    Args:
        scores: (N,) higher is more likely positive.
        true: (N,) bool.
    """

    def __init__(self, scores: ArrayLike, true: ArrayLike) -> None:
        values, is_so = np.asarray(scores, np.float64), np.asarray(true, bool)
        self._order = np.argsort(-values, kind="stable")
        values = values[self._order]
        self._true = is_so[self._order]
        self._last = np.flatnonzero(np.append(values[1:] != values[:-1], True)[: len(values)])
        self.thresholds = values[self._last]
        """(M,) distinct scores, the highest first."""

    def called(self, weights: Vector | None = None) -> tuple[Vector, Vector]:
        """Weight of positives and of negatives that score at least each of `thresholds`.

        Args:
            weights: (N,) >= 0; None: 1 each.

        Returns:
            (M,) each, ascending.
        """
        each = np.ones(len(self._order)) if weights is None else weights[self._order]
        right = np.where(self._true, each, 0.0)
        return np.cumsum(right)[self._last], np.cumsum(each - right)[self._last]

    def roc(self, weights: Vector | None = None) -> tuple[Vector, Vector]:
        """The exact ROC curve: FPR and recall, (M + 1,) each, both ascending from 0 to 1.

        One point for each of `thresholds`, and (0, 0); both sides must be there.
        """
        tp, fp = self.called(weights)
        return np.r_[0.0, fp / fp[-1]], np.r_[0.0, tp / tp[-1]]

    def precision_recall(self) -> tuple[Vector, Vector]:
        """Recall, ascending, and precision, (M,) each, of the thresholds that say something."""
        tp, fp = self.called()
        said = np.isfinite(self.thresholds)
        return tp[said] / tp[-1], tp[said] / (tp + fp)[said]

    def auc(self, weights: Vector | None = None) -> float:
        """Area under the ROC curve by trapezoids: a pair of equal scores counts 1/2.

        Returns:
            nan without positives, or without negatives.
        """
        tp, fp = self.called(weights)
        if not len(tp) or not tp[-1] or not fp[-1]:
            return NAN
        # In whole cases, so that 1 is exactly 1.
        twice = np.diff(fp, prepend=0.0) @ (tp + np.append(0.0, tp[:-1]))
        return float(twice / (2 * tp[-1] * fp[-1]))

    def average_precision(self, weights: Vector | None = None) -> float:
        """Sum of precision times the step of recall, over the thresholds that say something.

        As scikit-learn's `average_precision_score`: nothing is interpolated. Positives that
        nothing was said about (-inf) are never found.

        Returns:
            nan without positives.
        """
        tp, fp = self.called(weights)
        if not len(tp) or not tp[-1]:
            return NAN
        step = np.diff(tp, prepend=0.0)
        some = (step > 0) & np.isfinite(self.thresholds)
        return float((step[some] * (tp[some] / (tp + fp)[some])).sum() / tp[-1])

    def recall_at(self, fpr: float, weights: Vector | None = None) -> float:
        """The best recall of the thresholds whose FPR is at most `fpr`; nothing is interpolated.

        Returns:
            nan without positives, or without negatives.
        """
        tp, fp = self.called(weights)
        if not len(tp) or not tp[-1] or not fp[-1]:
            return NAN
        points = int(np.count_nonzero(fp / fp[-1] <= fpr + _SAME))
        return float(tp[points - 1] / tp[-1]) if points else 0.0

    def rejected_at(self, false_reject: float, weights: Vector | None = None) -> float:
        """The best share of negatives below a threshold that rejects at most so many positives.

        Args:
            false_reject: share of positives below the threshold, at most.
            weights: (N,) >= 0; None: 1 each.

        Returns:
            nan without positives, or without negatives; 0: no threshold keeps enough positives.
        """
        tp, fp = self.called(weights)
        if not len(tp) or not tp[-1] or not fp[-1]:
            return NAN
        enough = (1 - tp / tp[-1] <= false_reject + _SAME) & np.isfinite(self.thresholds)
        return float(1 - fp[enough.argmax()] / fp[-1]) if enough.any() else 0.0


def thinned(x: Vector, y: Vector, most: int = 400) -> tuple[Vector, Vector]:
    """A curve with fewer points, for a picture: corners only, then evenly along its length.

    Args:
        x: (M,) monotonic.
        y: (M,)
        most: points that are left, at most; both ends are among them.

    Returns:
        Some of the points, in their order; nothing is interpolated.
    """
    if len(x) > 2:  # where the curve goes straight on, the point between says nothing
        dx, dy = np.diff(x), np.diff(y)
        bends = np.abs(dx[1:] * dy[:-1] - dx[:-1] * dy[1:]) > 0
        keep = np.r_[True, bends, True]
        x, y = x[keep], y[keep]
    if len(x) > most:
        length = np.r_[0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))]
        at = np.searchsorted(length, np.linspace(0, length[-1], most))
        at = np.unique(np.r_[0, at.clip(0, len(x) - 1), len(x) - 1])[-most:]
        at[0] = 0
        x, y = x[at], y[at]
    return x, y
