"""Several tallies over the same kind of unit, as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import EvalError
from robollm.metrics.tally import Share, Tally, Vector


class Joined:
    """The figures of all, drawn together: one resample is the same units in each of them.

    A unit need not be in all of them, as a product of which nothing was published has recall but
    no reliability.

    Args:
        tallies: no two of them with a figure of the same name.

    Raises:
        EvalError: if two have.
    """

    def __init__(self, tallies: Sequence[Tally]) -> None:
        self.units: tuple[str, ...] = tuple(sorted({unit for t in tallies for unit in t.units}))
        place = {unit: i for i, unit in enumerate(self.units)}
        self._parts = [(t, np.array([place[u] for u in t.units], np.int64)) for t in tallies]
        names = [(name, part) for part in self._parts for name in part[0].figures()]
        twice = sorted(name for name, n in Counter(name for name, _ in names).items() if n > 1)
        if twice:
            raise EvalError(
                f"{len(twice)} figures are in two tallies: {', '.join(twice[:3])}",
                fix="give one of them a suffix",
            )
        self._of = dict(names)

    def figures(self, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
        """All figures; see `Tally`."""
        out: dict[str, float] = {}
        for tally, rows in self._parts:
            out |= tally.figures(None if counts is None else counts[rows])
        return out

    def share(self, name: str) -> Share | None:
        """Of the tally that has the figure; see `Tally`."""
        tally, rows = self._of[name]
        share = tally.share(name)
        if share is None:
            return None
        hits, cases = share
        return (None if hits is None else self._spread(hits, rows)), self._spread(cases, rows)

    def _spread(self, values: Vector, rows: NDArray[np.int64]) -> Vector:
        """(U,) values of one tally's units, 0 for all others."""
        return np.bincount(rows, values, len(self.units)).astype(np.float64)
