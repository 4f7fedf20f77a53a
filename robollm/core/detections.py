"""Instances found in one tote image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robollm.core import masks as mk


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Instances of one frame, best first.

    Attributes:
        boxes: (N, 4) float32, xyxy, source px, inside the image.
        scores: (N,) float32 in [0, 1], descending.
        labels: (N,) int32, index into the bundle's list of class names.
        masks: N windows, source px, same order.
        hw: (height, width) of the source image, px.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int32]
    masks: tuple[mk.MaskWindow, ...]
    hw: tuple[int, int]

    def __post_init__(self) -> None:
        """Raise `ValueError` if the arrays don't belong together."""
        n = len(self.boxes)
        want = {"boxes": (n, 4), "scores": (n,), "labels": (n,)}
        for name, shape in want.items():
            got = getattr(self, name).shape
            if got != shape:
                raise ValueError(f"{name} is {got}, want {shape}")
        if len(self.masks) != n:
            raise ValueError(f"{len(self.masks)} masks for {n} boxes")

    @classmethod
    def empty(cls, hw: tuple[int, int]) -> Detections:
        """No instances in an image of (height, width) px."""
        return cls(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), (), hw
        )

    def __len__(self) -> int:
        """Number of instances."""
        return len(self.boxes)

    def keep(self, index: NDArray[np.intp]) -> Detections:
        """The instances at `index`, in that order."""
        return Detections(
            self.boxes[index],
            self.scores[index],
            self.labels[index],
            tuple(self.masks[i] for i in index),
            self.hw,
        )

    def label_map(self) -> NDArray[np.uint16]:
        """(H, W) uint16 label map: pixel = instance index + 1, 0 = background."""
        return mk.label_map(self.masks, self.hw)
