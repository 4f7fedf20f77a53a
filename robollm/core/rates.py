"""Shares with honest limits, and thresholds that keep a rate of false answers.

No SciPy: the few special functions are here, tested against it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import CalibrationError

Vector = NDArray[np.float64]
MARGINS = 64  # margins that are tried: 0 and quantiles of the gaps that were seen
CURVE_POINTS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Leaders:
    """Who leads, case by case.

    Attributes:
        best: (N,) float64, cosine of the leader; -inf: there is none.
        gap: (N,) float64, how far it is before the next; inf: there is no next.
        right: (N,) bool, whether the leader is the truth.
    """

    best: Vector
    gap: Vector
    right: NDArray[np.bool_]

    def answered(self, accept: float, margin: float) -> NDArray[np.bool_]:
        """(N,) bool, the cases that thresholds make an answer of; the rule of `decide`."""
        return (self.best > accept) & self.clear(margin)

    def clear(self, margin: float) -> NDArray[np.bool_]:
        """(N,) bool, the leaders that are far enough before the next; as `is_clear`."""
        return (self.gap > 0) & (self.gap >= margin)


@dataclass(frozen=True, slots=True)
class Rate:
    """A share that was counted, and what it may be.

    Attributes:
        hits: cases that were hit.
        cases: all cases.
        independent: how many independent cases they are worth, see `independent`.
        confidence: of `at_most`, one-sided.
    """

    hits: int
    cases: int
    independent: float
    confidence: float

    @classmethod
    def count(cls, hits: int, groups: Sequence[str], confidence: float) -> Rate:
        """So many hits among cases that are alike within their group."""
        return cls(hits, len(groups), independent(groups), confidence)

    @property
    def share(self) -> float:
        """Hits per case; NaN without cases."""
        return self.hits / self.cases if self.cases else math.nan

    @property
    def at_most(self) -> float:
        """Upper limit of the true share; 1 without cases."""
        if not self.cases:
            return 1.0
        return at_most(self.share * self.independent, self.independent, self.confidence)


def independent(groups: Sequence[str]) -> float:
    """How many independent cases grouped ones are worth at least: (sum m)^2 / sum m^2.

    Picks of one product look alike, so ten of them tell less than ten of ten products. This is
    Kish's design effect for groups that are alike through and through: cautious.

    Args:
        groups: the group of each case.
    """
    sizes = Counter(groups).values()
    return sum(sizes) ** 2 / sum(m * m for m in sizes) if sizes else 0.0


def cases_wanted(rate: float, confidence: float) -> int:
    """How many independent cases without any hit it takes to know that a rate is no higher."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - rate))


def at_most(hits: float, cases: float, confidence: float) -> float:
    """Upper limit of a share, one-sided, of Clopper and Pearson (1934).

    Args:
        hits: 0 to `cases`; needn't be whole, as for effective numbers (Korn and Graubard, 1998).
        cases: > 0.
        confidence: that the true share is not above the limit.
    """
    if hits >= cases:
        return 1.0
    return _beta_quantile(confidence, hits + 1, cases - hits)


def at_least(hits: float, cases: float, confidence: float) -> float:
    """Lower limit of a share; see `at_most`."""
    if hits <= 0:
        return 0.0
    return _beta_quantile(1 - confidence, hits, cases - hits + 1)


def _beta_quantile(p: float, a: float, b: float) -> float:
    """The x at which the distribution function of Beta(a, b) is p: bisection, to 1e-12."""
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        if beta_cdf(middle, a, b) < p:
            low = middle
        else:
            high = middle
    return high


