"""False accept against false reject of identification: how well a threshold keeps strangers out.

One pick gives two cases. Known: it is asked as it is; it is accepted if the best cosine of the
manifest is above the threshold, and rejected if it isn't or if the best is another product's.
Strange: its product is taken out of the manifest; if the best other one is above the threshold,
that is a false accept. A pick that couldn't ask is a known case that is always rejected, and no
strange one: a failure must not better a figure. A cosine of a fixed threshold, no margin: what the
vectors are worth, whatever a policy makes of them (`robollm.core.open_set` measures a policy).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robollm.core.errors import EvalError
from robollm.metrics.curves import Ranking, thinned
from robollm.metrics.ranks import PickRanks
from robollm.metrics.tally import Vector, worth

RATES = (0.01, 0.05, 0.1)
FALSE_REJECT = 0.05


class OpenSetTally:
    """False reject at false accept and the other way round as a `Tally`; the unit is the product.

    `false_reject_at_faX`: the least share of known cases that are rejected, of the thresholds at
    which at most a share X of strange ones is accepted; X is 0.01, 0.05, 0.1.
    `unknown_rejected_at_fr0.05`: the largest share of strange cases whose best cosine is below a
    threshold, of those thresholds that at most 5 % of known ones are below, whichever product
    their best is of. `auroc`: of the best cosine, known against
    strange, whichever product it is of: the chance that a known case scores more than a strange
    one, equal ones count 1/2.

    Args:
        right: (Q,) cosine of the true product; -inf: it can't be found.
        wrong: (Q,) best cosine of the manifest's other products; -inf: there is none, so nothing
            of the strange case can be accepted.
        products: the true product of each pick.
        suffix: of the figures' names, as `_n3`.
        unasked: the true product of each pick that couldn't ask: a known case below every
            threshold, and no strange case.

    Raises:
        EvalError: if no pick asked, or a cosine is not a number.
    """

    def __init__(
        self,
        right: ArrayLike,
        wrong: ArrayLike,
        products: Sequence[str],
        *,
        suffix: str = "",
        unasked: Sequence[str] = (),
    ) -> None:
        self._right, self._wrong = np.asarray(right, np.float64), np.asarray(wrong, np.float64)
        bad = int((np.isnan(self._right) | np.isnan(self._wrong)).sum())
        if not len(self._right) or bad:
            raise EvalError(
                f"{len(self._right)} picks, {bad} with a cosine that is not a number; want some "
                "picks and numbers only",
                fix="look at the vectors of these picks and of the gallery",
            )
        asked = len(self._right)
        names, unit = np.unique([*products, *unasked], return_inverse=True)
        self.units: tuple[str, ...] = tuple(names.tolist())
        self._unit = np.r_[unit, unit[:asked]]
        self._known = np.arange(len(self._unit)) < len(unit)
        rightly = np.where(self._right > self._wrong, self._right, -np.inf)
        nothing = np.full(len(unasked), -np.inf)
        self._suffix = suffix
        self._accepted = Ranking(np.r_[rightly, nothing, self._wrong], self._known)
        best = np.maximum(self._right, self._wrong)
        self._best = Ranking(np.r_[best, nothing, self._wrong], self._known)

    @classmethod
    def of(cls, picks: Sequence[PickRanks], query: str, *, suffix: str = "") -> OpenSetTally:
        """From picks of which some asked a query; see `PickRanks.leads`."""
        asked = [(p.product, p.leads[query]) for p in picks if query in p.leads]
        return cls(
            [lead.right for _, lead in asked],
            [lead.wrong for _, lead in asked],
            [name for name, _ in asked],
            suffix=suffix,
            unasked=[p.product for p in picks if query not in p.leads],
        )

    def figures(self, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
        """All figures; see `Tally`."""
        each = None if counts is None else counts[self._unit].astype(np.float64)
        out = {
            f"false_reject_at_fa{rate:g}{self._suffix}": 1 - self._accepted.recall_at(rate, each)
            for rate in RATES
        }
        rejected = self._best.rejected_at(FALSE_REJECT, each)
        out[f"unknown_rejected_at_fr{FALSE_REJECT:g}{self._suffix}"] = rejected
        return {**out, f"auroc{self._suffix}": self._best.auc(each)}

    def share(self, name: str) -> tuple[None, Vector]:
        """The side that is worth less: strange cases, if some couldn't ask; see `Tally`."""
        sides = [
            np.bincount(self._unit[side], minlength=len(self.units)).astype(np.float64)
            for side in (self._known, ~self._known)
        ]
        return None, min(sides, key=worth)

    def curve(self) -> tuple[Vector, Vector]:
        """False accept, ascending, and false reject: shares, (M,) each, as a picture wants it.

        From the strictest threshold to the lowest cosine; nothing is interpolated.
        """
        tp, fp = self._accepted.called()
        said = np.isfinite(self._accepted.thresholds)
        return thinned(np.r_[0.0, fp[said] / fp[-1]], np.r_[1.0, 1 - tp[said] / tp[-1]])
