"""Model selection: the best checkpoint by one validation metric, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from robollm.core.errors import ConfigError, TrainingError
from robollm.train.engine.runner import BEST


@HOOKS.register_module()
class Select(Hook):  # type: ignore[misc]
    """Keeps `best.pth` and stops when validation no longer improves.

    Args:
        folder: the run folder.
        metric: name of a validation metric, or several names: their mean.
        rule: `greater` or `less` is better.
        patience: stop after so many validations without a new best; 0: never.
        least: a new best is better by more than this.

    Raises:
        ConfigError: for another rule; at the first validation, for an unknown metric.
    """

    priority = "VERY_LOW"

    def __init__(
        self,
        folder: str,
        metric: str | Sequence[str],
        rule: str = "greater",
        patience: int = 5,
        least: float = 0.0,
    ) -> None:
        if rule not in ("greater", "less"):
            raise ConfigError(f"select.rule is {rule!r}, want 'greater' or 'less'")
        self._path = Path(folder) / BEST
        self._names = [metric] if isinstance(metric, str) else list(metric)
        self.metric = metric if isinstance(metric, str) else f"mean of {', '.join(metric)}"
        self.rule = rule
        self._patience, self._least = patience, least
        self.best: float | None = None
        self.step = 0
        self.metrics: dict[str, float] = {}
        self._without = 0

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Compare, keep, count."""
        found = {k: float(v) for k, v in (metrics or {}).items()}
        missing = [name for name in self._names if name not in found]
        if missing:
            raise ConfigError(
                f"select.metric is {missing[0]!r}; validation gave {', '.join(sorted(found))}",
                fix="set select.metric to one of these",
            )
        value = sum(found[name] for name in self._names) / len(self._names)
        sign = 1.0 if self.rule == "greater" else -1.0
        if not math.isfinite(value):
            runner.logger.warning(f"{self.metric} is {value} at step {runner.iter}: not selected")
        if math.isfinite(value) and (self.best is None or sign * (value - self.best) > self._least):
            self.best, self.step, self.metrics, self._without = value, runner.iter, found, 0
            runner.save(self._path, whole=False)
            return
        self._without += 1
        if self._patience and self._without >= self._patience:
            runner.train_loop.stop_training = True

    def after_train(self, runner: Any) -> None:
        """A run that selected nothing has failed.

        Raises:
            TrainingError: if no validation gave a number.
        """
        if self.best is None:
            raise TrainingError(
                f"no validation gave a finite {self.metric}, so there is no {BEST}",
                fix="look at metrics.jsonl, or select by another metric",
            )

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """What resuming needs, and what the reader of a best checkpoint wants to know."""
        checkpoint["selected"] = {
            "metric": self.metric,
            "best": self.best,
            "step": self.step,
            "metrics": self.metrics,
            "without": self._without,
        }

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        kept = checkpoint.get("selected")
        if runner._resume and kept and kept["metric"] == self.metric:
            self.best, self.step, self.metrics = kept["best"], kept["step"], kept["metrics"]
            self._without = kept["without"]
            if self._patience and self._without >= self._patience:
                runner.train_loop.stop_training = True
