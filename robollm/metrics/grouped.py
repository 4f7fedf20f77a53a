"""A tally whose units share scenes, or products: each of these is drawn as a whole."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from robollm.metrics.tally import Share, Tally, Vector


class Grouped:
    """The same figures, resampled by scene: pictures of one scene are no independent cases.

    Args:
        tally: with a unit per picture.
        scenes: unit -> name of its scene; "" or none: a scene of its own.
        kind: what a scene is called.

    Attributes:
        units: names of the scenes, in the order of their first unit; of a unit that stands alone,
            its own.
    """

    def __init__(self, tally: Tally, scenes: Mapping[str, str], kind: str = "scene") -> None:
        place: dict[tuple[bool, str], int] = {}
        rows = []
        for unit in tally.units:
            scene = scenes.get(unit, "")
            rows.append(place.setdefault((bool(scene), scene or unit), len(place)))
        self._tally = tally
        self._row: NDArray[np.int64] = np.array(rows, np.int64)
        self.units: tuple[str, ...] = tuple(
            f"{kind} {name}" if shared else name for shared, name in place
        )

    def figures(self, counts: NDArray[np.int64] | None = None) -> dict[str, float]:
        """All figures; see `Tally`."""
        return self._tally.figures(None if counts is None else counts[self._row])

    def share(self, name: str) -> Share | None:
        """Of the scenes; see `Tally`. A figure that is no share rests on scenes, each of them one.

        The sums over a scene's units are its hits and cases.
        """
        share = self._tally.share(name)
        if share is None:
            return None
        hits, cases = share
        if hits is None:
            return None, (self._sums(cases) > 0).astype(np.float64)
        return self._sums(hits), self._sums(cases)

    def _sums(self, values: Vector) -> Vector:
        return np.bincount(self._row, values, len(self.units)).astype(np.float64)
