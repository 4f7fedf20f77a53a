"""Features of regions: each as a crop of its own, or as a part of its tote's features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robollm.runtime.backbone import Features, SharedBackbone
from robollm.runtime.heads import Pooler
from robollm.runtime.pixels import Region, refuse_huge
from robollm.runtime.timing import Laps


class CropFeatures:
    """Where the light heads get their features from.

    Args:
        backbone: encodes.
        pooler: takes parts of a tote's features, for `of_totes`; None: encodes crops there, too.
        max_side: longest side of an image that is looked at, px.
    """

    def __init__(self, backbone: SharedBackbone, pooler: Pooler | None, max_side: int) -> None:
        self._backbone = backbone
        self._pooler = pooler
        self._max_side = max_side

    @property
    def pools(self) -> bool:
        """Whether `of_totes` takes parts of a tote's features, which are the same for all tasks."""
        return self._pooler is not None

    def of_crops(self, regions: Sequence[Region], laps: Laps, task: str) -> Features:
        """Features of N >= 1 regions of any images, each encoded for itself.

        Args:
            regions: what to look at.
            laps: takes the times of the stages `preprocess` and `backbone`.
            task: "identification" or "defects".

        Raises:
            FrameError: for a region outside its image, or an image that is too large.
            InferenceError: if a model fails.
        """
        for region in regions:
            refuse_huge(region.frame, self._max_side)
        return self._backbone.crops(regions, laps, task)

    def of_totes(self, regions: Sequence[Region], laps: Laps, task: str) -> Features:
        """Features of N >= 1 regions of tote images; arguments as of `of_crops`.

        With a pooler a tote is encoded once, or not at all where it was just segmented; the
        stage `pool` takes its parts.
        """
        if self._pooler is None:
            return self.of_crops(regions, laps, task)
        parts, places = [], []
        for frame in dict.fromkeys(r.frame for r in regions):
            refuse_huge(frame, self._max_side)
            mine = [i for i, r in enumerate(regions) if r.frame is frame]
            windows = np.array([regions[i].window for i in mine], np.float32)
            tote, box = self._backbone.tote(frame, laps)
            with laps.stage("pool"):
                parts.append(self._pooler.run(tote, box.to_canvas(windows)))
            places += mine
        back = np.argsort(places)
        return Features(
            np.concatenate([f.map for f in parts])[back],
            np.concatenate([f.cls for f in parts])[back],
        )
