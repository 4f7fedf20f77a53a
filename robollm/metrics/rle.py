"""Masks as COCO's compressed run lengths, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from robollm.core.errors import FrameError
from robollm.core.masks import MaskWindow
from robollm.data.armbench_instances import Instance


def exact_rle(instance: Instance, hw: tuple[int, int]) -> dict[str, Any]:
    """The mask of an annotation in COCO's compressed run lengths.

    Args:
        instance: polygons or run lengths.
        hw: (height, width) of its image, px.

    Raises:
        FrameError: `bad_segmentation`, if pycocotools can't read it.
    """
    mask = instance.segmentation
    try:
        if isinstance(mask, list):
            rle = coco_mask.merge(coco_mask.frPyObjects(mask, *hw))
        elif isinstance(mask["counts"], list):
            rle = coco_mask.frPyObjects(mask, *hw)
        else:
            rle = {"size": list(hw), "counts": mask["counts"].encode()}
        if _pixels(rle["counts"]) != hw[0] * hw[1]:
            raise ValueError(f"its runs don't make {hw[0]}x{hw[1]} px")
    except (ValueError, TypeError) as e:
        raise FrameError(
            f"annotation {instance.id} has a segmentation that can't be read: {e}",
            kind="bad_segmentation",
            fix="write the annotation file again",
        ) from e
    return dict(rle)


def _pixels(counts: bytes) -> int:
    """How many pixels compressed run lengths cover; pycocotools decodes too few without a word.

    Source: pycocotools maskApi.c, rleFrString.
    """
    runs: list[int] = []
    value = shift = 0
    for byte in counts:
        digit = byte - 48
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return sum(runs) if min(runs, default=0) >= 0 and not shift else -1


def mask_rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Compressed run lengths of an (H, W) bool mask; only the window that it fills is looked at."""
    h, w = mask.shape
    ys = np.flatnonzero(mask.any(1))
    y0, y1 = (int(ys[0]), int(ys[-1]) + 1) if len(ys) else (0, 0)
    xs = np.flatnonzero(mask[y0:y1].any(0))
    x0, x1 = (int(xs[0]), int(xs[-1]) + 1) if len(xs) else (0, 0)
    return window_rle(MaskWindow(x0, y0, mask[y0:y1, x0:x1]), (h, w))


def window_rle(window: MaskWindow, hw: tuple[int, int]) -> dict[str, Any]:
    """Compressed run lengths of a mask that is false outside its window.

    Args:
        window: inside the image.
        hw: (height, width) of the image, px.
    """
    (h, w), (rows, width) = hw, window.bits.shape
    columns = np.zeros((width, rows + 2), np.int8)  # an empty pixel before and after each
    columns[:, 1:-1] = window.bits.T
    column, row = np.nonzero(np.diff(columns, axis=1))
    edges = (window.x + column) * h + window.y + row
    joined = np.flatnonzero(edges[1:-1:2] == edges[2::2])  # from a column's foot to the next's head
    edges = np.delete(edges, np.concatenate([2 * joined + 1, 2 * joined + 2]))
    counts = np.diff(edges, prepend=0, append=h * w)
    counts = counts[: len(counts) - int(len(edges) > 0 and edges[-1] == h * w)]
    return dict(coco_mask.frPyObjects({"size": [h, w], "counts": counts.tolist()}, h, w))
