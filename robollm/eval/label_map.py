"""A published label map as the `found` of a record: offline and through ROS the same."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from robollm.eval.records import Json
from robollm.metrics.rle import mask_rle


def found_in(labels: NDArray[np.uint16], rows: Iterable[tuple[int, str, float]]) -> list[Json]:
    """The instances of a label map.

    No two overlap in it: where two were found, it has the better one. So an instance may have lost
    all of its pixels; it stays in the list, with an empty mask.

    Args:
        labels: (H, W) uint16, the pixel values; 0: background.
        rows: pixel value, class and score of each instance, best first.

    Returns:
        `category` (in small letters, as in the truth), `bbox` (x, y, width, height, px) of its
        pixels, `segmentation` and `score`.
    """
    out = []
    for value, category, score in rows:
        rle = mask_rle(labels == value)
        box = [float(v) for v in coco_mask.toBbox(rle)]
        rle["counts"] = rle["counts"].decode()
        out.append(
            {"category": category.lower(), "bbox": box, "segmentation": rle, "score": float(score)}
        )
    return out
