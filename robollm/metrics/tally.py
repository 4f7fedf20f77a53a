"""What every metric is to those who draw intervals, compare runs and print tables."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import EvalError

Vector = NDArray[np.float64]
_NAMED = 5
Share = tuple[Vector | None, Vector]


class Tally(Protocol):
    """What was counted, kept per unit, so that figures of any resample of the units are quick.

    A unit is what is drawn as a whole by the bootstrap: a picture, an induct, a product. Cases of
    one unit may be alike; units are taken as independent of each other.
    """

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the units, each once, in a fixed order."""
        ...

    def figures(self, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
        """All figures, by name; the same names at every call.

        Args:
            counts: (U,) int64 >= 0, how often each unit is in the resample; None: once each.

        Returns:
            name -> value; NaN: there is nothing to count.
        """
        ...

    def share(self, name: str) -> Share | None:
        """What a figure from 0 to 1 rests on, unit by unit; None: it may be anything.

        Args:
            name: a figure's.

        Returns:
            hits (U,) and cases (U,), float64: the figure is the sum of hits by the sum of cases.
            Of one that is no such share, as an average precision: None, and the cases of the units
            that it rests on; of two sides (an AUC's), the one that is worth less.
        """
        ...


def worth(cases: Vector) -> float:
    """How many independent cases grouped ones are worth: (sum m)^2 / sum m^2; 0 without any.

    As `robollm.core.rates.independent`: Kish's design effect of groups that are alike through and
    through, which is cautious. Never more than there are units with cases.

    Args:
        cases: (U,) cases of each unit; 0 where it has none.
    """
    total = float(cases.sum())
    return total * total / float(cases @ cases) if total else 0.0


def places(a: tuple[str, ...], b: tuple[str, ...]) -> NDArray[np.intp]:
    """(U,) where each of b's units is among a's.

    Raises:
        EvalError: if they are not the same.
    """
    where = {name: i for i, name in enumerate(a)}
    there = set(b)
    lost = [name for name in a if name not in there]
    extra = [name for name in b if name not in where]
    if lost or extra:
        raise EvalError(
            f"the two runs are over other samples: {len(lost)} only in the first"
            f"{_some(lost)}, {len(extra)} only in the second{_some(extra)}",
            fix="evaluate both on the same samples",
        )
    return np.array([where[name] for name in b], np.intp)


def _some(names: list[str]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _NAMED else ""
    return f" ({', '.join(names[:_NAMED])}{more})"
