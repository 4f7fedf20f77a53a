"""What the choices of all three tasks have in common: halves, limits, and how shares are told."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robollm.core.defects import OVER_VIEWS
from robollm.core.errors import ConfigError
from robollm.core.rates import at_least, at_most
from robollm.eval.records import Json
from robollm.metrics.bootstrap import intervals
from robollm.metrics.tally import Share, Vector

Mask = NDArray[np.bool_]
AUTO = "auto"
DIGITS = 6
"""Of the numbers that are told; the values themselves are shorter where that changes nothing."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the values shall keep to.

    Attributes:
        mask_precision: of instances at IoU .5, at least; 0: as much as the best F1 has.
        false_reject: share of known products that may be called unknown or ambiguous, at most.
        strangers: share of objects that are not in their manifest, for probabilities.
        recall: of each defect, per induct: more than this.
        confidence: one-sided, of that recall's lower limit; 0: the share itself, as counted.
        fpr_limit: a defect's threshold that needs a higher false positive rate is reported loudly.
        over_views: how a pick's views are joined for each defect: of `core.defects.OVER_VIEWS`, or
            "auto": their mean where that ranks inducts better beyond doubt.
        draws: of the bootstrap.
        seed: of halves and draws.

    Raises:
        ConfigError: for a value out of range.
    """

    mask_precision: float = 0.0
    false_reject: float = 0.05
    strangers: float = 0.1
    recall: float = 0.95
    confidence: float = 0.0
    fpr_limit: float = 0.05
    over_views: str = AUTO
    draws: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        shares = (
            self.mask_precision, self.false_reject, self.recall, self.confidence, self.fpr_limit,
        )  # fmt: skip
        if not all(0 <= v < 1 for v in shares) or not 0 < self.strangers < 1:
            raise ConfigError(
                f"mask precision {self.mask_precision}, false reject {self.false_reject}, recall "
                f"{self.recall}, confidence {self.confidence}, FPR limit {self.fpr_limit}, "
                f"strangers {self.strangers}; want shares from 0 to below 1, and some strangers",
                fix="correct the options",
            )
        if self.over_views not in (AUTO, *OVER_VIEWS):
            raise ConfigError(
                f"over_views is {self.over_views!r}, want {', '.join((AUTO, *OVER_VIEWS))}",
                fix="correct --over-views",
            )


@dataclass(frozen=True, slots=True)
class Chosen:
    """What became of one task.

    Attributes:
        values: name in the card's `thresholds.TASK` -> chosen value.
        kept: name -> why it stays as it was.
        loud: sentences that nobody may overlook.
        record: everything that was counted, for `calibration.json`.
        ways: defect -> how its views are joined; of defects alone.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    loud: tuple[str, ...] = ()
    record: Json = field(default_factory=dict)
    ways: Mapping[str, str] = field(default_factory=dict)


class Shares:
    """Hits per case as a `Tally`.

    Args:
        units: name of each row's unit: an image, a product, an induct.
        shares: name -> hits (N,) and cases (N,), by row.
    """

    def __init__(
        self, units: Sequence[str], shares: Mapping[str, tuple[ArrayLike, ArrayLike]]
    ) -> None:
        names, row = np.unique(np.array(units, np.str_), return_inverse=True)
        self.units: tuple[str, ...] = tuple(names.tolist())
        count = len(names)
        self._shares: dict[str, tuple[Vector, Vector]] = {}
        for name, pair in shares.items():
            hits, cases = (
                np.bincount(row, np.asarray(v, np.float64), count).astype(np.float64) for v in pair
            )
            self._shares[name] = hits, cases

    def figures(self, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
        """All shares; see `Tally`."""
        each = np.ones(len(self.units)) if counts is None else counts.astype(np.float64)
        out = {}
        for name, (hits, cases) in self._shares.items():
            of = float(each @ cases)
            out[name] = float(each @ hits) / of if of else math.nan
        return out

    def share(self, name: str) -> Share:
        """Hits and cases; see `Tally`."""
        return self._shares[name]

    def told(self, wish: Wish) -> Json:
        """Each share with its limits at 95 %, two-sided.

        Where no unit has more than one case they are Clopper and Pearson's, exact; else those of
        the bootstrap over units, see `metrics.bootstrap`.

        Returns:
            name -> `value`, `low`, `high` (None: nothing to count, or too few units to say),
            `hits`, `cases`, and `limits`, how these were found.
        """
        several = any(cases.max(initial=0) > 1 for _, cases in self._shares.values())
        drawn = intervals(self, draws=wish.draws, seed=wish.seed) if several else {}
        out: Json = {}
        for name, (hits, cases) in self._shares.items():
            h, n = float(hits.sum()), float(cases.sum())
            if not n:
                out[name] = {"value": None, "low": None, "high": None, "hits": 0, "cases": 0}
                continue
            if cases.max() <= 1:
                low, high, how = at_least(h, n, 0.975), at_most(h, n, 0.975), "Clopper-Pearson"
            else:
                low, high, how = drawn[name].low, drawn[name].high, "bootstrap"
            out[name] = {
                "value": number(h / n), "low": number(low), "high": number(high),
                "hits": int(h), "cases": int(n), "limits": how,
            }  # fmt: skip
        return out


def number(value: float) -> float | None:
    """A number as JSON and people take it; None for what is none."""
    return round(float(value), DIGITS) if math.isfinite(value) else None


def first_half(names: Sequence[str], kinds: Sequence[str], seed: int) -> Mask:
    """(N,) bool, which rows belong to the first of two halves.

    Rows of one name stay together. Of each kind, about as many names go to each half. It depends on
    names, kinds and seed alone, not on their order.

    Args:
        names: the unit of each row.
        kinds: of its unit, for example a label: the same for all rows of a name.
        seed: of the split.
    """
    kind_of = dict(zip(names, kinds, strict=True))
    drawn = sorted(
        kind_of, key=lambda n: (kind_of[n], hashlib.sha256(f"{seed} {n}".encode()).digest())
    )
    place: dict[str, int] = {}
    seen: dict[str, int] = {}
    for name in drawn:
        place[name] = seen.setdefault(kind_of[name], len(seen)) % 2
        seen[kind_of[name]] += 1
    return np.array([place[n] == 0 for n in names], np.bool_)


def between(low: float, high: float) -> float:
    """A short number near the middle of two, above the first and below the second.

    Data say nothing about where between two scores a threshold belongs; the middle is the same
    for `>=` and for `>`. If no other number lies between, the upper one.
    """
    middle = low + (high - low) / 2
    for digits in range(3, 17):
        short = round(middle, digits)
        if low < short < high:
            return short
    return middle if low < middle < high else high
