"""What a bundle's thresholds make of inducts: one verdict each, as the nodes would say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from robollm.core.defects import NOMINAL, ViewEvidence, fuse
from robollm.core.errors import EvalError
from robollm.data.armbench_defects import LABELS
from robollm.metrics.defects import Calls, DefectImage, truth
from robollm.metrics.tally import Share

_NAMES = tuple(
    f"{column}_{figure}"
    for column in (*(label for label in LABELS if label != NOMINAL), "combined")
    for figure in ("precision", "recall", "fpr")
)


class VerdictTally:
    """Precision, recall and FPR of the verdicts of `fuse` as a `Tally`; the unit is the induct.

    Names: `verdict_DEFECT_precision`, `_recall`, `_fpr` of each defect and `combined`. An induct's
    images are its views; it has one verdict, and the labels of all its images. An induct of which
    nothing was judged is called nothing: it costs recall, and is left out of FPR.

    Args:
        images: at least one.
        thresholds: defect -> probability from which on it is decided, as `fuse` takes them.

    Attributes:
        units: inducts, sorted.

    Raises:
        EvalError: if there are no images, or for an unknown label.
    """

    def __init__(self, images: Sequence[DefectImage], thresholds: Mapping[str, float]) -> None:
        if not images:
            raise EvalError("there is no image to count", fix="evaluate a split that has images")
        views: dict[str, list[DefectImage]] = {}
        for image in images:
            views.setdefault(image.induct, []).append(image)
        self.units: tuple[str, ...] = tuple(sorted(views))
        normal = LABELS.index(NOMINAL)
        said = np.zeros((len(views), len(LABELS)), bool)
        true = np.zeros_like(said)
        for row, name in enumerate(self.units):
            mine = views[name]
            evidence = [ViewEvidence(str(n), i.probabilities) for n, i in enumerate(mine)]
            decision = fuse(evidence, thresholds).decision
            if decision in LABELS:
                said[row, LABELS.index(decision)] = True
            for image in mine:
                true[row] |= truth(image.labels)
            true[row, normal] = not np.delete(true[row], normal).any()
        judged = np.asarray(said.any(axis=1), np.bool_)
        scores = np.where(judged[:, None], said.astype(np.float64), -np.inf)
        any_defect = np.where(judged, 1.0 - said[:, normal], -np.inf)
        self._calls = Calls(said, true, scores, any_defect)

    def figures(self, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
        """All figures; see `Tally`."""
        weights = None if counts is None else counts.astype(np.float64)
        found = self._calls.figures(weights)
        return {f"verdict_{name}": found[name] for name in _NAMES}

    def share(self, name: str) -> Share:
        """Inducts that hit, and that count; see `Tally`."""
        hits, (cases,) = self._calls.share_of(name.removeprefix("verdict_"))
        assert hits is not None
        return hits.astype(np.float64), cases.astype(np.float64)
