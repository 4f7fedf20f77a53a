"""The pictures that a baseline may learn defects from: never the ones that it is asked about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robollm.core.errors import ConfigError, FrameError
from robollm.data.armbench_defects import IMAGE_ROOT, Image
from robollm.data.armbench_defects_scan import read_split, scan_images
from robollm.data.images import read_image
from robollm.data.problems import Problems

F64 = NDArray[np.float64]
Describe = Callable[[NDArray[np.uint8], tuple[int, int]], F64]
"""(h, w, 3) uint8 RGB of a crop, and (height, width) of its whole picture -> (D,)."""
MOST = 1000
"""Inducts that are read, and pictures that are learned from: each worker process does it."""


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """Labelled pictures of the training split.

    Attributes:
        images: evenly spread over the split, at most `MOST`.
        whole: as pictures are evaluated: the whole one, not the annotated box.
        why_none: why there are none; empty if there are some.
    """

    images: tuple[Image, ...]
    why_none: str = ""
    whole: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> TrainingImages:
        """Find them.

        Args:
            options: `data`, a folder that holds ARMBench's task folders or the one of defect
                images; `split`, the one that is evaluated; `defect_crop`, "image" for whole
                pictures.
        """
        given = Path(str(options.get("data", "")))
        root = given / IMAGE_ROOT if (given / IMAGE_ROOT).is_dir() else given
        if not (root / "train.csv").is_file() or not (root / "data").is_dir():
            return cls((), f"there is no {IMAGE_ROOT} to learn from")
        split = str(options.get("split", "test"))
        try:
            inducts, final = read_split(root, "train", Problems())
        except ConfigError as e:
            return cls((), e.what)
        if split == "train" or (split != "test" and not final):
            return cls((), f"the split {split!r} is what it would learn from")
        whole = options.get("defect_crop") == "image"
        try:
            found = scan_images(root, spread(inducts, MOST), Problems(), boxes=not whole)
        except ConfigError as e:
            return cls((), e.what)
        images = spread([image for induct in found.values() for image in induct], MOST)
        if not images:
            return cls((), f"no usable picture in the training split of {IMAGE_ROOT}")
        return cls(tuple(images), whole=whole)

    @property
    def labels(self) -> list[str]:
        """Of each picture."""
        return [image.label for image in self.images]

    def described(self, describe: Describe) -> tuple[F64, list[str]]:
        """Rows and labels of those that can be read.

        Returns:
            (N, D) float64, and N labels.
        """
        rows, labels = [], []
        for image in self.images:
            try:
                rgb = read_image(image.path)
            except FrameError:
                continue  # the evaluation of its own split names what can't be read
            box = None if self.whole else image.box
            x1, y1, x2, y2 = box or (0, 0, rgb.shape[1], rgb.shape[0])
            rows.append(describe(rgb[y1:y2, x1:x2], (rgb.shape[0], rgb.shape[1])))
            labels.append(image.label)
        return np.array(rows, np.float64).reshape(len(rows), -1), labels


def spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the values, evenly spread."""
    count = min(most, len(values))
    return [values[i * len(values) // count] for i in range(count)]
