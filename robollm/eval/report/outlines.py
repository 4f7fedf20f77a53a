"""Instances as outlines over a picture: what was there, what was found, and what was neither."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robollm.eval.report.album import Outline

OBJECT = "object"
NEAR = 0.5
"""IoU from which a find is taken for an instance of the truth, as mAP50 does."""
SMOOTH = 0.6
"""How far a drawn outline may leave the true one, px of the shrunk picture."""


def overlay(
    truth: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    scale: float,
    *,
    objects_only: bool = False,
) -> tuple[tuple[Outline, ...], dict[str, int]]:
    """Outlines of a record's instances.

    A find belongs to the truth it covers best, the best score first, at IoU >= `NEAR`; each truth
    takes one find. So an instance that was found in two pieces has a find that is false.

    Args:
        truth: instances of a `SegmentationRecord`.
        found: those of its finds that shall be drawn.
        scale: of the picture, shrunk px per px.
        objects_only: nobody was asked for anything but objects: what else is there is drawn
            ("aside"), takes no find and is not missed.

    Returns:
        The outlines; how many of them are "truth" (found), "missed", "found" (right) and "false".
    """
    from pycocotools import mask as rle

    beside = [t for t in truth if objects_only and t["category"] != OBJECT]
    truth = [t for t in truth if not (objects_only and t["category"] != OBJECT)]
    found = sorted(found, key=lambda f: -float(f["score"]))
    crowd = [int(bool(t.get("iscrowd"))) for t in truth]
    taken: dict[int, int] = {}
    if truth and found:
        codes = [_code(f) for f in found], [_code(t) for t in truth]
        iou: NDArray[np.float64] = np.asarray(rle.iou(*codes, crowd)).reshape(len(found), -1)
        for i in range(len(found)):
            free = [j for j in range(len(truth)) if j not in taken.values() or crowd[j]]
            best = max(free, key=lambda j: iou[i, j], default=None)
            if best is not None and iou[i, best] >= NEAR:
                taken[i] = best
    drawn = [
        Outline("aside", _path(one, scale), f"{one['category']}: not asked for") for one in beside
    ]
    seen = set(taken.values())
    for j, one in enumerate(truth):
        kind = "truth" if j in seen or crowd[j] else "missed"
        said = {"truth": "truth", "missed": "truth, missed"}[kind]
        drawn.append(Outline(kind, _path(one, scale), f"{said}: {one['category']}"))
    for i, one in enumerate(found):
        kind = "found" if i in taken else "false"
        said = {"found": "found", "false": "found, but not there"}[kind]
        label = f"{said}: {one['category']}, score {float(one['score']):.2f}"
        drawn.append(Outline(kind, _path(one, scale), label))
    kinds = [o.kind for o in drawn]
    return tuple(drawn), {k: kinds.count(k) for k in ("truth", "missed", "found", "false")}


def box_path(box: tuple[float, ...], scale: float) -> str:
    """A box (x1, y1, x2, y2), px, as the path of an SVG."""
    x1, y1, x2, y2 = (round(v * scale, 1) for v in box)
    return f"M{x1} {y1}H{x2}V{y2}H{x1}Z"


def _code(instance: Mapping[str, Any]) -> dict[str, Any]:
    code = instance["segmentation"]
    counts = code["counts"]
    return {"size": code["size"], "counts": counts.encode() if isinstance(counts, str) else counts}


def _path(instance: Mapping[str, Any], scale: float) -> str:
    """An instance's outer edges and holes as the path of an SVG; its box, if it has no pixel."""
    from pycocotools import mask as rle

    with warnings.catch_warnings():
        # pycocotools' own array type is of before NumPy 2.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        bits = np.ascontiguousarray(rle.decode(_code(instance)))
    edges, _ = cv2.findContours(bits, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parts = []
    for edge in edges:
        smooth = cv2.approxPolyDP(edge, SMOOTH / scale, closed=True).reshape(-1, 2)
        if len(smooth) > 2:
            # A contour runs through the middle of its pixels.
            at = np.round((smooth + 0.5) * scale, 1)
            parts.append("M" + "L".join(f"{x:g} {y:g}" for x, y in at) + "Z")
    if parts:
        return "".join(parts)
    x, y, w, h = instance["bbox"]
    return box_path((x, y, x + w, y + h), scale)
