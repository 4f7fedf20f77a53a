"""Do published probabilities hold? Reliability diagram and expected calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robollm.core.rates import at_least, at_most

Vector = NDArray[np.float64]
_DRAWS = 200


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of similar probability.

    Attributes:
        share: of all weight.
        said: mean probability.
        true: share that was right.
        low: lower limit of `true`, two-sided with `high`.
        high: upper limit of `true`.
    """

    share: float
    said: float
    true: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """How well probabilities hold.

    Attributes:
        bins: of about equal weight, by probability.
        ece: expected calibration error: mean of |said - true| over the bins, by share.
        floor: what the ECE of perfect probabilities would be on as little data, on average.
    """

    bins: tuple[Bin, ...]
    ece: float
    floor: float


def equal_mass(said: Vector, weights: Vector, bins: int = 10) -> NDArray[np.intp]:
    """Sort probabilities into bins of about equal weight; equal probabilities stay together.

    Args:
        said: (N,) float64, probabilities.
        weights: (N,) float64, > 0.
        bins: how many, at most.

    Returns:
        (N,) numbers of the bins from 0, the lowest probabilities first; none is empty.
    """
    _, where = np.unique(said, return_inverse=True)
    mass = np.bincount(where, weights)
    middle = np.cumsum(mass) - mass / 2
    number = np.minimum((bins * middle / mass.sum()).astype(int), bins - 1)[where]
    return np.asarray(np.unique(number, return_inverse=True)[1], np.intp)


def reliability(
    said: Vector,
    right: NDArray[np.bool_],
    weights: Vector,
    groups: Sequence[str] | NDArray[np.intp],
    *,
    bins: int = 10,
    confidence: float = 0.95,
    seed: int = 0,
) -> Reliability:
    """Compare probabilities with what came true.

    Bins have equal weight, not equal width (Nguyen and O'Connor 2015), and equal probabilities
    stay together. The ECE of few answers is above 0 even if every probability is perfect: `floor`
    is the mean of `_DRAWS` draws of outcomes from the probabilities themselves. Answers of one
    group are drawn with one random number, as they are alike.

    Args:
        said: (N,) float64, probabilities.
        right: (N,) bool, what came true.
        weights: (N,) float64, > 0.
        groups: the product of each, by name or number.
        bins: how many, at most.
        confidence: of the bins' limits, two-sided.
        seed: of the draws.
    """
    number = equal_mass(said, weights, bins)
    mass = np.bincount(number, weights)
    share = mass / weights.sum()

    def means(of: Vector | NDArray[np.bool_]) -> Vector:
        return np.bincount(number, weights * of) / mass

    mean_said, mean_true = means(said), means(right)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    found = []
    for b in range(len(share)):
        per_group = np.bincount(group[number == b], weights[number == b])
        worth = float(per_group.sum() ** 2 / (per_group**2).sum())
        one_sided, hits = (1 + confidence) / 2, float(mean_true[b]) * worth
        found.append(
            Bin(
                float(share[b]),
                float(mean_said[b]),
                float(mean_true[b]),
                at_least(hits, worth, one_sided),
                at_most(hits, worth, one_sided),
            )
        )
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(_DRAWS):
        luck = rng.random(len(names))[group]
        drawn.append(share @ abs(means(luck < said) - mean_said))
    ece = float(share @ abs(mean_true - mean_said))
    return Reliability(tuple(found), ece, float(np.mean(drawn)))
