"""How long MMDetection spends in mmcv's operators, which mmcv-lite has no compiled form of."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any

from robollm.runtime.measure import Job

NAMES = ("nms", "roi_align_forward")


class Meter:
    """Tells which share of a job's time goes to RoIAlign and NMS, in each of its timed runs.

    Args:
        extension: where MMDetection calls them; None: mmcv's compiled part.
        clock: seconds since some moment.

    Attributes:
        whose: "mmcv's" or "robollm's, in torch".
        shares: round -> share of the operators in the round's last run, which is the timed one.
    """

    def __init__(
        self,
        extension: ModuleType | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._module: Any = extension or sys.modules["mmcv._ext"]
        self._clock = clock
        self._spent = 0.0
        ours = str(getattr(self._module, "__doc__", "") or "").endswith("by robollm")
        self.whose = "robollm's, in torch" if ours else "mmcv's"
        self.shares: dict[int, float] = {}

    def metered(self, job: Job) -> Job:
        """The job, with two more looks at the clock for each call of an operator."""

        def run(turn: int) -> None:
            own = {name: getattr(self._module, name) for name in NAMES}
            for name, operator in own.items():
                setattr(self._module, name, self._timed(operator))
            self._spent, began = 0.0, self._clock()
            try:
                job(turn)
                passed = self._clock() - began
            finally:
                for name, operator in own.items():
                    setattr(self._module, name, operator)
            self.shares[turn] = self._spent / passed if passed else 0.0

        return run

    @property
    def share(self) -> float:
        """Of the operators in a run, the median over the timed ones."""
        timed = [share for turn, share in self.shares.items() if turn >= 0]
        return statistics.median(timed)

    def about(self) -> dict[str, Any]:
        """For the results."""
        timed = sum(turn >= 0 for turn in self.shares)
        return {"whose": self.whose, "share": round(self.share, 3), "runs": timed}

    def bound(self, rows: dict[str, dict[str, Any]], own: Collection[str]) -> None:
        """Add `ratio_bound`: the ratio if the operators took the reference no time at all.

        Args:
            rows: with `ratio`.
            own: the reference, and rows that use the same operators: these get none.
        """
        for name, row in rows.items():
            if name not in own:
                row["ratio_bound"] = float(f"{row['ratio'] * (1 - self.share):.3g}")

    def _timed(self, operator: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **how: Any) -> Any:
            began = self._clock()
            try:
                return operator(*args, **how)
            finally:
                self._spent += self._clock() - began

        return run
