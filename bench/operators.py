"""How long MMDetection spends in mmcv's operators, which mmcv-lite has no compiled form of."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any

NAMES = ("nms", "roi_align_forward")


class Meter:
    """Adds up the wall time of RoIAlign and NMS while it is open.

    Attributes:
        ms: so far, in the operators.
        all_ms: since it was opened, when it is closed.
        whose: "mmcv's" or "robollm's, in torch".
    """

    def __init__(self) -> None:
        self.ms = self.all_ms = self._opened = 0.0
        self._module: Any = sys.modules["mmcv._ext"]
        ours = str(getattr(self._module, "__doc__", "") or "").endswith("by robollm")
        self.whose = "robollm's, in torch" if ours else "mmcv's"
        self._own: dict[str, Callable[..., Any]] = {}

    @property
    def share(self) -> float:
        """Of the operators in the whole."""
        return self.ms / self.all_ms if self.all_ms else 0.0

    def bound(self, rows: dict[str, dict[str, Any]], own: Collection[str]) -> None:
        """Add `ratio_bound`: the ratio if the operators took the reference no time at all.

        Args:
            rows: with `ratio`.
            own: the reference, and rows that use the same operators: these get none.
        """
        for name, row in rows.items():
            if name not in own:
                row["ratio_bound"] = float(f"{row['ratio'] * (1 - self.share):.3g}")

    def __enter__(self) -> Meter:
        self._opened = time.perf_counter()
        for name in NAMES:
            self._own[name] = getattr(self._module, name)
            setattr(self._module, name, self._timed(self._own[name]))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.all_ms = 1e3 * (time.perf_counter() - self._opened)
        for name, own in self._own.items():
            setattr(self._module, name, own)

    def _timed(self, operator: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **how: Any) -> Any:
            began = time.perf_counter()
            try:
                return operator(*args, **how)
            finally:
                self.ms += 1e3 * (time.perf_counter() - began)

        return run
