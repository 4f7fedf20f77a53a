"""What a bundle's thresholds make of inducts: one verdict each, as the nodes would say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from robollm.core.defects import NOMINAL, ViewEvidence, fuse
from robollm.core.errors import EvalError
from robollm.data.armbench_defects import LABELS
from robollm.metrics.defects import FPRS, Calls, DefectImage, truth
from robollm.metrics.tally import Share, worth

_DEFECTS = tuple(label for label in LABELS if label != NOMINAL)
_RATES = ("precision", "recall", "fpr")
_RANKED = ("auc", *(f"recall@fpr{fpr:g}" for fpr in FPRS))
_NAMES = tuple(f"{c}_{f}" for c in (*_DEFECTS, "combined") for f in (*_RATES, *_RANKED))


class VerdictTally:
    """What the verdicts of `fuse` are worth, as a `Tally`; the unit is the induct.

    Names: `verdict_DEFECT_precision`, `_recall`, `_fpr` of each defect and `combined`, by the
    decision; `_auc`, `_recall@fprF` by the scores that the verdict publishes, of `combined` by the
    strongest defect's. An induct's images are its views; it has one verdict, and the labels of all
    its images. An induct of which nothing was judged is called nothing: it costs recall, and is
    left out of FPR.

    Args:
        images: at least one.
        thresholds: defect -> probability from which on it is decided, as `fuse` takes them.
        ways: defect -> how its views are joined, as `fuse` takes them.

    Attributes:
        units: inducts, sorted.

    Raises:
        EvalError: if there are no images, or for an unknown label.
    """

    def __init__(
        self,
        images: Sequence[DefectImage],
        thresholds: Mapping[str, float],
        ways: Mapping[str, str] | None = None,
    ) -> None:
        if not images:
            raise EvalError("there is no image to count", fix="evaluate a split that has images")
        views: dict[str, list[DefectImage]] = {}
        for image in images:
            views.setdefault(image.induct, []).append(image)
        self.units: tuple[str, ...] = tuple(sorted(views))
        normal = LABELS.index(NOMINAL)
        said = np.zeros((len(views), len(LABELS)), bool)
        true = np.zeros_like(said)
        scores = np.full(said.shape, -np.inf)
        for row, name in enumerate(self.units):
            mine = views[name]
            evidence = [ViewEvidence(str(n), i.probabilities) for n, i in enumerate(mine)]
            verdict = fuse(evidence, thresholds, ways=ways)
            if verdict.decision in LABELS:
                said[row, LABELS.index(verdict.decision)] = True
                published = dict(verdict.ranked)
                scores[row] = [published.get(label, 0.0) for label in LABELS]
            for image in mine:
                true[row] |= truth(image.labels)
            true[row, normal] = not np.delete(true[row], normal).any()
        self._calls = Calls(said, true, scores, np.delete(scores, normal, axis=1).max(axis=1))

    def figures(self, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
        """All figures; see `Tally`."""
        weights = None if counts is None else counts.astype(np.float64)
        found = self._calls.figures(weights)
        return {f"verdict_{name}": found[name] for name in _NAMES}

    def share(self, name: str) -> Share:
        """Inducts that hit, and that count; of a ranking, the side of fewer; see `Tally`."""
        hits, sides = self._calls.share_of(name.removeprefix("verdict_"))
        told = [side.astype(np.float64) for side in sides]
        cases = min((one for one in told if one.any()), key=worth, default=told[0])
        return (None if hits is None else hits.astype(np.float64)), cases
