"""Do scores hold as probabilities? ECE, its noise floor, Brier score and log loss, with intervals.

Bins and floor are those of `robollm.core.reliability`. Scores may be an identification's first
published one (did it come true?), a defect's probability, or an instance's (is its IoU >= .5?).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robollm.core.errors import EvalError
from robollm.core.reliability import Bin, equal_mass, reliability
from robollm.data.armbench_defects import LABELS
from robollm.metrics.curves import NAN
from robollm.metrics.defects import DefectImage, probabilities, truth
from robollm.metrics.tally import Share

_LEAST = 1e-15  # of a probability whose logarithm is taken, as in scikit-learn


class ReliabilityTally:
    """How well probabilities hold as a `Tally`; the unit is the group.

    Figures: `ece` over 10 bins of equal mass, which stay where they are in a resample (so the
    ECE of resamples, and its interval, lies higher: noise adds to it); `ece_floor`, the ECE that
    perfect probabilities would have on as little data, of all data in each resample; `brier`, mean
    of (score - truth)^2; `nll`, mean of -ln of the probability of what happened, at least 1e-15.

    Args:
        said: (N,) probabilities.
        right: (N,) bool, what came true.
        groups: the product, induct or image of each, alike within.
        suffix: of the figures' names, as `_top`.
        seed: of the floor's draws.

    Attributes:
        units: groups, sorted.
        bins: for a reliability diagram, lowest first.

    Raises:
        EvalError: if there is nothing, or a probability out of 0 to 1.
    """

    def __init__(
        self,
        said: ArrayLike,
        right: ArrayLike,
        groups: Sequence[str],
        *,
        suffix: str = "",
        seed: int = 0,
    ) -> None:
        p, true = np.asarray(said, np.float64), np.asarray(right, bool)
        odd = p[~((p >= 0) & (p <= 1))]
        if not len(p) or len(odd):
            raise EvalError(
                f"{len(p)} probabilities, {len(odd)} of them not in 0 to 1 {odd[:3].tolist()}",
                fix="evaluate a run that has some, and a bundle whose scores are probabilities",
            )
        self.units: tuple[str, ...] = tuple(sorted({*groups}))
        row = {name: i for i, name in enumerate(self.units)}  # much quicker than sorting them all
        unit = np.array([row[name] for name in groups], np.intp)
        self._suffix = suffix
        each = np.ones(len(p))
        held = reliability(p, true, each, unit, seed=seed)
        self.bins: tuple[Bin, ...] = held.bins
        self._floor = held.floor
        number = equal_mass(p, each)
        happened = np.where(true, p, 1 - p).clip(_LEAST)
        bins = len(held.bins)
        place, units = unit * bins + number, len(row)
        self._sums = {
            name: np.bincount(place, values, units * bins).reshape(units, bins)
            for name, values in (
                ("cases", each), ("said", p), ("true", true.astype(float)),
                ("brier", (p - true) ** 2), ("nll", 0.0 - np.log(happened)),
            )
        }  # fmt: skip

    def figures(self, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
        """All figures; see `Tally`."""
        each = np.ones(len(self.units)) if counts is None else counts.astype(np.float64)
        sums = {name: each @ values for name, values in self._sums.items()}
        cases = float(sums["cases"].sum())
        found = {
            "ece": float(np.abs(sums["true"] - sums["said"]).sum()),
            "ece_floor": self._floor * cases,
            "brier": float(sums["brier"].sum()),
            "nll": float(sums["nll"].sum()),
        }
        return {f"{k}{self._suffix}": v / cases if cases else NAN for k, v in found.items()}

    def share(self, name: str) -> Share | None:
        """Cases, of `ece` and `brier`: the others have no upper end; see `Tally`."""
        if name.removesuffix(self._suffix) not in ("ece", "brier"):
            return None
        return None, self._sums["cases"].sum(axis=1)


def of_defects(images: Sequence[DefectImage]) -> dict[str, ReliabilityTally]:
    """Whether the probabilities of defects hold.

    Args:
        images: those that were not judged are left out; at least one was.

    Returns:
        class -> its probability against whether it is so; "top": the most probable class's against
        whether it is right. The class, or "top", is the suffix of the figures' names.

    Raises:
        EvalError: if nothing was judged; as `DefectTally`.
    """
    judged = [i for i in images if i.probabilities is not None]
    if not judged:
        raise EvalError(
            f"none of {len(images)} images was judged", fix="look at the errors of the run"
        )
    said, true = probabilities(judged), np.array([truth(i.labels) for i in judged])
    groups = [i.induct for i in judged]
    top = said.argmax(axis=1)
    rows = np.arange(len(judged))
    out = {"top": ReliabilityTally(said[rows, top], true[rows, top], groups, suffix="_top")}
    for c, label in enumerate(LABELS):
        out[label] = ReliabilityTally(said[:, c], true[:, c], groups, suffix=f"_{label}")
    return out