def beta_cdf(x: float, a: float, b: float) -> float:
    """The distribution function of Beta(a, b): the regularised incomplete beta function.

    Its continued fraction (Abramowitz and Stegun 26.5.8) by Lentz' method.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    # Above its mode, nearly, the fraction converges slowly. By rounding alone both sides can seem
    # to be above theirs: then neither is turned round, or it would never end.
    if x > (a + 1) / (a + b + 2) and 1 - x <= (b + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(front + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away(1 + term * d, tiny)
            c = _away(1 + term / c, tiny)
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * value


def _away(value: float, tiny: float) -> float:
    """The value, or something tiny instead of zero."""
    return value if abs(value) > tiny else tiny


def thresholds_for(
    known: Leaders,
    strangers: Leaders,
    groups: Sequence[str],
    rate: float,
    *,
    confidence: float,
    floor: float = -1.0,
) -> tuple[float, float]:
    """The accept and margin that answer most known cases rightly at a rate of false answers.

    Of the margins that are tried (`MARGINS`), each gets the lowest accept at which no more
    strangers are answered than the upper limit of their share allows; the pair with most right
    answers wins, and the smallest margin among equals.

    Args:
        known: cases whose truth can be found.
        strangers: cases whose truth can't: every answer is false.
        groups: the product of each stranger.
        rate: wanted: `at_most` of the share of strangers that are answered.
        confidence: of that limit, one-sided.
        floor: lowest accept.

    Raises:
        CalibrationError: if so few strangers can't show such a rate, even with none answered.
    """
    worth = independent(groups)
    best_shown = at_most(0, worth, confidence) if worth else 1.0
    if best_shown > rate:
        raise CalibrationError(
            f"the half that chooses has {len(groups)} picks of {len(set(groups))} products, worth "
            f"{worth:.0f} independent ones; without any false answer they show a rate of at most "
            f"{best_shown:.3f}, want {rate:g}",
            fix=f"calibrate on picks of {2 * cases_wanted(rate, confidence)} products or more, or "
            f"ask for {math.ceil(best_shown * 1000) / 1000:g}",
        )
    allowed = 0
    while allowed < len(groups) and _limit(allowed + 1, len(groups), worth, confidence) <= rate:
        allowed += 1
    gaps = known.gap[np.isfinite(known.gap) & (known.gap > 0)]
    margins = [0.0]
    if len(gaps):
        margins += np.quantile(gaps, np.linspace(0, 1, MARGINS), method="higher").tolist()
    found: list[tuple[int, float, float]] = []
    for margin in sorted(set(margins)):
        tempted = np.sort(strangers.best[strangers.clear(margin)])[::-1]
        accept = float(max(floor, tempted[allowed])) if len(tempted) > allowed else floor
        right = int((known.answered(accept, margin) & known.right).sum())
        found.append((right, -margin, accept))
    _, margin, accept = max(found)
    return accept, -margin


def _limit(hits: int, cases: int, worth: float, confidence: float) -> float:
    return at_most(hits / cases * worth, worth, confidence)


def open_set_curve(
    known: Leaders, strangers: Leaders, margin: float, groups: Sequence[str], confidence: float
) -> list[dict[str, float]]:
    """What each accept would do, from the strictest on.

    Args:
        known: cases whose truth can be found.
        strangers: cases whose truth can't.
        margin: the margin.
        groups: the product of each stranger.
        confidence: of `false_accept_at_most`, one-sided.

    Returns:
        Points with accept, false_accept (share of strangers that are answered),
        false_accept_at_most, false_reject (share of known cases that are not answered) and wrong
        (share of known cases that are answered falsely); at most `CURVE_POINTS`.
    """
    seen = np.unique(np.concatenate([known.best, strangers.best]))
    seen = seen[np.isfinite(seen)]
    if len(seen) > CURVE_POINTS:
        seen = seen[np.linspace(0, len(seen) - 1, CURVE_POINTS).round().astype(int)]
    curve = []
    for accept in seen[::-1].tolist():
        false = Rate.count(int(strangers.answered(accept, margin).sum()), groups, confidence)
        answered = known.answered(accept, margin)
        curve.append(
            {
                "accept": accept,
                "false_accept": false.share,
                "false_accept_at_most": false.at_most,
                "false_reject": float(1 - answered.mean()),
                "wrong": float((answered & ~known.right).mean()),
            }
        )
    return curve
