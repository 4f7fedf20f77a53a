"""Always the same answer: how often each defect is in the training split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from robollm.core.errors import EvalError
from robollm.core.frame import Frame
from robollm.data.armbench_defects import LABELS
from robollm.eval.baselines.features import Vector
from robollm.eval.baselines.training_images import TrainingImages
from robollm.eval.records import Json
from robollm.gallery.records import MadeWith
from robollm.runtime.pixels import Region
from robollm.runtime.timing import Laps


class Majority:
    """Says the training split's shares of labels, whatever it is shown.

    Args:
        train: what it learns from.

    Raises:
        EvalError: if there is nothing to learn from.
    """

    name = "majority"
    tasks = frozenset({"defects"})
    classes = "object"
    made_with = MadeWith(hashlib.sha256(b"robollm majority").hexdigest(), "majority")
    dim = 0

    def __init__(self, train: TrainingImages) -> None:
        if train.why_none:
            raise EvalError(
                f"the baseline {self.name} can't be made: {train.why_none}",
                fix="leave it out, or give the folder with its training split",
            )
        count = Counter(train.labels)
        self._shares = {label: count[label] / len(train.images) for label in LABELS}
        self._pictures = len(train.images)

    def about(self) -> Json:
        """See `Predictor`."""
        shares = {label: round(share, 4) for label, share in self._shares.items()}
        return {
            "name": self.name,
            "classes": self.classes,
            "defects": f"shares of labels in {self._pictures} training pictures",
            "shares": shares,
        }

    def inspect(self, region: Region, truth: str, laps: Laps) -> dict[str, float]:
        """See `Predictor`."""
        return dict(self._shares)

    def segment(self, frame: Frame, truth: Sequence[Json], laps: Laps) -> list[Json]:
        """See `Predictor`; not among the tasks."""
        raise EvalError(f"{self.name} finds no instances", fix="take it for defects only")

    def embed(self, views: Mapping[str, Region], truth: str, laps: Laps) -> dict[str, Vector]:
        """See `Predictor`; not among the tasks."""
        raise EvalError(f"{self.name} names no products", fix="take it for defects only")

    def reference(self, region: Region, product: str) -> Vector:
        """See `Predictor`; not among the tasks."""
        raise EvalError(f"{self.name} names no products", fix="take it for defects only")

    def close(self) -> None:
        """See `Predictor`."""


def make(options: Mapping[str, Any]) -> Majority:
    """The predictor `majority`; options: see `TrainingImages.of`.

    Raises:
        EvalError: if there is nothing to learn from.
    """
    return Majority(TrainingImages.of(options))
