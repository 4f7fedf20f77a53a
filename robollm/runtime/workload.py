"""The job that is timed: a tote image to masks, then N crops of it embedded and inspected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from robollm.core.frame import Frame
from robollm.runtime.perceiver import Perceiver
from robollm.runtime.pixels import Region
from robollm.runtime.timing import Laps

Box = tuple[float, float, float, float]
_STAMPS = count(1)
"""No two frames of this process are one to what the runtime remembers."""


@dataclass(slots=True)
class Workload:
    """Runs the job again and again, each round on its own picture: see `measure.Job`.

    Every run has a capture time of its own, so that nothing which the runtime remembers of earlier
    pictures makes it cheaper. The crops are the best instances; where fewer were found, windows of
    a grid fill up, so that the work is the same whatever a model finds.

    Attributes:
        perceiver: what is measured.
        pictures: (H, W, 3) uint8, RGB.
        crops: how many; 0: masks alone.
        score_min: instances below it get no mask; None: the bundle's threshold.
        masks: so many get one at most.
        stages: round -> stage -> ms, of the round's last run.
        found: round -> number of instances.
    """

    perceiver: Perceiver
    pictures: Sequence[NDArray[np.uint8]]
    crops: int = 10
    score_min: float | None = None
    masks: int = 100
    stages: dict[int, dict[str, float]] = field(default_factory=dict)
    found: dict[int, int] = field(default_factory=dict)

    def __call__(self, turn: int) -> None:
        """Run once.

        Args:
            turn: number of the round, which chooses the picture.

        Raises:
            InferenceError: if a model fails.
        """
        frame = Frame(self.pictures[turn % len(self.pictures)], "rgb", stamp_ns=next(_STAMPS))
        tote, crops = Laps(), Laps()
        found = self.perceiver.segment(
            frame, score_min=self.score_min, max_instances=self.masks, laps=tote
        )
        if self.crops:
            regions = [Region(frame, box) for box in windows(found.boxes, frame.hw, self.crops)]
            self.perceiver.look(regions, laps=crops)
        named = {f"tote {k}": v for k, v in tote.ms.items()}
        self.stages[turn] = named | {f"crops {k}": v for k, v in crops.ms.items()}
        self.found[turn] = len(found)

    def instances(self) -> float:
        """Found per picture, the mean over the timed rounds."""
        return mean_found(self.found)

    def stages_ms(self) -> dict[str, float]:
        """Median of every stage over the timed rounds, ms."""
        runs = [stages for turn, stages in self.stages.items() if turn >= 0]
        names = dict.fromkeys(name for run in runs for name in run)
        return {n: round(float(np.median([r.get(n, 0.0) for r in runs])), 2) for n in names}


def mean_found(found: Mapping[int, int]) -> float:
    """Mean over the timed rounds, 0 and up, to one digit."""
    return round(float(np.mean([n for turn, n in found.items() if turn >= 0])), 1)


def windows(boxes: NDArray[np.float32], hw: tuple[int, int], count: int) -> list[Box]:
    """Exactly `count` windows of a picture.

    Args:
        boxes: (n, 4) xyxy of instances, source px, best first: these are taken first.
        hw: of the picture, px.
        count: how many.

    Returns:
        Boxes (x1, y1, x2, y2), source px; what is missing comes from a grid of `count` cells or
        more.
    """
    taken: list[Box] = [(float(a), float(b), float(c), float(d)) for a, b, c, d in boxes[:count]]
    side = max(1, int(np.ceil(np.sqrt(count))))
    h, w = hw[0] / side, hw[1] / side
    for i in range(count - len(taken)):
        row, column = divmod(i, side)
        taken.append((column * w, row * h, (column + 1) * w, (row + 1) * h))
    return taken
