"""Runs every graph once at every size and number that is common: new shapes are slow at first."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import numpy as np

from robollm.core.frame import Frame
from robollm.runtime.crops import CropFeatures
from robollm.runtime.heads import Embedder, Inspector
from robollm.runtime.pixels import Region
from robollm.runtime.timing import Laps

VIEWS = (1, 2, 3)  # of a pick
CELL = 24  # px; large enough to look like things in the smallest canvas


def patchwork(hw: tuple[int, int]) -> Frame:
    """A picture of coloured squares: a grey one has no instances, and no mask would be made.

    Args:
        hw: height and width, px.
    """
    h, w = hw
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 256, (-(-h // CELL), -(-w // CELL), 3), np.uint8)
    pixels = squares.repeat(CELL, axis=0).repeat(CELL, axis=1)[:h, :w]
    return Frame(np.ascontiguousarray(pixels), "rgb", stamp_ns=1, stream="warm-up")


def warm_up(
    frame: Frame,
    *,
    segment: Callable[[Frame], object],
    features: CropFeatures,
    embedder: Embedder,
    inspector: Inspector,
    batch_max: int,
) -> None:
    """Run everything that a first tote and a first pick will need.

    Args:
        frame: a picture with something in it, of the tote canvas' size.
        segment: finds the instances of a tote, also weak ones.
        features: of crops, and of totes where it pools.
        embedder: names.
        inspector: judges.
        batch_max: crops in one run of the backbone.

    Raises:
        InferenceError: if a model fails.
    """
    segment(frame)
    h, w = frame.hw
    boxes = ((0, 0, w - i % w, h - i // w) for i in range(w * h))  # no two are alike
    laps = Laps()
    regions: list[Region] = []
    for n in sorted({*VIEWS, batch_max}):
        if n <= batch_max:
            regions = [Region(frame, b) for b in islice(boxes, n)]
        else:  # several runs, of numbers that were there: only the heads see n rows, so of one crop
            regions = [regions[0]] * n
        ways = [features.of_crops]  # views of a pick come this way, whatever totes do
        if features.pools:
            ways.append(features.of_totes)
        for way in ways:
            named, judged = (way(regions, laps, t) for t in ("identification", "defects"))
            embedder.queries(named)
            inspector.run(judged)
