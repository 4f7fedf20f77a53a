"""From per-view class probabilities to one verdict per pick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NOMINAL = "nominal"
UNINSPECTED = "uninspected"
ANY, MEAN = OVER_VIEWS = ("any", "mean")
"""What of a defect's probabilities in several views counts: the largest, or their mean."""


@dataclass(frozen=True, slots=True)
class ViewEvidence:
    """What one expected view says about a pick.

    Attributes:
        view: the view's name.
        probabilities: class name -> probability, summing to 1; None when the view was not judged.
        box: inspected window (x1, y1, x2, y2), source px of that view; zeros when not judged.
        reason: why the view was not judged; empty when it was.
        stamp_ns: capture time of the view's image; 0 when there is none.
        frame_id: camera frame of the view's image; empty when there is none.
    """

    view: str
    probabilities: Mapping[str, float] | None
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    reason: str = ""
    stamp_ns: int = 0
    frame_id: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about one pick.

    Attributes:
        ranked: (class_id, score), best score first; the first one IS the decision. Scores are
            decision scores (`decision_score`): .5 is the threshold. If some expected views could
            not be judged, `uninspected` follows with half the share of missing views as its
            score (so below every decision); alone and with score 1 it is the decision.
        inspected: names of the views it stands on.
        missing: (view, reason) of each expected view that could not be judged.
    """

    ranked: tuple[tuple[str, float], ...]
    inspected: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]

    @property
    def decision(self) -> str:
        """The class that a controller must act on."""
        return self.ranked[0][0]


def decision_score(probability: float, threshold: float) -> float:
    """Rescale a probability so that `threshold` lies at .5, monotonic and onto [0, 1].

    With it "sorted by score" and "decided by threshold" are the same order, whatever the
    calibrated thresholds are.

    Args:
        probability: in [0, 1].
        threshold: in [0, 1); 0: everything is decided.
    """
    if probability < threshold:
        return 0.5 * probability / threshold
    return 0.5 + 0.5 * (probability - threshold) / (1.0 - threshold)


def over_views(probabilities: Sequence[float], way: str) -> float:
    """What several views say of one defect.

    Args:
        probabilities: of the judged views, at least one, each in [0, 1].
        way: "any": the largest, for what shows in one view alone, as an opened side does; "mean":
            for what all views show, as two items do: a view that is wrong is then outvoted.
    """
    return max(probabilities) if way == ANY else sum(probabilities) / len(probabilities)


def fuse(
    evidence: Sequence[ViewEvidence],
    thresholds: Mapping[str, float],
    *,
    min_views: int = 1,
    ways: Mapping[str, str] | None = None,
) -> Verdict:
    """Fuse the views of one pick into its verdict.

    Each defect takes its largest probability over the judged views, or the mean of them (`ways`).
    Nominal takes what the strongest defect leaves. Ties go to the defect. Fewer judged views than
    `min_views` never make a nominal.

    Args:
        evidence: one entry per expected view, judged or not.
        thresholds: defect class -> probability at or above which it is decided, in [0, 1).
        min_views: smallest number of judged views that may say nominal, >= 1.
        ways: defect class -> one of `OVER_VIEWS`; "any" where it says nothing.
    """
    judged = [e for e in evidence if e.probabilities is not None]
    missing = tuple((e.view, e.reason) for e in evidence if e.probabilities is None)
    inspected = tuple(e.view for e in judged)
    alone = Verdict(((UNINSPECTED, 1.0),), inspected, missing)
    if not judged:
        return alone
    scores = {}
    for name, limit in thresholds.items():
        seen = [(e.probabilities or {})[name] for e in judged]
        scores[name] = decision_score(over_views(seen, (ways or {}).get(name, ANY)), limit)
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    nominal = 1.0 - ranked[0][1]
    if ranked[0][1] >= 0.5:
        ranked.append((NOMINAL, nominal))
    elif len(judged) < min_views:
        return alone
    else:
        ranked.insert(0, (NOMINAL, nominal))
    if missing:
        ranked.append((UNINSPECTED, 0.5 * len(missing) / len(evidence)))
    # Python's sort is stable: a defect at exactly .5 stays before nominal.
    return Verdict(tuple(sorted(ranked, key=lambda item: -item[1])), inspected, missing)
